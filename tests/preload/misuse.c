/* SPDX-License-Identifier: MIT
 *
 * Misuse of malloc and its kin, one case each: the process must end there. Whoever comes back to main exits with 99.
 */
#define _GNU_SOURCE
#include "check.h"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* The compiler must not know what it calls. */
static void (*volatile a_free)(void *) = free;
static void *(*volatile a_malloc)(size_t) = malloc;
static void *(*volatile a_realloc)(void *, size_t) = realloc;
static void *(*volatile a_reallocarray)(void *, size_t, size_t) = reallocarray;
static size_t (*volatile a_usable)(void *) = malloc_usable_size;

/* One of several, so that its slab stays. */
static char *new(size_t bytes)
{
    char *held[9];
    for (int i = 0; i < 9; i++) {
        held[i] = a_malloc(bytes);
        REQUIRE(held[i] != NULL);
        memset(held[i], 1, bytes);
    }
    return held[4];
}

static void twice(size_t bytes)
{
    char *block = new(bytes);
    a_free(block);
    a_free(block);
}

static void free_twice_small(void) { twice(3000); }
static void free_twice_medium(void) { twice(20000); }
static void free_twice_large(void) { twice(1 << 20); }

static void free_twice_with_others_between(void)
{
    char *one = new(3000), *other = new(3000), *third = new(500);
    a_free(one);
    a_free(other);
    a_free(third);
    a_free(one);
}

static void *free_it(void *block)
{
    a_free(block);
    return NULL;
}

static void *make_it(void *size) { return new((size_t)size); }

static void *in_thread(void *(*work)(void *), void *context)
{
    pthread_t thread;
    void *result;
    REQUIRE(pthread_create(&thread, NULL, work, context) == 0 && pthread_join(thread, &result) == 0);
    return result;
}

static void free_after_another_thread(void)
{
    char *block = new(3000);
    in_thread(free_it, block);
    a_free(block);
}

static void free_by_another_thread(void)
{
    char *block = new(3000);
    a_free(block);
    in_thread(free_it, block);
}

static void free_by_two_other_threads(void)
{
    char *block = new(3000);
    in_thread(free_it, block);
    in_thread(free_it, block);
}

static void free_twice_of_a_thread_that_ended(void)
{
    char *block = in_thread(make_it, (void *)3000);
    a_free(block);
    a_free(block);
}

static void free_in_child_twice(void)
{
    char *block = new(3000);
    pid_t child = fork();
    int status;
    if (child == 0) {
        a_free(block);
        a_free(block);
        _exit(99);
    }
    REQUIRE(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    a_free(block); /* the parent's own is as it was */
    signal(WTERMSIG(status), SIG_DFL);
    raise(WTERMSIG(status));
}

static void free_inside_small(void) { a_free(new(3000) + 16); }
static void free_inside_small_odd(void) { a_free(new(3000) + 1); }
static void free_inside_medium(void) { a_free(new(20000) + 4096); }
static void free_inside_large(void) { a_free(new(1 << 20) + 16); }
static void free_inside_large_page(void) { a_free(new(1 << 20) + 4096); }

static void free_inside_by_another_thread(void) { in_thread(free_it, new(3000) + 16); }

static void free_stack(void)
{
    char local[64] __attribute__((aligned(16))) = {0};
    a_free(local);
}

static char variable[64] __attribute__((aligned(16)));
static void free_static(void) { a_free(variable); }
static void free_text(void) { a_free((void *)(uintptr_t)free_static); }
static void free_small_number(void) { a_free((void *)16); }
static void free_large_number(void) { a_free((void *)(UINTPTR_MAX - 15)); }

static void free_mapping(void)
{
    void *mapping = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(mapping != MAP_FAILED);
    a_free(mapping);
}

static void free_far_in_range(void) { a_free(new(3000) + ((size_t)1 << 31)); }

static void free_after_realloc(void)
{
    char *block = new(3000), *moved = a_realloc(block, 9000);
    REQUIRE(moved != NULL && moved != block);
    a_free(block);
}

static void free_after_realloc_to_zero(void)
{
    char *block = new(3000);
    REQUIRE(a_realloc(block, 0) == NULL);
    a_free(block);
}

static void free_before_the_first_malloc(void) { a_free(variable); }

static void realloc_freed(void)
{
    char *block = new(3000);
    a_free(block);
    block = a_realloc(block, 4000);
}

static void realloc_freed_to_less(void)
{
    char *block = new(3000);
    a_free(block);
    block = a_realloc(block, 2900);
}

static void realloc_freed_to_zero(void)
{
    char *block = new(3000);
    a_free(block);
    block = a_realloc(block, 0);
}

static void realloc_freed_by_another_thread(void)
{
    char *block = new(3000);
    in_thread(free_it, block);
    block = a_realloc(block, 4000);
}

static void realloc_freed_large(void)
{
    char *block = new(1 << 20);
    a_free(block);
    block = a_realloc(block, 2 << 20);
}

static void realloc_inside(void) { REQUIRE(a_realloc(new(3000) + 16, 4000) == NULL); }
static void realloc_static(void) { REQUIRE(a_realloc(variable, 4000) == NULL); }

static void reallocarray_freed(void)
{
    char *block = new(3000);
    a_free(block);
    block = a_reallocarray(block, 40, 100);
}

static void usable_size_freed(void)
{
    char *block = new(3000);
    a_free(block);
    a_usable(block);
}

static void usable_size_inside(void) { a_usable(new(3000) + 16); }
static void usable_size_static(void) { a_usable(variable); }

static const test_case cases[] = {
    {"free_twice_small", free_twice_small},
    {"free_twice_medium", free_twice_medium},
    {"free_twice_large", free_twice_large},
    {"free_twice_with_others_between", free_twice_with_others_between},
    {"free_after_another_thread", free_after_another_thread},
    {"free_by_another_thread", free_by_another_thread},
    {"free_by_two_other_threads", free_by_two_other_threads},
    {"free_twice_of_a_thread_that_ended", free_twice_of_a_thread_that_ended},
    {"free_in_child_twice", free_in_child_twice},
    {"free_inside_small", free_inside_small},
    {"free_inside_small_odd", free_inside_small_odd},
    {"free_inside_medium", free_inside_medium},
    {"free_inside_large", free_inside_large},
    {"free_inside_large_page", free_inside_large_page},
    {"free_inside_by_another_thread", free_inside_by_another_thread},
    {"free_stack", free_stack},
    {"free_static", free_static},
    {"free_text", free_text},
    {"free_small_number", free_small_number},
    {"free_large_number", free_large_number},
    {"free_mapping", free_mapping},
    {"free_far_in_range", free_far_in_range},
    {"free_after_realloc", free_after_realloc},
    {"free_after_realloc_to_zero", free_after_realloc_to_zero},
    {"free_before_the_first_malloc", free_before_the_first_malloc},
    {"realloc_freed", realloc_freed},
    {"realloc_freed_to_less", realloc_freed_to_less},
    {"realloc_freed_to_zero", realloc_freed_to_zero},
    {"realloc_freed_by_another_thread", realloc_freed_by_another_thread},
    {"realloc_freed_large", realloc_freed_large},
    {"realloc_inside", realloc_inside},
    {"realloc_static", realloc_static},
    {"reallocarray_freed", reallocarray_freed},
    {"usable_size_freed", usable_size_freed},
    {"usable_size_inside", usable_size_inside},
    {"usable_size_static", usable_size_static},
};

int main(int argc, char **argv)
{
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    int status = main_of(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
    return status == 0 ? 99 : status;
}
