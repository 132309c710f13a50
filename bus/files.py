"""Files for one user alone, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

_HAS_MODES: Final = os.name == "posix"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Exposed(OSError):
    """Others can read or change it; the text says what to run."""


def make_private(folder: Path) -> None:
    """Create a folder for its user alone. Raises OSError, Exposed where others have access."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    _check(folder, folder.lstat(), "700")


def read_private(path: Path, bytes_max: int) -> bytes | None:
    """Return a file's content, None where there is none.

    Raises OSError; Exposed where others have access to it or to its folder, for then
    what it says may be known to others, or be theirs.
    """
    try:
        _check(path.parent, path.parent.lstat(), "700")
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return None
    with os.fdopen(file, "rb") as content:
        _check(path, os.fstat(file), "600")
        data = content.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise OSError(f"{path} has more than {bytes_max} bytes")
    return data


def write_private(path: Path, data: bytes) -> None:
    """Replace a file at once; after a crash it is the old one or the new one.

    Raises OSError, Exposed where others have access to its folder.
    """
    make_private(path.parent)
    # Created with mode 0600, under a name that nobody can foresee.
    file, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(file, "wb") as content:
            content.write(data)
            content.flush()
            os.fsync(content.fileno())
        Path(draft).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(draft).unlink()
        raise
    _sync_folder(path.parent)


def _check(path: Path, found: os.stat_result, mode: str) -> None:
    if not _HAS_MODES:
        return
    if found.st_uid != os.getuid():
        raise Exposed(
            f"{path} belongs to another user: remove it, or choose another TVBUS_STATE_DIR"
        )
    if stat.S_IMODE(found.st_mode) & _OTHERS:
        raise Exposed(f"others have access to {path}: run `chmod {mode} {path}`")


def _sync_folder(folder: Path) -> None:
    """Let the new name survive a power cut too."""
    if not _HAS_MODES:
        return
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
