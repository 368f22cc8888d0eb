/* SPDX-License-Identifier: MIT
 *
 * DLPack capsules: see dlpack.h. A consumer renames the capsule ("used_…") and then owns the tensor, so the capsule's
 * destructor frees only what nobody took.
 */
#include "dlpack.h"

typedef struct dl_device {
    int32_t type, id;
} dl_device;

typedef struct dl_tensor {
    void *data;
    dl_device device;
    int32_t ndim;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} dl_tensor;

typedef struct dl_managed {
    dl_tensor tensor;
    void *manager;
    void (*deleter)(struct dl_managed *self);
} dl_managed;

typedef struct dl_managed_versioned {
    struct {
        uint32_t major, minor;
    } version;
    void *manager;
    void (*deleter)(struct dl_managed_versioned *self);
    uint64_t flags;
    dl_tensor tensor;
} dl_managed_versioned;

/* Either form, with the shape and stride that its tensor points to. */
typedef struct export {
    union {
        dl_managed plain;
        dl_managed_versioned versioned;
    } managed;
    int64_t shape, stride;
} export;

static const char *const names[] = {"dltensor", "dltensor_versioned"};

static void export_end(export *e, PyObject *owner)
{
    PyGILState_STATE state = PyGILState_Ensure();
    Py_DECREF(owner);
    PyMem_Free(e);
    PyGILState_Release(state);
}

static void plain_deleter(dl_managed *self) { export_end((export *)self, self->manager); }
static void versioned_deleter(dl_managed_versioned *self) { export_end((export *)self, self->manager); }

static void capsule_end(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, names[0]))
        plain_deleter(PyCapsule_GetPointer(capsule, names[0]));
    else if (PyCapsule_IsValid(capsule, names[1]))
        versioned_deleter(PyCapsule_GetPointer(capsule, names[1]));
}

PyObject *dlpack_capsule(PyObject *owner, void *data, int64_t nbytes, int is_versioned)
{
    export *e = PyMem_Calloc(1, sizeof(*e));
    if (e == NULL)
        return PyErr_NoMemory();
    e->shape = nbytes;
    e->stride = 1;
    dl_tensor tensor = {
        .data = data,
        .device = {.type = DLPACK_CPU, .id = 0},
        .ndim = 1,
        .dtype = {.code = DLPACK_UINT, .bits = 8, .lanes = 1},
        .shape = &e->shape,
        .strides = &e->stride,
    };
    if (is_versioned) {
        e->managed.versioned = (dl_managed_versioned){
            .version = {.major = 1, .minor = 0}, .manager = owner, .deleter = versioned_deleter, .tensor = tensor};
    } else {
        e->managed.plain = (dl_managed){.tensor = tensor, .manager = owner, .deleter = plain_deleter};
    }
    PyObject *capsule = PyCapsule_New(&e->managed, names[is_versioned != 0], capsule_end);
    if (capsule == NULL) {
        PyMem_Free(e);
        return NULL;
    }
    Py_INCREF(owner);
    return capsule;
}
