/* SPDX-License-Identifier: MIT
 *
 * Size classes of the process heap: how they are written, what is refused and why, and a heap on sets of all kinds:
 * each size gets the smallest class, blocks are resized where they are as long as no other class would be better, the
 * books balance.
 */
#include "space_fixture.h"

static slabmalloc_size_classes classes_named(const char *text)
{
    slabmalloc_size_classes classes;
    heap_classes_fault fault;
    if (!heap_classes_read(text, &classes, &fault)) {
        printf("%s: '%.*s' %s\n", text, (int)fault.word_bytes, fault.word, fault.what);
        abort();
    }
    if (!CHECK(heap_classes_are_valid(&classes)))
        puts(text);
    return classes;
}

/* The set has exactly these, and what follows of the default. */
static void check_sizes(const char *text, const uint32_t *sizes, size_t count, uint32_t rest_count)
{
    slabmalloc_size_classes classes = classes_named(text);
    if (!CHECK_EQUAL(classes.count, count + rest_count))
        puts(text);
    for (size_t i = 0; i < count; i++)
        CHECK_EQUAL(classes.sizes[i], sizes[i]);
}
#define CHECK_SIZES(text, rest_count, ...)                                                                             \
    check_sizes(text, (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t),     \
                rest_count)

static void names_and_lists(void)
{
    slabmalloc_size_classes defaults = heap_classes_default(), named = classes_named("default");
    CHECK(memcmp(&named, &defaults, sizeof defaults) == 0);
    CHECK_EQUAL(defaults.count, 88);
    CHECK_SIZES("powers-of-two", 0, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072);
    CHECK_SIZES("geometric:1", 0, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072);
    CHECK_SIZES("geometric:2", 15, 16, 32, 48, 64, 96, 128, 192, 256, 368, 512, 736);
    CHECK_SIZES("geometric:3", 23, 16, 32, 48, 64, 96, 112, 128, 176, 208, 256, 336, 416, 512, 656);
    CHECK_SIZES("131072", 0, 131072);
    CHECK_SIZES("16,131072", 0, 16, 131072);
    CHECK_SIZES("122880", 1, 122880);
    CHECK_SIZES("48,65536", 7, 48, 65536, 73728);
    CHECK_SIZES("100000", 4, 100000);
    CHECK_SIZES("16", 85, 16, 32, 48);
    CHECK_SIZES("00016,32", 85, 16, 32, 48);
    CHECK_SIZES("130000", 0, 130000, 131072);
}

static void what_is_refused_and_why(void)
{
    static const struct {
        const char *text, *word, *what;
    } rows[] = {
        {"", "", "is neither a name of classes nor a list of sizes"},
        {"fine", "fine", "is neither a name of classes nor a list of sizes"},
        {"Default", "Default", "is neither a name of classes nor a list of sizes"},
        {"default,", "default,", "is neither a name of classes nor a list of sizes"},
        {"-16", "-16", "is neither a name of classes nor a list of sizes"},
        {"geometric", "geometric", "is neither a name of classes nor a list of sizes"},
        {"geometric:", "geometric:", "has no number of steps"},
        {"geometric:0", "geometric:0", "has no number of steps"},
        {"geometric:2.5", "geometric:2.5", "has no number of steps"},
        {"geometric:13", "geometric:13", "makes more than 128 classes"},
        {"geometric:128", "geometric:128", "makes more than 128 classes"},
        {"geometric:99999999999999999999999", "geometric:99999999999999999999999", "makes more than 128 classes"},
        {"0", "0", "is not a multiple of 16"},
        {"24", "24", "is not a multiple of 16"},
        {"16,32,40", "40", "is not a multiple of 16"},
        {"16,131088", "131088", "is above 131072"},
        {"16,99999999999999999999999", "99999999999999999999999", "is above 131072"},
        {"32,16", "16", "does not ascend"},
        {"32,32,64", "32", "does not ascend"},
        {"16,,32", "", "is no size in bytes"},
        {"16,", "", "is no size in bytes"},
        {"16, 32", " 32", "is no size in bytes"},
        {"16;32", "16;32", "is no size in bytes"},
        {"1e3", "1e3", "is no size in bytes"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        slabmalloc_size_classes classes = {.count = 7};
        heap_classes_fault fault = {NULL, 0, NULL};
        if (!CHECK(!heap_classes_read(rows[i].text, &classes, &fault)) || !CHECK(fault.what != NULL))
            continue;
        CHECK_EQUAL(classes.count, 7);
        if (!CHECK(strcmp(fault.what, rows[i].what) == 0 && fault.word_bytes == strlen(rows[i].word) &&
                   memcmp(fault.word, rows[i].word, fault.word_bytes) == 0))
            printf("%s: '%.*s' %s\n", rows[i].text, (int)fault.word_bytes, fault.word, fault.what);
    }
}

enum { TEXT_BYTES = 1024 };

/* 16, 32 ... so many of them, and 131072 if it is to be complete. */
static void list_of(char text[TEXT_BYTES], size_t count, bool is_complete)
{
    size_t length = 0;
    for (size_t i = 1; i <= count; i++)
        length += (size_t)snprintf(text + length, TEXT_BYTES - length, "%s%zu", i == 1 ? "" : ",", 16 * i);
    if (is_complete)
        snprintf(text + length, TEXT_BYTES - length, ",131072");
}

static void as_many_as_there_may_be(void)
{
    char text[TEXT_BYTES];
    slabmalloc_size_classes classes;
    heap_classes_fault fault;
    list_of(text, 127, true);
    CHECK_EQUAL(classes_named(text).count, 128);
    list_of(text, 128, true);
    CHECK(!heap_classes_read(text, &classes, &fault));
    CHECK(strcmp(fault.what, "makes more than 128 classes") == 0);
    list_of(text, 127, false);
    CHECK(!heap_classes_read(text, &classes, &fault));
    CHECK(strcmp(fault.what, "makes more than 128 classes with those above it, up to 131072") == 0);
    /* Up to 1168, and those of the default from 1280 on. */
    list_of(text, 73, false);
    CHECK_EQUAL(classes_named(text).count, 73 + 55);
    list_of(text, 74, false);
    CHECK(!heap_classes_read(text, &classes, &fault));
}

/* ---- a heap on them ---- */

static const char *const sets[] = {"default", "powers-of-two", "geometric:1", "geometric:3",    "geometric:12",
                                   "131072",  "16,131072",     "48",          "16,8208,131072", "8192",
                                   "1024",    "1040,131072",   NULL}; /* NULL: 128 classes */
enum { SETS = sizeof sets / sizeof *sets };

static space *space_on(size_t set)
{
    char text[TEXT_BYTES];
    list_of(text, 127, true);
    space_options options = space_options_default();
    options.reserve_bytes = 512 * (size_t)MIB;
    options.max_ranges = 1;
    options.decay_ms = 20;
    options.classes = classes_named(sets[set] != NULL ? sets[set] : text);
    space *s = space_create(&options);
    REQUIRE(s != NULL);
    return s;
}

/* The smallest class of at least so many bytes that is a multiple of `align`; 0: none is. */
static size_t class_for(const space *s, size_t bytes, size_t align)
{
    for (uint32_t i = 0; i < s->options.classes.count; i++)
        if (s->options.classes.sizes[i] >= bytes && s->options.classes.sizes[i] % align == 0)
            return s->options.classes.sizes[i];
    return 0;
}

/* The next size worth a look: all small ones, then those around each class. */
static size_t next_size(const space *s, size_t bytes)
{
    size_t class = class_for(s, bytes, 16);
    return bytes < 2100 || class == 0 || bytes >= class - 1 ? bytes + 1 : bytes + (class - bytes) / 2;
}

static void every_size_has_the_smallest_class(void)
{
    for (size_t set = 0; set < SETS; set++) {
        space *s = space_on(set);
        heap *h = heap_of(s);
        for (size_t bytes = 0; bytes <= HEAP_MEDIUM_BYTES + 2; bytes = next_size(s, bytes)) {
            size_t expected = class_for(s, bytes, 1);
            char *object = bytes % 3 == 0 ? heap_allocate_zeroed(h, bytes) : heap_allocate(h, bytes);
            REQUIRE(object != NULL);
            CHECK_EQUAL((uintptr_t)object % HEAP_ALIGN_BYTES, 0);
            CHECK_EQUAL(heap_usable_bytes(s, object), expected != 0 ? expected : align_up(bytes, 4096));
            if (bytes > 0)
                object[0] = object[bytes - 1] = 1;
            CHECK_OK(heap_free(h, object));
        }
        for (size_t align = 32; align <= HEAP_MEDIUM_BYTES; align *= 2)
            for (size_t bytes = 1; bytes <= HEAP_MEDIUM_BYTES; bytes = bytes * 5 / 3 + 1) {
                size_t expected = class_for(s, bytes, align);
                char *object = heap_allocate_aligned(h, bytes, align);
                REQUIRE(object != NULL);
                CHECK_EQUAL((uintptr_t)object % align, 0);
                CHECK_EQUAL(heap_usable_bytes(s, object), expected);
                CHECK_OK(heap_free(h, object));
            }
        CHECK_HEAP(h, 0);
        space_destroy(s);
    }
}

static char *reallocate(heap *h, char *object, size_t bytes)
{
    slabmalloc_status status = SLABMALLOC_OK;
    char *moved = heap_reallocate(h, object, bytes, &status);
    REQUIRE(moved != NULL);
    CHECK_OK(status);
    return moved;
}

/* However far apart classes are: an object is not moved to a slot that is no smaller, and one that has grown has room
 * for what it was asked for and a little more. */
static void resized_where_it_is_if_no_class_is_better(void)
{
    for (size_t set = 0; set < SETS; set++) {
        space *s = space_on(set);
        heap *h = heap_of(s);
        const slabmalloc_size_classes *classes = &s->options.classes;
        for (uint32_t i = 0; i < classes->count; i++) {
            size_t least = i == 0 ? 0 : classes->sizes[i - 1] + 1, most = classes->sizes[i];
            char *object = heap_allocate(h, most);
            REQUIRE(object != NULL);
            stamp(object, most, i);
            CHECK_POINTER(reallocate(h, object, least), object);
            CHECK_POINTER(reallocate(h, object, (least + most) / 2), object);
            CHECK_POINTER(reallocate(h, object, most), object);
            CHECK(is_stamped(object, most, i));
            CHECK_OK(heap_free(h, object));
        }
        for (size_t bytes = 100; bytes < HEAP_MEDIUM_BYTES; bytes += bytes / 9 + 1) {
            char *object = reallocate(h, reallocate(h, heap_allocate(h, 16), 17), bytes);
            size_t usable = heap_usable_bytes(s, object);
            CHECK(heap_fits(usable, bytes) || usable == class_for(s, bytes, 1));
            CHECK_POINTER(reallocate(h, object, bytes), object);
            CHECK_POINTER(reallocate(h, object, bytes < usable ? bytes + 1 : bytes), object);
            CHECK_OK(heap_free(h, object));
        }
        CHECK_HEAP(h, 0);
        space_destroy(s);
    }
}

static void the_books_balance(void)
{
    enum { LIVE = 400, STEPS = 12000 };
    for (size_t set = 0; set < SETS; set++) {
        check_seed = 300 + set;
        random_source source = random_from(check_seed);
        space *s = space_on(set);
        heap *heaps[2] = {heap_of(s), heap_of(s)};
        static struct {
            char *object;
            size_t bytes;
        } live[LIVE];
        memset(live, 0, sizeof live);
        size_t count = 0;
        for (size_t step = 0; step < (UNDER_TSAN || UNDER_ASAN ? STEPS / 6 : STEPS); step++) {
            size_t i = random_below(&source, LIVE);
            heap *h = heaps[random_below(&source, 8) == 0];
            size_t bytes = any_size(&source, 300 * KIB);
            if (live[i].object == NULL) {
                REQUIRE((live[i].object = heap_allocate(h, bytes)) != NULL);
                count++;
            } else {
                CHECK(is_stamped(live[i].object, live[i].bytes, i));
                if (random_below(&source, 3) == 0) {
                    size_t kept = bytes < live[i].bytes ? bytes : live[i].bytes;
                    live[i].object = reallocate(h, live[i].object, bytes);
                    CHECK(is_stamped(live[i].object, kept, i));
                } else {
                    CHECK_OK(heap_free(h, live[i].object));
                    live[i].object = NULL;
                    count--;
                }
            }
            live[i].bytes = bytes;
            if (live[i].object != NULL)
                stamp(live[i].object, bytes, i);
            if (step % 64 == 0)
                heap_tick(h);
            if (step % 500 == 0) {
                check_audit(heaps[1]);
                CHECK_HEAP(heaps[0], count);
            }
        }
        for (size_t i = 0; i < LIVE; i++)
            if (live[i].object != NULL)
                CHECK_OK(heap_free(heaps[0], live[i].object));
        heap_trim(heaps[1]);
        heap_trim(heaps[0]);
        CHECK_HEAP(heaps[0], 0);
        CHECK_EQUAL(space_statistics(s).mapped_bytes, 0);
        space_destroy(s);
    }
}

int main(void)
{
    RUN(names_and_lists);
    RUN(what_is_refused_and_why);
    RUN(as_many_as_there_may_be);
    RUN(every_size_has_the_smallest_class);
    RUN(resized_where_it_is_if_no_class_is_better);
    RUN(the_books_balance);
    return check_finish();
}
