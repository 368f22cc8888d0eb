/* SPDX-License-Identifier: MIT
 *
 * The beginning, floor 4: if the program is a CPython, its domains are installed before it initialises, which is the
 * one moment at which CPython supports a replacement without restriction. (`raw` ends in malloc, so that it is ours
 * anyway: as a domain it has counts of its own.)
 *     SLABMALLOC_NO_CHILDREN  on: programs that this one starts run without the library
 *     SLABMALLOC_RUN_PID      the process that became this one, by `slabmalloc run` or the start-up file: it alone
 *                             complains, and writes a summary. A program that is no CPython, a shell script in an
 *                             interpreter's place, leaves these variables for the one that it may become.
 *     SLABMALLOC_SUMMARY      where to: a path, or - for standard error; SLABMALLOC_SUMMARY_JSON, on: as JSON
 */
#define _GNU_SOURCE /* memrchr, RTLD_DEFAULT */
#include "process.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "options.h"
#include "probe.h"
#include "python_allocator.h"
#include "summary.h"
#include "thread_domain.h"

static const char *install(unsigned mask) { return process_install(mask, true); }

__attribute__((visibility("default"))) extern const slabmalloc_process slabmalloc_process_table;
const slabmalloc_process slabmalloc_process_table = {
    .table_bytes = sizeof(slabmalloc_process),
    .form = "preload",
    .refusal = process_refusal,
    .install = install,
    .count = process_count,
    .get_space = process_space_if_any,
    .trim = process_trim,
    .audit = process_audit,
};

/* ---- the beginning and the end ----------------------------------------------------------------------------- */

static struct timespec start;

static const char separators[] = ": "; /* of LD_PRELOAD */

/* Do both paths end in the same name? */
static bool have_same_name(const char *path, size_t bytes, const char *other)
{
    const char *slash = memrchr(path, '/', bytes), *last = slash == NULL ? path : slash + 1;
    const char *slash_of_other = strrchr(other, '/'),
               *last_of_other = slash_of_other == NULL ? other : slash_of_other + 1;
    size_t length = bytes - (size_t)(last - path);
    return length == strlen(last_of_other) && memcmp(last, last_of_other, length) == 0;
}

static bool is_own_name(const char *path, size_t bytes) { return have_same_name(path, bytes, "libslabmalloc.so"); }

/* Has the user named the file in LD_PRELOAD, and this library behind it? (`slabmalloc run` puts that first.) */
static bool is_named_before_us(const char *file)
{
    const char *at = getenv("LD_PRELOAD");
    bool is_named = false;
    for (size_t bytes; at != NULL && *(at += strspn(at, separators)) != '\0'; at += bytes) {
        bytes = strcspn(at, separators);
        if (is_own_name(at, bytes))
            return is_named;
        is_named |= have_same_name(at, bytes, file);
    }
    return false;
}

/* Takes this library off LD_PRELOAD, so that programs which this one starts run without it; other entries stay. */
static void leave_children_alone(void)
{
    const char *list = getenv("LD_PRELOAD");
    char rest[4096];
    size_t length = 0;
    if (list == NULL || strlen(list) >= sizeof(rest))
        return;
    for (const char *at = list; *at != '\0';) {
        size_t bytes = strcspn(at, separators);
        if (bytes > 0 && !is_own_name(at, bytes)) {
            memcpy(rest + length, at, bytes);
            length += bytes;
            rest[length++] = ':';
        }
        at += bytes + (at[bytes] != '\0');
    }
    rest[length > 0 ? length - 1 : 0] = '\0';
    if (length > 0)
        setenv("LD_PRELOAD", rest, 1);
    else
        unsetenv("LD_PRELOAD");
}

/* In the process that SLABMALLOC_RUN_PID names, and in no child of it. */
static struct {
    pid_t pid; /* forked children have what this struct says as well */
    bool is_run, as_json;
    char summary[4096]; /* where to; empty: nowhere */
} run;

static void say(const char *what, const char *more)
{
    char line[sizeof(run.summary) + 256];
    int length = snprintf(line, sizeof(line), "slabmalloc: %s%s\n", what, more);
    if (write(STDERR_FILENO, line, min_size((size_t)length, sizeof(line) - 1)) < 0)
        return; /* nobody to tell */
}

static void say_unwritten(const char *path, int reason)
{
    char why[sizeof(run.summary) + 64];
    snprintf(why, sizeof(why), "%s: %s; it goes to standard error", path, strerror(reason));
    say("can't write the summary: ", why);
}

static void read_place(const char *path)
{
    bool is_too_long = strlen(path) >= sizeof(run.summary);
    strcpy(run.summary, is_too_long ? "-" : path);
    if (is_too_long)
        say_unwritten("its path", ENAMETOOLONG);
}

/* What is for this process alone leaves the environment, unless it may yet become the one that is meant. */
static void read_run(bool is_python)
{
    const char *number = getenv("SLABMALLOC_RUN_PID"), *path = getenv("SLABMALLOC_SUMMARY");
    run.pid = getpid();
    run.is_run = number != NULL && strtol(number, NULL, 10) == (long)run.pid;
    run.as_json = options_is_on("SLABMALLOC_SUMMARY_JSON");
    if (run.is_run && path != NULL)
        read_place(path);
    if (number == NULL || (run.is_run && !is_python))
        return;
    unsetenv("SLABMALLOC_RUN_PID");
    unsetenv("SLABMALLOC_SUMMARY");
    unsetenv("SLABMALLOC_SUMMARY_JSON");
}

/* Is this `slabmalloc run`, or `python -m slabmalloc run`, about to become the program? */
static bool is_launcher(void)
{
    static char words[4096];
    int file = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? 0 : read(file, words, sizeof(words) - 1);
    if (file >= 0)
        close(file);
    bool is_ours = false;
    for (char *word = words; length > 0 && word < words + length; word += strlen(word) + 1) {
        if (is_ours && strcmp(word, "run") == 0)
            return true;
        is_ours = have_same_name(word, strlen(word), "slabmalloc") || strcmp(word, "-mslabmalloc") == 0;
    }
    return false;
}

/* Has somebody else the name `malloc`? By what it returns: the address of a function may be that of an entry in the
 * program's own table of calls. */
static bool is_malloc_anothers(void)
{
    void *symbol = dlsym(RTLD_DEFAULT, "malloc"), *free_symbol = dlsym(RTLD_DEFAULT, "free");
    void *(*first)(size_t bytes);
    void (*first_free)(void *block);
    memcpy(&first, &symbol, sizeof(symbol));
    memcpy(&first_free, &free_symbol, sizeof(free_symbol));
    void *block = first == NULL ? NULL : first(1);
    space *s = process_space();
    bool is_anothers =
        block != NULL && (s == NULL || !heap_owns(s, block)); /* NULL: the system refuses, whoever is first */
    if (block != NULL)
        first_free(block);
    return is_anothers;
}

/* In each process that the user has preloaded it into behind another malloc, and in the Python of a run. Other programs
 * with a malloc of their own are nobody's fault. */
static void say_if_not_first(bool is_run)
{
    const char *file = probe_malloc_file();
    bool is_before_us = is_named_before_us(file);
    if ((!is_before_us && !is_run) || !is_malloc_anothers() || (is_before_us && is_launcher()))
        return;
    char why[sizeof(run.summary) + 128];
    snprintf(why, sizeof(why), "%s %s", file,
             is_before_us ? "comes first; name libslabmalloc.so before it in LD_PRELOAD, or leave it out"
                          : "has one of its own, and comes before whatever is preloaded");
    say("malloc is not served: ", why);
}

__attribute__((constructor)) static void begin(void)
{
    int reason = errno;
    clock_gettime(CLOCK_MONOTONIC, &start);
    threads_watch_forks();
    bool is_python = python_allocator_find(); /* whatever domains are wanted: messages tell a CPython by it */
    thread_domain_begin(THREAD_MALLOC);
    read_run(is_python);
    bool is_run = run.is_run && is_python;
    unsigned wanted = options_domains(is_python), raw = 1u << DOMAIN_RAW;
    /* Refused where the program is no CPython, or one whose objects must be left alone: `malloc` is ours anyway. */
    const char *refusal = process_install(wanted & ~raw, false), *refusal_of_raw = process_install(wanted & raw, false);
    say_if_not_first(is_run);
    if (is_run) {
        if (refusal != NULL)
            say("obj and mem are not served: ", refusal);
        if (refusal_of_raw != NULL)
            say("raw is not served: ", refusal_of_raw);
        if (process_space() != NULL && process_space()->huge_refusal != NULL)
            say("huge pages are not used: ", process_space()->huge_refusal);
    }
    if (options_is_on("SLABMALLOC_NO_CHILDREN") && (is_python || !run.is_run))
        leave_children_alone();
    dlerror(); /* what was looked up in vain is no error of the program's */
    errno = reason;
}

#ifdef __GLIBC__
/* What pthread_atfork ends in, a function of the LSB. Libraries that the program is linked with begin before this
 * one. */
__attribute__((visibility("default"))) int __register_atfork(void (*before)(void), void (*in_parent)(void),
                                                             void (*in_child)(void), void *library);
int __register_atfork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void), void *library)
{
    int (*next)(void (*)(void), void (*)(void), void (*)(void), void *);
    void *symbol = dlsym(RTLD_NEXT, "__register_atfork");
    memcpy(&next, &symbol, sizeof(symbol));
    threads_watch_forks();
    return next == NULL ? ENOMEM : next(before, in_parent, in_child, library);
}
#endif

static bool write_all(int file, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t written = write(file, bytes, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written == 0)
            errno = EIO; /* nothing was written, and no reason given: it would be so for ever */
        if (written <= 0)
            return false;
        bytes += written;
        length -= (size_t)written;
    }
    return true;
}

/* False: errno says why. */
static bool write_file(const char *path, const char *bytes, size_t length)
{
    /* A FIFO that nobody reads is an error, instead of waiting for a reader; one that is read may be waited for. */
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0666);
    if (file < 0)
        return false;
    fcntl(file, F_SETFL, 0);
    bool is_written = write_all(file, bytes, length);
    int reason = errno;
    bool is_closed = close(file) == 0; /* some file systems tell here what they could not keep */
    if (!is_written)
        errno = reason;
    return is_written && is_closed;
}

__attribute__((destructor)) static void end(void)
{
    if (run.summary[0] == '\0' || getpid() != run.pid)
        return;
    static char text[SUMMARY_BYTES];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double seconds = (double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9;
    size_t length = summary_render(text, &slabmalloc_process_table, seconds, run.as_json);
    bool is_for_stderr = strcmp(run.summary, "-") == 0;
    if (!is_for_stderr && !write_file(run.summary, text, length)) {
        say_unwritten(run.summary, errno);
        is_for_stderr = true;
    }
    if (is_for_stderr)
        write_all(STDERR_FILENO, text, length);
}
