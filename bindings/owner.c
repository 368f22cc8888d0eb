/* SPDX-License-Identifier: MIT
 *
 * Who is the owner: finding CPython's list of interpreters in the running process. From 3.13 on it is read through the
 * table of offsets that CPython lays out for debuggers, which is believed only if its cookie, its version and its
 * numbers are right. In 3.12, which has none, the list's head and the main interpreter are neighbours near the
 * runtime's beginning, and their place is believed if it is the only one with two neighbours of that value. Else
 * CPython is asked each time.
 *
 * A free-threaded build has no lock that would make anyone the owner, whatever its lock's state is: it is known by
 * what it exports, also where its table is not believed.
 */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "owner.h"

#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

enum { VERSION_3_12 = 0x030C0000, VERSION_3_13 = 0x030D0000 };

/* The first words of the table, the same from 3.13 on. */
typedef struct debug_offsets {
    char cookie[8];
    uint64_t version;
    uint64_t free_threaded;
    uint64_t runtime_bytes;
    uint64_t runtime_finalizing;
    uint64_t runtime_interpreters_head;
} debug_offsets;

/* Functions of CPython. */
static interpreter *(*interpreter_main)(void);
static interpreter *(*interpreter_head)(void);
static void *(*thread_state_unchecked)(void);
static interpreter *(*thread_state_interpreter)(void *state);

static interpreter *const no_interpreter = NULL;
static interpreter *const never_main = (interpreter *)UINTPTR_MAX;

static const char free_threaded_refusal[] =
    "a free-threaded interpreter keeps its own heaps for the domains obj and mem: its collector walks them";

/* POSIX wants a data pointer of dlsym to be a function's as well; C does not know that. */
static bool look_up(const char *name, void *function)
{
    void *symbol = dlsym(RTLD_DEFAULT, name);
    memcpy(function, &symbol, sizeof(symbol));
    return symbol != NULL;
}

static bool read_offsets(debug_offsets *table, const char *runtime, unsigned long version)
{
    if (runtime == NULL)
        return false;
    memcpy(table, runtime, sizeof(*table));
    return memcmp(table->cookie, "xdebugpy", sizeof(table->cookie)) == 0 && table->version == version &&
           table->runtime_interpreters_head < table->runtime_bytes &&
           table->runtime_interpreters_head % sizeof(void *) == 0;
}

/* The function that every extension compiled for a free-threaded build calls, and that no other build has. */
static bool is_free_threaded(void) { return dlsym(RTLD_DEFAULT, "_Py_DecRefShared") != NULL; }

/* In 3.12, while the main interpreter is the only one: where the head of the list is; NULL: not to be told for sure. */
static interpreter *const *find_head(interpreter *main)
{
    enum { WORDS = 64 };
    interpreter *const *runtime = dlsym(RTLD_DEFAULT, "_PyRuntime"), *const *found = NULL;
    for (int i = 0; runtime != NULL && i + 1 < WORDS; i++) {
        if (runtime[i] != main || runtime[i + 1] != main)
            continue;
        if (found != NULL)
            return NULL;
        found = &runtime[i];
    }
    return found;
}

const char *owner_check_prepare(owner_check *check)
{
    const unsigned long *version = dlsym(RTLD_DEFAULT, "Py_Version"); /* since 3.11 */
    if (version == NULL || !look_up("PyInterpreterState_Main", &interpreter_main) ||
        !look_up("PyInterpreterState_Head", &interpreter_head) ||
        !(look_up("PyThreadState_GetUnchecked", &thread_state_unchecked) || /* since 3.13 */
          look_up("_PyThreadState_UncheckedGet", &thread_state_unchecked)) ||
        !look_up("PyThreadState_GetInterpreter", &thread_state_interpreter))
        return "this process is no CPython of 3.11 or later";
    if (is_free_threaded())
        return free_threaded_refusal;
    check->main = NULL;
    check->head = &no_interpreter;
    check->is_certain = *version < VERSION_3_12;
    if (check->is_certain)
        return NULL;
    check->head = &never_main;
    if (*version < VERSION_3_13)
        return NULL;
    const char *runtime = dlsym(RTLD_DEFAULT, "_PyRuntime");
    debug_offsets table;
    if (!read_offsets(&table, runtime, *version))
        return NULL;
    if (table.free_threaded)
        return free_threaded_refusal;
    check->head = (interpreter *const *)(runtime + table.runtime_interpreters_head);
    return NULL;
}

bool owner_is_in_main(void)
{
    interpreter *main = thread_state_interpreter == NULL ? NULL : interpreter_main(); /* NULL: no CPython of ours */
    void *state = main == NULL ? NULL : thread_state_unchecked();
    return main == NULL || (state != NULL && thread_state_interpreter(state) == main);
}

bool owner_others_exist(void) { return interpreter_head() != interpreter_main(); }

bool owner_is_caller_by_state(owner_check *check)
{
    if (check->main == NULL) {
        interpreter *main = interpreter_main();
        if (main == NULL)
            return true; /* CPython is starting, on its one thread */
        check->main = main;
    }
    if (check->head == &never_main && interpreter_head() == check->main) {
        /* Seen once, at the beginning: other interpreters would be in the way. */
        static bool has_searched;
        interpreter *const *head = has_searched ? NULL : find_head(check->main);
        has_searched = true;
        if (head != NULL)
            check->head = head;
        return true;
    }
    void *state = thread_state_unchecked();
    return state != NULL && thread_state_interpreter(state) == interpreter_main();
}
