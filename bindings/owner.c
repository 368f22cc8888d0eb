/* SPDX-License-Identifier: MIT
 *
 * Finding the head of CPython's list of interpreters, floor 4. A call for it costs about as much as the rest of an
 * allocation, so from 3.13 on it is read through the table of offsets that CPython lays out for debuggers. The table is
 * believed only if its cookie, its version and the value found are right; else the public function answers.
 */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "owner.h"

#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

#if PY_VERSION_HEX >= 0x030D0000

/* The first words of the table, the same from 3.13 on. */
typedef struct debug_offsets {
    char cookie[8];
    uint64_t version;
    uint64_t free_threaded;
    uint64_t runtime_bytes;
    uint64_t runtime_finalizing;
    uint64_t runtime_interpreters_head;
} debug_offsets;

static PyInterpreterState *const unknown_head = NULL;

static PyInterpreterState *const *find_head(void)
{
    const char *runtime = dlsym(RTLD_DEFAULT, "_PyRuntime");
    if (runtime == NULL)
        return &unknown_head;
    debug_offsets table;
    memcpy(&table, runtime, sizeof(table));
    if (memcmp(table.cookie, "xdebugpy", sizeof(table.cookie)) != 0 || table.version != Py_Version ||
        table.runtime_interpreters_head >= table.runtime_bytes || table.runtime_interpreters_head % sizeof(void *) != 0)
        return &unknown_head;
    PyInterpreterState *const *head = (PyInterpreterState *const *)(runtime + table.runtime_interpreters_head);
    return *head == PyInterpreterState_Head() ? head : &unknown_head;
}

#else

static PyInterpreterState *const *find_head(void) { return NULL; }

#endif

bool owner_check_prepare(owner_check *check)
{
    check->main = PyInterpreterState_Main();
    check->head = find_head();
#if PY_VERSION_HEX >= 0x030C0000
    return PyInterpreterState_Head() == check->main && PyInterpreterState_Get() == check->main;
#else
    return true;
#endif
}
