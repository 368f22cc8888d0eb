# SPDX-License-Identifier: MIT
"""Pages in a mapped file: objects and free slots are there again when it is opened again (floor 5)."""

from __future__ import annotations

import os

from .segment_pager import SegmentPager

__all__ = ["FilePager"]


class FilePager(SegmentPager):
    """Pages in the file at `path`; a zone made with it has the objects of the zone that was closed before.

    size:     bytes for pages at first; the file doubles as it needs more.
    max_size: bytes for pages that it may ever have; as much address space is reserved. Fixed when the file is made.
    create:   None: open the file, or make it if there is none, or it is empty. True: make it; FileExistsError if it is
              there. False: open it; FileNotFoundError if it is not.
    readonly: look into it by offset, even while another process writes; needs no extension.
    recover:  open it even if it was not closed: everything is checked, `recovery` says what was found.

    Raises InvalidPage, which says why, for a file that is torn, truncated, foreign, of another version or byte order,
    or not closed; BlockingIOError if another process writes it; NotImplementedError for writing without the extension.

    An address holds until `close`, an offset for ever: see `offset_of`, `address_of`, `root`.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "objects"
    >>> with FilePager(path, create=True) as pager:
    ...     pager.root = 64
    >>> with FilePager(path) as pager:
    ...     pager.root, pager.size
    (64, 2097152)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size: int = 2 << 20,
        max_size: int = 16 << 30,
        create: bool | None = None,
        readonly: bool = False,
        recover: bool = False,
    ) -> None:
        if readonly and create:
            raise ValueError("a file that is made can't be read-only")
        self._path = os.fspath(path)
        where = f"file {self._path!r}"
        made = False
        if create is not False and not readonly:
            try:
                fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
                made = True
            except FileExistsError:
                if create:
                    raise
        if not made:
            fd = os.open(self._path, os.O_RDONLY if readonly else os.O_RDWR)
        try:
            super().__init__(fd, where, readonly=readonly, recover=recover, size=size, max_size=max_size)
        except BlockingIOError:  # between our making and our lock, somebody else came: it is theirs
            raise
        except BaseException:
            if made:
                os.unlink(self._path)  # noqa: PTH108 - no reason to import pathlib
            raise

    @property
    def path(self) -> str:
        """Where the file is."""
        return self._path
