/* SPDX-License-Identifier: MIT
 *
 * More large objects than a process may have mappings: when every other one is freed, the kernel refuses to unmap some,
 * since that would split a mapping. Their memory goes back all the same, and blocks are served and freed as before.
 */
#include "space_fixture.h"

#include <sys/wait.h>

enum { BYTES = 4096 };

static size_t maps_allowed(void)
{
    size_t count = 0;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
    if (file == NULL || fscanf(file, "%zu", &count) != 1)
        count = 0;
    if (file != NULL)
        fclose(file);
    return count;
}

static bool is_resident(char *page)
{
    unsigned char vector = 0;
    return mincore(page, BYTES, &vector) == 0 && (vector & 1) != 0; /* unmapped: an error */
}

/* In a child: it uses up all mappings. */
static int free_every_other_one(size_t count)
{
    static const large_rest no_rest = {0, 0, 0};
    large_space *l = calloc(1, sizeof *l);
    char **blocks = calloc(count, sizeof *blocks);
    REQUIRE(l != NULL && blocks != NULL && large_init(l, &no_huge_pages, false));
    for (size_t i = 0; i < count; i++) {
        REQUIRE((blocks[i] = large_allocate(l, BYTES, 16, &(bool){false})) != NULL);
        blocks[i][0] = (char)(i % 100 + 1);
    }
    for (size_t i = 0; i < count; i += 2)
        CHECK(large_free(l, blocks[i], &no_rest));
    CHECK(large_is_valid(l));
    CHECK_EQUAL(l->live_bytes, count / 2 * BYTES);
    size_t resident = 0;
    for (size_t i = 0; i < count; i += 2)
        resident += is_resident(blocks[i]);
    if (!CHECK(resident < count / 100))
        printf("%zu of %zu freed OS pages are resident\n", resident, count / 2);
    for (size_t i = 1; i < count; i += 2)
        if (!CHECK_EQUAL(blocks[i][0], i % 100 + 1))
            break;
    for (size_t i = 1; i < count; i += 2)
        CHECK(large_free(l, blocks[i], &no_rest));
    CHECK(large_is_valid(l));
    bool is_zero = false;
    char *again = large_allocate(l, BYTES, 16, &is_zero);
    CHECK(again != NULL && (!is_zero || all_zero(again, BYTES)));
    CHECK_EQUAL(l->live_count, 1);
    fflush(NULL);
    return atomic_load(&check_failures) != 0;
}

static void more_blocks_than_mappings(void)
{
    size_t allowed = maps_allowed();
    if (UNDER_ASAN || UNDER_TSAN || getenv("SLABMALLOC_EMULATED") != NULL || allowed < 1000 || allowed > 200000)
        return;
    fflush(NULL);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0)
        _exit(free_every_other_one(2 * allowed + 10000));
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
    RUN(more_blocks_than_mappings);
    return check_finish();
}
