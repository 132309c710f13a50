"""Where the embedded server lives: its folder, its files and its socket.

The folder is `STATE_DIR/embedded`, readable by its user alone. A socket's path
has a short limit; where the folder's is too long, the socket is put in a private
directory under the runtime or temporary directory, and `embedded/socket` says where.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from bus.errors import EmbeddedFailed

SOCKET_PATH_BYTES_MAX: Final = 100
"""The kernel's limit is 107 bytes on Linux and 103 on macOS."""
LOG_BYTES_MAX: Final = 1_000_000
"""A longer log is renamed at the next start; two files are kept."""
TAIL_BYTES_MAX: Final = 8_192
"""How much of the log's end is read for an error message."""

_SOCKET: Final = "valkey.sock"
# mkdtemp's name and the socket's are added to the directory that is chosen.
_SOCKET_SUFFIX_BYTES: Final = len("/tvbus-12345678/") + len(_SOCKET)


class Home:
    """The folder of one embedded server; every path it uses comes from here."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = Path(state_dir).expanduser().absolute()
        self.path = self.state_dir / "embedded"
        self.log = self.path / "valkey.log"
        self.pid_file = self.path / "valkey.pid"
        self._pointer = self.path / "socket"

    def make(self) -> None:
        """Create the folder for its user alone. Raises EmbeddedFailed."""
        with self.explaining():
            self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            self.path.chmod(0o700)

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """Turn what the file system refuses into one line that says what to do."""
        try:
            yield
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                message = f"no space is left for {self.state_dir}: free some or set TVBUS_STATE_DIR"
            else:
                message = (
                    f"the state directory {self.state_dir} cannot be used "
                    f"({error.strerror or error}): "
                    "set TVBUS_STATE_DIR to one that can be written"
                )
            raise EmbeddedFailed(message) from error

    @property
    def socket(self) -> Path:
        """Where the server's socket is, or would be."""
        with contextlib.suppress(OSError):
            text = self._pointer.read_text(encoding="utf-8")
            if text:
                return Path(text)
        return self.path / _SOCKET

    @property
    def url(self) -> str:
        """The server's address, for `bus.connection`."""
        return f"unix://{quote(str(self.socket))}"

    @property
    def pid(self) -> int | None:
        """The process id that the server wrote; true only while its lock is held."""
        try:
            return int(self.pid_file.read_text())
        except (OSError, ValueError):
            return None

    def place_socket(self) -> Path:
        """Choose where the next server puts its socket, and leave word of it.

        Raises OSError, or EmbeddedFailed where no directory is short enough.
        """
        path = self.path / _SOCKET
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
            self._pointer.unlink(missing_ok=True)
            return path
        known = self.socket
        if known != path and _is_private(known.parent):
            return known
        path = _short_directory() / _SOCKET
        draft = self.path / "socket.new"
        draft.write_text(str(path), encoding="utf-8")
        draft.replace(self._pointer)
        return path

    def remove_socket(self) -> None:
        """Forget the socket of a server that has ended."""
        path = self.socket
        path.unlink(missing_ok=True)
        if path.parent != self.path:
            self._pointer.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                path.parent.rmdir()

    def bound_log(self) -> None:
        """Rename a log that has grown too long."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.1"))

    def last_words(self) -> str:
        """Return the last line of the server's log."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - TAIL_BYTES_MAX))
                lines = file.read().decode(errors="replace").split("\n")
        except OSError as error:
            return f"its log cannot be read ({error.strerror})"
        said = [line.strip() for line in lines if line.strip()]
        return said[-1] if said else "it said nothing"


def _short_directory() -> Path:
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108
        if not parent or not Path(parent).is_dir():
            continue
        if len(os.fsencode(parent)) + _SOCKET_SUFFIX_BYTES <= SOCKET_PATH_BYTES_MAX:
            with contextlib.suppress(PermissionError):
                return Path(tempfile.mkdtemp(prefix="tvbus-", dir=parent))
    raise EmbeddedFailed(
        "no directory is short enough for a socket: set TVBUS_STATE_DIR to a shorter path"
    )


def _is_private(directory: Path) -> bool:
    """Whether nobody else can have put a socket there."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.getuid()
        and stat.S_IMODE(found.st_mode) == 0o700
    )
