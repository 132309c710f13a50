"""Locks on files that the kernel gives back when their holder dies.

A lock of this kind needs no process ids and cannot be stale. It belongs to the
open file, so a child that inherits the file holds the lock with its parent.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # Windows has none, and no embedded server either.
    fcntl = None  # type: ignore[assignment]

SUPPORTED: Final = fcntl is not None


class FileLock:
    """An exclusive lock on one file; at most one holder, whatever the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def acquire(self) -> bool:
        """Take the lock if it is free; True when it is held now. Raises OSError."""
        assert self._file is None, "held already"
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        except BaseException:
            os.close(file)
            raise
        self._file = file
        return True

    def release(self) -> None:
        """Close this process's copy; a child that inherited the file keeps the lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._file is not None

    @property
    def file(self) -> int:
        """The open file, to be inherited by a child."""
        assert self._file is not None, "not held"
        return self._file

    def is_current(self) -> bool:
        """Whether the held file is still the one at the path (it may have been replaced)."""
        if self._file is None:
            return False
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self._file))
