// SPDX-License-Identifier: MIT
//
// What C++ makes of malloc: new and delete in all forms, containers, bad_alloc, thread_local objects with destructors.
#include "check.h"

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

struct alignas(256) Wide {
    char content[512];
};

struct Noisy {
    std::vector<std::string> words;
    ~Noisy()
    {
        for (int i = 0; i < 100; i++)
            words.push_back(std::string(static_cast<size_t>(i) * 10, 'x'));
        REQUIRE(words.size() >= 100);
    }
};

static Noisy at_the_end;
static thread_local Noisy of_the_thread;

template <typename F> static bool is_bad_alloc(F allocate)
{
    try {
        allocate();
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

static volatile std::size_t enormous = PTRDIFF_MAX;

int main()
{
    for (int i = 0; i < 2000; i++) {
        auto *one = new int(7);
        auto *many = new std::string[static_cast<size_t>(i % 50) + 1];
        auto *wide = new Wide;
        auto *wides = new Wide[3];
        void *raw = ::operator new(static_cast<size_t>(i) * 100);
        void *aligned = ::operator new(static_cast<size_t>(i) * 100, std::align_val_t(4096));
        void *nothing = ::operator new(0), *nothing_more = ::operator new(0);
        REQUIRE(nothing != nothing_more);
        REQUIRE(reinterpret_cast<uintptr_t>(one) % 16 == 0);
        REQUIRE(reinterpret_cast<uintptr_t>(wide) % 256 == 0 && reinterpret_cast<uintptr_t>(wides) % 256 == 0);
        REQUIRE(reinterpret_cast<uintptr_t>(aligned) % 4096 == 0);
        many[i % 50] = std::string(1000, 'a');
        std::memset(wides, 1, sizeof(Wide) * 3);
        delete one;
        delete[] many;
        delete wide;
        delete[] wides;
        ::operator delete(raw, static_cast<size_t>(i) * 100);
        ::operator delete(aligned, static_cast<size_t>(i) * 100, std::align_val_t(4096));
        ::operator delete(nothing);
        ::operator delete(nothing_more);
    }
    REQUIRE(is_bad_alloc([] { delete[] new char[enormous]; }));
    REQUIRE(
        is_bad_alloc([] { ::operator delete(::operator new(enormous, std::align_val_t(64)), std::align_val_t(64)); }));
    REQUIRE(new (std::nothrow) char[enormous] == nullptr);
    std::map<int, std::string> map;
    std::vector<std::shared_ptr<int>> shared;
    for (int i = 0; i < 50000; i++) {
        map[i * 7919 % 50021] = std::to_string(i);
        shared.push_back(std::make_shared<int>(i));
    }
    for (int i = 0; i < 50000; i++)
        REQUIRE(map.at(i * 7919 % 50021) == std::to_string(i) && *shared[static_cast<size_t>(i)] == i);
    std::exception_ptr carried;
    std::vector<std::thread> threads;
    for (int i = 0; i < 200; i++)
        threads.emplace_back([&carried, i] {
            of_the_thread.words.push_back("first");
            try {
                throw std::runtime_error(std::string(300, 'e')); // made here, freed by another
            } catch (...) {
                if (i == 0)
                    carried = std::current_exception();
            }
        });
    for (auto &thread : threads)
        thread.join();
    try {
        std::rethrow_exception(carried);
    } catch (const std::runtime_error &error) {
        REQUIRE(std::string(error.what()) == std::string(300, 'e'));
    }
    at_the_end.words.push_back("first");
    std::puts("well");
    return 0;
}
