"""Real processes and connections for the tests of the bus."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.waiting import eventually as wait_for

WAIT_S_MAX = 20.0

KEEPER = """
import sys
from pathlib import Path
from bus.embedded import EmbeddedServer
server = EmbeddedServer.start(Path(sys.argv[1]))
print(server.owned, server.url, flush=True)
for line in sys.stdin:
    if line == "stop\\n":
        server.stop()
    print("done", flush=True)
"""


class Keeper:
    """A process that has started the embedded server and waits for orders."""

    def __init__(self, state_dir: Path, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", KEEPER, str(state_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.owned = False
        self.url = ""

    def wait_until_started(self) -> Keeper:
        """Read what it says of itself."""
        assert self.process.stdout is not None
        owned, self.url = self.process.stdout.readline().split()
        self.owned = owned == "True"
        return self

    def stop(self) -> None:
        """Let it stop its server and end."""
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate("stop\n", timeout=WAIT_S_MAX)

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.communicate(timeout=WAIT_S_MAX)


def is_running(pid: int) -> bool:
    """Whether the process exists and is not merely waiting to be collected."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def kill(pid: int) -> None:
    """`kill -9`, and wait for the end."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_running(pid))


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def running(arguments: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server process for as long as the context lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(arguments, cwd=folder, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


class CuttingProxy:
    """A TCP proxy that cuts the connection when a command's reply comes back.

    The server has executed the command then; the client never learns of it.
    """

    def __init__(self, target_port: int, command: bytes) -> None:
        self._target_port = target_port
        self._command = command
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.cuts = 0
        self.cuts_max = 1
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        armed = threading.Event()
        with client, socket.create_connection(("127.0.0.1", self._target_port)) as server:
            back = threading.Thread(
                target=self._pump_back, args=(server, client, armed), daemon=True
            )
            back.start()
            with contextlib.suppress(OSError):
                while data := client.recv(65536):
                    if self._command in data.upper() and self.cuts < self.cuts_max:
                        armed.set()
                    server.sendall(data)
                server.shutdown(socket.SHUT_RDWR)
            back.join(WAIT_S_MAX)

    def _pump_back(
        self, server: socket.socket, client: socket.socket, armed: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if armed.is_set():
                    self.cuts += 1
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)
