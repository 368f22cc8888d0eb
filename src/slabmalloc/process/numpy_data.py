# SPDX-License-Identifier: MIT
"""NumPy's data in the wrapper form (floor 5): when its functions are replaced. How they are: bindings/npymem.h.

At once where NumPy has been imported; else a finder at the head of `sys.meta_path`, which finds nothing, looks at each
import whether NumPy's core is there by now, and leaves then: NumPy imports many modules of its own after that one.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["install", "is_awaited", "refusal"]

_CORES = ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath")
"""Of NumPy 2, of NumPy 1."""


def install(binding: ModuleType) -> None:
    """Serves NumPy's data from now on, or from its import on. RuntimeError, with the reason: it can't be served."""
    core = _core()
    if core is not None:
        binding.install_numpy(core)
    elif not is_awaited():
        sys.meta_path.insert(0, _Watch(binding))


def is_awaited() -> bool:
    """True if NumPy's data is to be served from its import on."""
    return any(isinstance(finder, _Watch) for finder in sys.meta_path)


def refusal(binding: ModuleType) -> str | None:
    """Why `install` would refuse; None: nothing known, which is all that is known of a NumPy that isn't imported."""
    core = _core()
    reason: str | None = None if core is None else binding.refusal_of_numpy(core)
    return reason


def _core() -> ModuleType | None:
    """NumPy's core, once it has been imported to its end."""
    for name in _CORES:
        module = sys.modules.get(name)
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            return module
    return None


class _Watch:
    """The finder that finds nothing."""

    def __init__(self, binding: ModuleType) -> None:
        self.todo = [binding]

    def find_spec(self, *_: object) -> None:
        """Called by the import system for each module that is not there yet."""
        core = _core()
        if core is None:
            return
        # A list of its own: the import system is on its way through this one.
        sys.meta_path = [finder for finder in sys.meta_path if finder is not self]
        try:
            self.todo.pop().install_numpy(core)
        except IndexError:
            return  # another thread is at it
        except RuntimeError as error:
            import contextlib
            import warnings

            # Where warnings are errors this one must not end NumPy's import: `refusals` tells it as well.
            with contextlib.suppress(RuntimeWarning):
                warnings.warn(f"slabmalloc does not serve NumPy's data: {error}", RuntimeWarning, stacklevel=2)
