/* SPDX-License-Identifier: MIT
 *
 * The beginning, floor 4: if the program is a CPython, its domains are installed before it initialises, which is the
 * one moment at which CPython supports a replacement without restriction. (`raw` ends in malloc, so that it is ours
 * anyway: as a domain it has counts of its own.)
 *     SLABMALLOC_DOMAINS      which of obj, mem and raw; default all, "" none
 *     SLABMALLOC_NO_CHILDREN  not 0: programs that this one starts run without the library
 *     SLABMALLOC_RUN_PID      the process that became this one, by `slabmalloc run` or the start-up file: it alone
 *                             complains, and writes a summary
 *     SLABMALLOC_SUMMARY      where to: a path, or - for standard error; SLABMALLOC_SUMMARY_JSON, not 0: as JSON
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

/* Is `word` in the list of words that commas part? */
static bool has_word(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; at != NULL; at = strchr(at, ','), at += at != NULL)
        if (strncmp(at, word, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    return false;
}

static unsigned wanted_domains(void)
{
    const char *list = getenv("SLABMALLOC_DOMAINS");
    unsigned mask = 0;
    for (int domain = DOMAIN_OBJ; domain <= DOMAIN_RAW; domain++)
        if (list == NULL || has_word(list, process_domain_names[domain]))
            mask |= 1u << domain;
    return mask;
}

/* Is this library's name the last component of the path? */
static bool is_own_name(const char *path, size_t bytes)
{
    static const char name[] = "libslabmalloc.so";
    const char *slash = memrchr(path, '/', bytes), *last = slash == NULL ? path : slash + 1;
    return bytes - (size_t)(last - path) == sizeof(name) - 1 && memcmp(last, name, sizeof(name) - 1) == 0;
}

/* Has the user named this library in LD_PRELOAD, and another before it? (`slabmalloc run` puts it first.) */
static bool is_named_behind_another(void)
{
    const char *list = getenv("LD_PRELOAD"), *separators = ": ", *at;
    if (list == NULL)
        return false;
    const char *first = at = list + strspn(list, separators);
    while (*at != '\0' && !is_own_name(at, strcspn(at, separators))) {
        at += strcspn(at, separators);
        at += strspn(at, separators);
    }
    return at != first && *at != '\0';
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
        size_t bytes = strcspn(at, ": ");
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

/* What is for this process alone leaves the environment. */
static void read_run(void)
{
    const char *number = getenv("SLABMALLOC_RUN_PID"), *path = getenv("SLABMALLOC_SUMMARY");
    run.pid = getpid();
    run.is_run = number != NULL && strtol(number, NULL, 10) == (long)run.pid;
    run.as_json = options_is_on("SLABMALLOC_SUMMARY_JSON");
    if (run.is_run && path != NULL)
        read_place(path);
    if (number == NULL)
        return;
    unsetenv("SLABMALLOC_RUN_PID");
    unsetenv("SLABMALLOC_SUMMARY");
    unsetenv("SLABMALLOC_SUMMARY_JSON");
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

/* In each process that the user has preloaded it into behind another; but programs with a malloc of their own are
 * nobody's fault, and a child of a run may be one. */
static void say_if_not_first(void)
{
    bool is_behind = is_named_behind_another();
    if ((!run.is_run && !is_behind) || !is_malloc_anothers())
        return;
    char why[sizeof(run.summary) + 128];
    snprintf(why, sizeof(why), "%s %s", probe_malloc_file(),
             is_behind ? "comes first; name libslabmalloc.so before it in LD_PRELOAD, or leave it out"
                       : "has one of its own, and comes before whatever is preloaded");
    say("malloc is not served: ", why);
}

__attribute__((constructor)) static void begin(void)
{
    int reason = errno;
    clock_gettime(CLOCK_MONOTONIC, &start);
    threads_watch_forks();
    python_allocator_find(); /* whatever domains are wanted: messages tell a CPython by it */
    thread_domain_begin(THREAD_MALLOC);
    read_run();
    unsigned wanted = wanted_domains(), raw = 1u << DOMAIN_RAW;
    /* Refused where the program is no CPython, or one whose objects must be left alone: `malloc` is ours anyway. */
    const char *refusal = process_install(wanted & ~raw, false), *refusal_of_raw = process_install(wanted & raw, false);
    say_if_not_first();
    if (run.is_run) {
        if (refusal != NULL)
            say("obj and mem are not served: ", refusal);
        if (refusal_of_raw != NULL)
            say("raw is not served: ", refusal_of_raw);
        if (process_space() != NULL && process_space()->huge_refusal != NULL)
            say("huge pages are not used: ", process_space()->huge_refusal);
    }
    if (options_is_on("SLABMALLOC_NO_CHILDREN"))
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
    for (ssize_t written; length > 0; bytes += written, length -= (size_t)written)
        if ((written = write(file, bytes, length)) < 0)
            return false;
    return true;
}

/* False: errno says why. */
static bool write_file(const char *path, const char *bytes, size_t length)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0)
        return false;
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
