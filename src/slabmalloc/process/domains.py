# SPDX-License-Identifier: MIT
"""CPython's domains and NumPy's data on slabmalloc (floor 5): install, statistics, give-back.

Under the preload library they are installed before the interpreter starts, and these functions speak to it. Without it
`install` is the wrapper form: from then on new blocks of the chosen domains come from slabmalloc's heaps, and older
ones stay with the allocator that made them. There is no way back: the hooks stay until the process ends.
"""

from __future__ import annotations

import importlib
import os
import sys

from . import numpy_data
from .preload import is_preloaded, say

TYPE_CHECKING = False  # `typing` and the records cost milliseconds, for which an installation at the start would wait
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType
    from typing import Final

    from .records import ProcessStats

__all__ = [
    "DOMAINS",
    "VARIABLE",
    "domains_of_variable",
    "install",
    "named_domains",
    "refusals",
    "size_classes",
    "stats",
    "summary",
    "trim",
    "why_not_used",
]

DOMAINS: Final = ("obj", "mem", "raw", "numpy")
"""What can be installed in a running interpreter: CPython's domains, and NumPy's data."""

VARIABLE: Final = "SLABMALLOC_DOMAINS"

_NO_EXTENSION: Final = "the process allocator needs slabmalloc's native extension, and this installation has none"
_TRACING: Final = (
    "tracemalloc is tracing, and takes its hooks and ours away when it stops: call tracemalloc.stop() first"
)


def install(domains: Iterable[str] = DOMAINS) -> None:
    """Serves new blocks of CPython's ``"obj"``, ``"mem"``, ``"raw"``, and NumPy's data, from slabmalloc.

    An installed domain stays so. NumPy need not have been imported yet; from 2.5 on its data comes from ``raw``. Under
    the preload library ``"numpy"`` asks for nothing: malloc serves it.

    Raises ValueError for a name that is no such domain, and RuntimeError, with the reason, where one of them can't be
    served: ``obj`` and ``mem`` in free-threaded builds or where sub-interpreters exist already, a NumPy that looks
    unlike those known; CPython's domains while `tracemalloc` is at work; all of them in a sub-interpreter, unless they
    are served already, and without native extension. Nothing has changed then.

    >>> import slabmalloc
    >>> slabmalloc.install()                                          # doctest: +SKIP
    >>> sorted(slabmalloc.stats().domains)                            # doctest: +SKIP
    ['mem', 'obj', 'raw']
    """
    names = (domains,) if isinstance(domains, str) else tuple(domains)
    for name in names:
        if name not in DOMAINS:
            raise ValueError(f"{name!r} is not a domain that can be installed; there are: {', '.join(DOMAINS)}")
    binding = _binding()
    served = binding.counters()[0]
    for name in names:
        reason = None if name in served else _refusal(binding, name)
        if reason is not None:
            raise RuntimeError(reason)
    binding.install([name for name in names if name != "numpy"])
    if "numpy" in names and "numpy" not in served and not is_preloaded():
        numpy_data.install(binding)


def stats() -> ProcessStats:
    """What the heap holds now and what each installed domain did: all zero before `install`, but for `resident_…`.

    For those the kernel walks the page tables, some 30 ms for each resident GiB; other threads run meanwhile. The
    numbers are the process's, in each of its interpreters. Without native extension nothing is served: all is zero;
    RuntimeError if there is one, and it can't be loaded.

    >>> stats().conserved
    True
    """
    from .records import DomainStats, ProcessStats, SizeClassStats

    binding = _binding_if_any()
    if binding is None:
        return ProcessStats()
    resident = binding.resident()
    domains, heap = binding.counters()
    heap["resident_bytes"], heap["resident_huge_bytes"] = resident
    heap["classes"] = tuple(SizeClassStats(**row) for row in heap.get("classes", ()))
    return ProcessStats({name: DomainStats(**row) for name, row in domains.items()}, **heap)


def summary(wall_seconds: float, *, as_json: bool = False) -> str:
    """What slabmalloc did for this process so far, as ``slabmalloc run`` prints it at the end: text, or a line of JSON.

    The JSON has the fields of `ProcessStats`, and `wall_seconds`, `python`, `form`.

    >>> summary(1.5).splitlines()[0]  # doctest: +ELLIPSIS
    'slabmalloc: 1.50 s on Python ...'
    """
    return str(_binding().summary(wall_seconds, as_json))


def summary_tables(record: ProcessStats) -> str:
    """The record as ``slabmalloc run`` shows its own at the end; where there is no native part, why there is none."""
    from textwrap import dedent

    try:
        return dedent(_binding().summary_tables(record)).rstrip()
    except RuntimeError as error:
        return f"nothing is served: {error}"


def trim() -> int:
    """Gives all memory that is free back to the operating system at once.

    Empty pages go, and so do the empty OS pages inside those that are partly used. Returns the bytes given back by this
    call; memory that was never touched counts whole. 0 before `install`. Where `stats` can't tell it raises what that
    raises. In a sub-interpreter the heap of ``obj`` and ``mem`` is left alone.
    """
    binding = _binding_if_any()
    return 0 if binding is None else int(binding.trim())


def size_classes(spec: str) -> tuple[int, ...]:
    """The sizes in bytes, up to 128 KiB, that ``slabmalloc run --classes=SPEC`` stands for.

    ValueError, which says what is allowed, if it stands for none.

    >>> size_classes("geometric:2")[:8]
    (16, 32, 48, 64, 96, 128, 192, 256)
    >>> size_classes("16,100")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: '100' is not a multiple of 16 (size classes are default, powers-of-two, ...)
    """
    return tuple(_binding().size_classes(spec))


def named_domains(text: str, *, is_preload: bool) -> list[str]:
    """The domains that ``--domains`` or SLABMALLOC_DOMAINS stands for in this form; the default if it is empty.

    ValueError, which says what is allowed, if it stands for none. Preloaded, NumPy's data is served by malloc anyway.

    >>> named_domains("mem, obj", is_preload=True), named_domains("none", is_preload=True)
    (['obj', 'mem'], [])
    >>> named_domains("", is_preload=False)
    ['obj', 'mem', 'raw', 'numpy']
    """
    return list(_binding().named_domains(text, is_preload))


def domains_of_variable(text: str, *, is_preload: bool, is_told: bool = False) -> list[str]:
    """The same for what the variable was set to by hand: of what stands for none the default, said in a line."""
    try:
        return named_domains(text, is_preload=is_preload)
    except ValueError as error:
        if is_told:
            say(f"{VARIABLE} is not used: {error}")
        return named_domains("", is_preload=is_preload)


def why_not_used(name: str, value: str) -> str | None:
    """Why the default is taken in place of the value that an environment variable of ours has; None: it is not.

    >>> why_not_used("SLABMALLOC_RESERVE", "64G")
    "'64G' is not a number from 1 on"
    """
    if name == VARIABLE:
        try:
            named_domains(value, is_preload=is_preloaded() or os.environ.get("SLABMALLOC") != "in-process")
        except ValueError as error:
            return str(error)
    reason: str | None = _binding().why_not_used(name, value)
    return reason


def refusals() -> dict[str, str | None]:
    """Per domain: None if `install` takes it here and now, or if it is served already, else why not.

    >>> list(refusals())
    ['obj', 'mem', 'raw', 'numpy']
    """
    try:
        binding = _binding()
    except RuntimeError as error:
        return dict.fromkeys(DOMAINS, str(error))
    served = binding.counters()[0]
    return {name: None if name in served else _refusal(binding, name) for name in DOMAINS}


def _refusal(binding: ModuleType, name: str) -> str | None:
    """Why a domain that is not served can't be installed here and now."""
    if name == "numpy" and is_preloaded():
        return None
    reason: str | None = binding.refusal(name)
    if reason is None and name == "numpy":
        return numpy_data.refusal(binding)
    return _TRACING if reason is None and _is_tracing() else reason


def _binding() -> ModuleType:
    """The native part; RuntimeError where there is none, or where it can't be loaded."""
    found = _binding_if_any()
    if found is None:
        raise RuntimeError(_NO_EXTENSION)
    return found


def _binding_if_any() -> ModuleType | None:
    """The native part; None where there is none. RuntimeError: it can't be loaded."""
    try:
        return importlib.import_module("slabmalloc.process._pymem")
    except ModuleNotFoundError:
        return None
    except ImportError as error:
        raise RuntimeError(f"slabmalloc's native extension can't be loaded: {error}") from error


def _is_tracing() -> bool:
    # Not `tracemalloc`, which imports a good deal: the interpreter can trace without it having been imported.
    tracer = sys.modules.get("_tracemalloc") or importlib.import_module("_tracemalloc")
    return bool(tracer.is_tracing())
