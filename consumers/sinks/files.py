"""Files that several processes write and any may be killed at."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from bus.locks import SUPPORTED
from consumers.errors import SinkRejected, SinkUnavailable, UsageError
from publisher.wire import Series

try:
    import fcntl
except ImportError:  # Windows has none: one process to a directory there
    fcntl = None  # type: ignore[assignment]

LOCK_WAIT_S_MAX: Final = 5.0
"""How long another process may write to the same file before this one gives up for now."""
LOCK_POLL_S: Final = 0.005

_UNSAFE: Final = re.compile(r'[/\\:*?"<>|]')


def make_folder(folder: Path) -> None:
    """Make the directory of a sink. Raises UsageError where there can be none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{str(folder)!r} cannot be a directory: {error.strerror}") from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise UsageError(f"this user may not write to the directory {str(folder)!r}")


def file_name(series: Series) -> str:
    """Return a series' text form as a file name; `Series.parse` reads it back."""
    return _UNSAFE.sub(lambda found: quote(found[0], safe=""), str(series))


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what the operating system says about a file into an error of sinks."""
    try:
        yield
    except OSError as error:
        message = f"cannot write {str(path)!r}: {error.strerror or error}"
        if error.errno == errno.ENAMETOOLONG:
            raise SinkRejected(message) from error
        raise SinkUnavailable(message) from error


def lock(file: int, path: Path) -> None:
    """Keep other processes from the same open file until it is closed.

    Raises SinkUnavailable where another one keeps it for long.
    """
    if not SUPPORTED:
        return
    end_s = time.monotonic() + LOCK_WAIT_S_MAX
    while not try_lock(file):
        if time.monotonic() > end_s:
            raise SinkUnavailable(
                f"another process has been writing to {str(path)!r} for {LOCK_WAIT_S_MAX:g} s"
            )
        time.sleep(LOCK_POLL_S)


def try_lock(file: int) -> bool:
    """Lock an open file unless another process has it; say whether it is locked now."""
    if not SUPPORTED:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked_folder(folder: Path, *, wait: bool = True) -> Iterator[bool]:
    """Keep other processes from a directory; say whether it is locked, as after a wait it is.

    Raises SinkUnavailable where another one keeps it for long.
    """
    if not SUPPORTED:
        yield True
        return
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if wait:
            lock(file, folder)
        yield wait or try_lock(file)
    finally:
        os.close(file)


def make_folders(root: Path, folder: Path) -> None:
    """Make a directory below another, and all between, to stay after a power cut."""
    if not folder.exists():
        make_folders(root, folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def check_case(path: Path) -> None:
    """Refuse a file system that takes a month's file, `1M`, for a minute's, `1m`.

    Raises SinkRejected.
    """
    if path.name not in {entry.name for entry in path.parent.iterdir()}:
        raise SinkRejected(
            f"{str(path.parent)!r} holds {path.name!r} in other letters: "
            "choose a directory on a file system that tells 1M from 1m"
        )


def replace_file(part: Path, path: Path) -> None:
    """Let a complete file take the place of another at once, to stay after a power cut."""
    part.replace(path)
    for folder in {part.parent, path.parent}:
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Let new names in a directory survive a power cut."""
    if not SUPPORTED:
        return  # Windows opens no directories
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
