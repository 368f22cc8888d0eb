/* SPDX-License-Identifier: MIT
 *
 * NumPy's data on the heaps of threads in the wrapper form, floor 4. NumPy asks a handler for it (NEP 49), which each
 * array keeps. Which one is a context variable, and new threads begin without it, so what reaches every thread and
 * every array is the default handler itself: its functions are replaced in place. They keep their blocks, told apart by
 * address, and serve when the system refuses us. A handler that the program sets is its own.
 *
 * From 2.5 on NumPy takes its data from CPython's `raw` domain. Where that is ours the handler is left as it is.
 */
#ifndef SLABMALLOC_BINDINGS_NPYMEM_H
#define SLABMALLOC_BINDINGS_NPYMEM_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Why NumPy's data can't be served, as a sentence; NULL: nothing known. `module`: numpy's _multiarray_umath. [attached
 * thread state] */
const char *npymem_refusal(PyObject *module);
/* Serves it, directly or by `raw`, from now on; NULL, or a sentence that says why not. [attached thread state] */
const char *npymem_install(PyObject *module);

#endif
