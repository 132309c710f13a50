"""A terminal with a person at it: what a command shows is read, what it asks is typed."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

from tests.waiting import DEADLINE_S

# The command gets the terminal as its own, as from a shell, so that it can ask hidden.
LAUNCH = (
    "import fcntl, os, sys, termios\n"
    "os.setsid()\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'tvbus', *sys.argv[1:]])\n"
)


class Terminal:
    """Runs `tvbus` with arguments in a pseudo-terminal of its own."""

    def __init__(self, *arguments: str, folder: Path, **settings: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TVBUS_")}
        environment |= {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "TERM": "dumb",
            "TVBUS_STATE_DIR": str(folder / "state"),
        }
        self.shown = ""
        self._read = 0
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment | settings,
            cwd=folder,
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def sees(self, text: str) -> None:
        """Wait until the command shows this, behind what was seen before."""
        end = time.monotonic() + DEADLINE_S
        while text not in self.shown[self._read :]:
            assert time.monotonic() < end, f"never shown: {text!r}; shown was {self.shown!r}"
            assert self._take(), f"ended without showing {text!r}; shown was {self.shown!r}"
        self._read = self.shown.index(text, self._read) + len(text)

    def types(self, line: str) -> None:
        """Type a line."""
        os.write(self._master, f"{line}\n".encode())

    def presses(self, key: bytes) -> None:
        """Press a key, such as Ctrl-C."""
        os.write(self._master, key)

    def ends(self) -> int:
        """Wait for the end and return the exit code."""
        while self._take():
            pass
        return self._process.wait(DEADLINE_S)

    def _take(self) -> bool:
        """Read what is shown next; False where nothing follows."""
        assert select.select([self._master], [], [], DEADLINE_S)[0], f"mute after {self.shown!r}"
        data = b""
        with contextlib.suppress(OSError):  # how Linux says that nobody has the other end
            data = os.read(self._master, 65_536)
        self.shown += data.decode("utf-8", "replace")
        return bool(data)
