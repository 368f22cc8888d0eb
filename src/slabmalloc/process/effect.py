# SPDX-License-Identifier: MIT
"""What is served in this process, and by whom (floor 5): for ``slabmalloc doctor``.

What was installed once need not be in effect any more, so each domain is asked for blocks, and whose they are is
counted (bindings/probe.h). Where they are not ours the reason and the remedy are told.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from . import numpy_data, preload
from .domains import VARIABLE, domains_of_variable, refusals, stats, why_not_used

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["faulty_variables", "in_effect"]

_PYTHON: Final = ("raw", "mem", "obj")
_NUMPY_ASKS_RAW_FROM: Final = (2, 5)


def in_effect() -> dict[str, str]:
    """For each of CPython's domains, malloc and NumPy's data a text that begins with served, can be, or not.

    >>> list(in_effect())
    ['raw', 'mem', 'obj', 'malloc', 'numpy']
    """
    reasons = refusals()
    try:
        from . import _pymem as binding
    except ImportError:  # each reason says so
        return dict.fromkeys((*_PYTHON, "malloc", "numpy"), f"not served: {reasons['obj']}")
    found = {name: _of_python(binding, name, reasons[name]) for name in _PYTHON}
    found["malloc"] = _of_malloc(binding)
    found["numpy"] = _of_numpy(reasons["numpy"], found)
    return found


def faulty_variables() -> dict[str, str]:
    """Those environment variables of ours whose value is none, so that the default is taken; why it is none.

    >>> faulty_variables()
    {}
    """
    found = {}
    for name, value in os.environ.items():
        try:
            reason = why_not_used(name, value) if name.startswith("SLABMALLOC_") else None
        except RuntimeError:  # there is no native part, which would use it
            return {}
        if reason is not None:
            found[name] = reason
    return found


def _of_python(binding: ModuleType, name: str, refusal: str | None) -> str:
    server = binding.server(name)
    if server is not None:
        return _how_served(name, server)
    if refusal is not None:
        return f"not served: {refusal}"
    if name in stats().domains:
        return f"not served: {_what_came_between()}"
    return _why_not_preloaded(name) if preload.is_preloaded() else _how_to_be_served(name)


def _how_served(name: str, server: str) -> str:
    choice, by = preload.allocator_choice(), "" if server == name else f", by {server}"
    if choice is not None and choice[0].endswith("debug"):
        return f"served{by}, {'beneath' if by else 'above'} the debug hooks of {choice[1]}"
    return f"served{by}, as {choice[1]} has it" if by and choice is not None else f"served{by}"


def _what_came_between() -> str:
    choice = preload.allocator_choice() if preload.is_preloaded() else None
    if choice is None:
        return "another allocator was put in front of slabmalloc after it was installed"
    return preload.why_not_served(choice[1])


def _why_not_preloaded(name: str) -> str:
    if name in domains_of_variable(os.environ.get(VARIABLE, ""), is_preload=True):
        return "not served: the library could not install it when the process began"
    return "not served: SLABMALLOC_DOMAINS does not name it"


def _how_to_be_served(name: str) -> str:
    choice = preload.allocator_choice()
    if choice is None or name == "raw":
        return "can be served: by slabmalloc run, or slabmalloc.install()"
    return f"can be served: in process, by slabmalloc.install(); by slabmalloc run without {choice[1]}"


def _of_malloc(binding: ModuleType) -> str:
    if binding.server("malloc") == "malloc":
        return "served"
    if preload.is_preloaded():
        remedy = f"name {preload.LIBRARY} before it in LD_PRELOAD, or leave it out"
        return f"not served: {binding.malloc_file()} comes first; {remedy}"
    try:
        preload.library()
        reason = preload.obstacle(sys.executable)
    except RuntimeError as error:
        reason = str(error)
    return "can be served: by slabmalloc run, which preloads" if reason is None else f"not served: {reason}"


def _of_numpy(refusal: str | None, others: dict[str, str]) -> str:
    """By its version: it is not imported for this, which would take a good deal."""
    version = _numpy_version()
    asked = "raw" if version is not None and version >= _NUMPY_ASKS_RAW_FROM else "malloc"
    if version is None:
        text = "NumPy is not installed here"
    elif "numpy" in stats().domains:
        text = "served"
    elif asked == "raw" or preload.is_preloaded():
        text = f"served, by {asked}" if others[asked].startswith("served") else others[asked]
    elif numpy_data.is_awaited():
        text = "served, once it is imported"
    else:
        text = f"not served: {refusal}" if refusal else "can be served: by slabmalloc run, or slabmalloc.install()"
    return text


def _numpy_version() -> tuple[int, ...] | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return tuple(int(word) for word in version("numpy").split(".")[:2])
    except PackageNotFoundError:
        return None
