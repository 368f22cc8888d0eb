/* SPDX-License-Identifier: MIT
 *
 * A block of bytes as a DLPack tensor, for CPython: one function makes the capsule, which owns a reference to the
 * object whose memory it shows. Structures are those of DLPack's stable ABI, versions 0.x (unversioned) and 1.x.
 */
#ifndef SLABMALLOC_DLPACK_H
#define SLABMALLOC_DLPACK_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

enum { DLPACK_CPU = 1, DLPACK_UINT = 1 };

/* A new capsule over `nbytes` bytes at `data`; `is_versioned` picks the 1.x form. NULL with an exception set. */
PyObject *dlpack_capsule(PyObject *owner, void *data, int64_t nbytes, int is_versioned);

#endif
