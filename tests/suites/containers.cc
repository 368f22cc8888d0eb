// SPDX-License-Identifier: MIT
// Compiled by the session of gcc: containers, regular expressions, threads; prints what follows from its seed.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <future>
#include <map>
#include <memory>
#include <random>
#include <regex>
#include <sstream>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

using Value = std::variant<std::int64_t, std::string, std::vector<double>>;

static std::string words(std::mt19937 &random, int count)
{
    static const char *const names[] = {"alan", "beric", "corom", "dunute", "ely"};
    std::ostringstream text;
    for (int i = 0; i < count; i++)
        text << names[random() % 5] << ' ';
    return text.str();
}

static std::uint64_t fill(unsigned seed)
{
    std::mt19937 random(seed);
    std::map<std::string, std::shared_ptr<std::vector<Value>>> rows;
    std::unordered_map<std::uint64_t, std::deque<std::string>> queues;
    for (int i = 0; i < 20000; i++) {
        auto &row = rows[words(random, 1 + static_cast<int>(random() % 4))];
        if (!row)
            row = std::make_shared<std::vector<Value>>();
        row->emplace_back(static_cast<std::int64_t>(i));
        row->emplace_back(words(random, 3));
        row->emplace_back(std::vector<double>(random() % 50, i));
        queues[random() % 500].push_back(words(random, 2));
    }
    const std::regex pattern("(alan|ely) (co[a-z]+) ");
    std::uint64_t matched = 0;
    for (const auto &[name, row] : rows)
        matched = matched * 31 + row->size() + (std::regex_search(name, pattern) ? 1 : 0);
    for (const auto &[number, queue] : std::map<std::uint64_t, std::deque<std::string>>(queues.begin(), queues.end()))
        matched = matched * 31 + number + queue.size();
    return matched;
}

int main()
{
    std::vector<std::future<std::uint64_t>> all;
    for (unsigned seed = 1; seed <= 4; seed++)
        all.push_back(std::async(std::launch::async, fill, seed));
    for (auto &one : all)
        std::printf("%016llx\n", static_cast<unsigned long long>(one.get()));
}
