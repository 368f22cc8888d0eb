/* SPDX-License-Identifier: MIT
 *
 * The library in a program that was not started on it: dlopen, and its functions by dlsym. Usage: late LIBRARY CASE.
 */
#define _GNU_SOURCE
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

static void *library;
static void *(*late_malloc)(size_t), *(*late_calloc)(size_t, size_t), *(*late_realloc)(void *, size_t);
static void *(*late_reallocarray)(void *, size_t, size_t), *(*late_memalign)(size_t, size_t);
static size_t (*late_usable)(void *);
static void (*late_free)(void *), (*late_cfree)(void *), (*late_free_sized)(void *, size_t);
static void (*late_free_aligned_sized)(void *, size_t, size_t);

static void find(void *function, const char *name)
{
    *(void **)function = dlsym(library, name);
    REQUIRE(*(void **)function != NULL);
    REQUIRE(*(void **)function != dlsym(RTLD_DEFAULT, name)); /* the library's own, not the C library's */
}

static void *use(void *context)
{
    void *blocks[1000];
    for (size_t i = 0; i < 1000; i++) {
        size_t bytes = i < 990 ? i * 10 : i * 1000;
        blocks[i] = i % 3 == 0 ? late_calloc(1, bytes) : i % 3 == 1 ? late_malloc(bytes) : late_memalign(256, bytes);
        REQUIRE(blocks[i] != NULL && late_usable(blocks[i]) >= bytes && (i % 3 != 0 || is_zero(blocks[i], bytes)));
        paint(blocks[i], bytes, i);
    }
    for (size_t i = 0; i < 1000; i++) {
        REQUIRE(is_painted(blocks[i], i < 990 ? i * 10 : i * 1000, i));
        late_free(blocks[i]);
    }
    return context;
}

static void plain(void)
{
    use(NULL);
    char *text = strdup("the C library's malloc goes on");
    REQUIRE(text != NULL);
    free(text);
}

static void realloc_of_nothing(void)
{
    char *block = late_realloc(NULL, 100);
    REQUIRE(block != NULL && late_usable(block) >= 100);
    late_free(block);
}

static void realloc_moves(void)
{
    char *block = late_malloc(100);
    paint(block, 100, 1);
    for (size_t bytes = 100; bytes < 10 << 20; bytes *= 3) {
        block = late_realloc(block, bytes);
        REQUIRE(block != NULL && late_usable(block) >= bytes && is_painted(block, 100, 1));
    }
    late_free(block);
}

static void realloc_to_zero(void) { REQUIRE(late_realloc(late_malloc(100), 0) == NULL); }

static void reallocarray_moves(void)
{
    char *block = late_reallocarray(late_malloc(10), 100, 100);
    REQUIRE(block != NULL && late_usable(block) >= 10000);
    late_free(block);
}

static void other_frees(void)
{
    late_free_sized(late_malloc(100), 100);
    late_free_aligned_sized(late_memalign(64, 100), 64, 100);
    late_cfree(late_malloc(100));
}

static void threads_and_forks(void)
{
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, NULL, use, NULL) == 0 && pthread_join(thread, NULL) == 0);
    }
    pid_t child = fork();
    if (child == 0) {
        use(NULL);
        _exit(0);
    }
    int status;
    REQUIRE(waitpid(child, &status, 0) == child && status == 0);
}

static pthread_barrier_t barrier;

static void *use_and_wait(void *context)
{
    use(NULL);
    pthread_barrier_wait(&barrier); /* now it is closed */
    pthread_barrier_wait(&barrier);
    return context;
}

/* A thread that has a heap ends when the library has been closed. */
static void closed_before_a_thread_ends(void)
{
    pthread_t thread;
    pthread_barrier_init(&barrier, NULL, 2);
    REQUIRE(pthread_create(&thread, NULL, use_and_wait, NULL) == 0);
    pthread_barrier_wait(&barrier);
    REQUIRE(dlclose(library) == 0);
    pthread_barrier_wait(&barrier);
    REQUIRE(pthread_join(thread, NULL) == 0);
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    int status;
    REQUIRE(waitpid(child, &status, 0) == child && status == 0);
}

static const test_case cases[] = {
    {"plain", plain},
    {"realloc_of_nothing", realloc_of_nothing},
    {"realloc_moves", realloc_moves},
    {"realloc_to_zero", realloc_to_zero},
    {"reallocarray_moves", reallocarray_moves},
    {"other_frees", other_frees},
    {"threads_and_forks", threads_and_forks},
    {"closed_before_a_thread_ends", closed_before_a_thread_ends},
};

int main(int argc, char **argv)
{
    REQUIRE(argc == 3);
    library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        fprintf(stderr, "%s\n", dlerror());
    REQUIRE(library != NULL);
    find(&late_malloc, "malloc");
    find(&late_calloc, "calloc");
    find(&late_realloc, "realloc");
    find(&late_reallocarray, "reallocarray");
    find(&late_memalign, "memalign");
    find(&late_usable, "malloc_usable_size");
    find(&late_free, "free");
    *(void **)&late_cfree = dlsym(library, "cfree"); /* the C library has these no more, or not yet */
    *(void **)&late_free_sized = dlsym(library, "free_sized");
    *(void **)&late_free_aligned_sized = dlsym(library, "free_aligned_sized");
    return main_of(cases, sizeof(cases) / sizeof(cases[0]), argc - 1, argv + 1);
}
