/* SPDX-License-Identifier: MIT
 *
 * Life under a limit of address space: memory until the system refuses, then it goes back, and serves again. Prints
 * errno at the start of main, and what was had, in bytes. Usage: little BLOCK_BYTES.
 */
#define _GNU_SOURCE
#include "check.h"

#include <pthread.h>
#include <stdlib.h>

typedef struct node {
    struct node *next;
    size_t number;
} node;

static size_t take_all(node **list, size_t bytes)
{
    size_t count = 0;
    node *fresh;
    while ((fresh = malloc(bytes)) != NULL) {
        memset(fresh, 1, bytes);
        *fresh = (node){.next = *list, .number = count++};
        *list = fresh;
        errno = 0;
    }
    REQUIRE(errno == ENOMEM);
    return count;
}

static void free_all(node *list, size_t count)
{
    while (list != NULL) {
        node *next = list->next;
        REQUIRE(list->number == --count);
        free(list);
        list = next;
    }
    REQUIRE(count == 0);
}

static void *use(void *context)
{
    node *some = malloc(1000);
    REQUIRE(some != NULL);
    free(some);
    return context;
}

static void start_a_thread(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 << 10);
    REQUIRE(pthread_create(&thread, &attributes, use, NULL) == 0 && pthread_join(thread, NULL) == 0);
}

int main(int argc, char **argv)
{
    REQUIRE(argc == 2);
    int at_the_start = errno; /* ISO C has it 0 */
    size_t bytes = strtoul(argv[1], NULL, 10);
    start_a_thread();
    node *list = NULL;
    size_t first = take_all(&list, bytes);
    REQUIRE(realloc(list, (size_t)1 << 40) == NULL && errno == ENOMEM);
    free_all(list, first);
    printf("%d\n%zu\n", at_the_start, first * bytes);
    list = NULL;
    size_t second = take_all(&list, bytes);
    REQUIRE(second >= first - first / 8);
    free_all(list, second);
    list = NULL;
    size_t other = take_all(&list, bytes < 10000 ? bytes * 3 : bytes / 3); /* another class */
    printf("%zu\n", other * (bytes < 10000 ? bytes * 3 : bytes / 3));
    free_all(list, other);
    char *text = strdup("and goes on");
    REQUIRE(text != NULL && strlen(text) == 11);
    free(text);
    return 0;
}
