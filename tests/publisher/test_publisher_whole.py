"""The whole publisher in one process: simulator, engine, a real server; compared with the truth."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from publisher_servers import Server, free_port, valkey_server

from bus.connection import Client
from publisher import app, delivery, engine, links
from publisher.errors import StoreUnavailable
from publisher.settings import PublisherSettings
from publisher.shell import health, lease
from publisher.shell.commands import CommandReader
from publisher.shell.store import RedisStore, Retention
from publisher.simulator import Simulator
from publisher.wire import Bar, Keys, Series, Summary, decode_bar
from publisher.wire.answers import Answer
from publisher.wire.commands import Command
from tests.waiting import eventually as wait_for

SERIES = tuple(
    Series.parse(text)
    for text in (
        "BTCUSDT-BINANCE-1m",
        "BTCUSDT-BINANCE-3m",
        "BTCUSDT-BINANCE-5m",
        "BTCUSDT-BINANCE-1H",
        "ETHUSDT-BINANCE-1m",
        "EURUSD-FX-1m",
        "ES1!-CME_MINI-1m",
        "AAPL-NASDAQ-1m",
        "AAPL-NASDAQ-1m+extended",
        "RUT-TVC-1m",
        "BHV-NYSE-1m",
        "BTCUSDT-BINANCE-1D",
    )
)
FEW = SERIES[:3]
KEYS = Keys("tv")


def tuesday_ms() -> int:
    """A Tuesday afternoon, some weeks ago: markets of all kinds are open."""
    day = datetime.now(UTC) - timedelta(days=30)
    day -= timedelta(days=(day.weekday() - 1) % 7)
    return int(day.replace(hour=15, minute=40, second=5, microsecond=0).timestamp() * 1000)


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter waits, so that recovery fits into a test."""
    monkeypatch.setattr(lease, "LEASE_MS", 1_500)
    monkeypatch.setattr(app, "ACQUIRE_MS", 200)
    monkeypatch.setattr(engine, "RENEW_MS", 200)
    monkeypatch.setattr(links, "RECONNECT_MS_MAX", 1_000)
    monkeypatch.setattr(delivery, "RETRY_MS_MAX", 500)
    monkeypatch.setattr(health, "PORT_RETRY_MS", 200)


@pytest.fixture
def bus(valkey: Server) -> Iterator[Client]:
    """An empty Valkey."""
    with valkey.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def market() -> Iterator[Simulator]:
    """A TradingView in which a minute lasts 0.4 s."""
    with Simulator(seed=3, speed=150, start_ms=tuesday_ms(), heartbeat_s=0.3) as simulator:
        yield simulator


class Publisher:
    """A publisher in a thread."""

    def __init__(self, market: Simulator, url: str, *series: Series, **flags: Any) -> None:
        values = {"history_bars": 30, "ws_url": market.url, "settle_ms": 200, "listen": "", **flags}
        self.settings = PublisherSettings(series=series, **values)
        self._url = url
        self._stop = threading.Event()
        self.errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            app.run(self.settings, self._url, self._stop)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.errors.append(error)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()
        assert self.errors == []


@contextmanager
def publishing(market: Simulator, url: str, *series: Series, **flags: Any) -> Iterator[Publisher]:
    publisher = Publisher(market, url, *series, **flags)
    try:
        yield publisher
    finally:
        publisher.stop()


def stored(client: Client, series: Series) -> list[Bar]:
    """What stands in a stream, checked for order and continuity."""
    entries: Any = client.xrange(KEYS.bars(series))
    bars = [decode_bar(series, fields) for _, fields in entries]
    assert [place.decode() for place, _ in entries] == [f"{bar.open_time_ms}-0" for bar in bars]
    for before, bar in pairwise(bars):
        assert before.open_time_ms < bar.open_time_ms
        assert bar.previous_open_time_ms == before.open_time_ms
        assert bar.closed_by != "forming"
        assert not bar.gap
    return bars


def corrected(client: Client, series: Series) -> dict[int, Bar]:
    entries: Any = client.xrange(KEYS.corrections(series))
    bars = [decode_bar(series, fields) for _, fields in entries]
    return {bar.open_time_ms: bar for bar in bars}


def numbers(bar: Any) -> tuple[Any, ...]:
    return (bar.open, bar.high, bar.low, bar.close, bar.volume)


def assert_true(market: Simulator, client: Client, *series: Series, bars_min: int = 1) -> None:
    """Wait for all that is true by now, and compare every value of it."""
    now_ms = market.now_ms()
    for one in series:
        wait_for(lambda one=one: len(stored(client, one)) >= bars_min, f"{one} begins")

        def truth(one: Series = one) -> dict[int, Any]:
            first_ms = stored(client, one)[0].open_time_ms
            bars = market.truth(one, first_ms)
            return {bar.start_ms: bar for bar in bars if bar.end_ms <= now_ms}

        wait_for(
            lambda one=one, truth=truth: (
                truth().keys() <= {bar.open_time_ms for bar in stored(client, one)}
            ),
            f"{one} is complete",
        )

        def wrong(one: Series = one, truth: Callable[[], dict[int, Any]] = truth) -> list[Any]:
            changes = corrected(client, one)
            have = {bar.open_time_ms: bar for bar in stored(client, one)} | changes
            return [
                (time_ms, numbers(have[time_ms]), numbers(bar))
                for time_ms, bar in truth().items()
                if numbers(have[time_ms]) != numbers(bar)
            ]

        wait_for(lambda wrong=wrong: not wrong(), f"{one} is right: {wrong()[:3]}", 5)
        # Read before the truth is asked: a bar that ends in between is no invention.
        have = {bar.open_time_ms for bar in stored(client, one)}
        extra = have - {bar.start_ms for bar in market.truth(one, min(have))}
        assert not extra, f"{one} has bars that never were: {sorted(extra)}"


def live(client: Client, *series: Series) -> None:
    """Wait until all series are live."""

    def states() -> list[str]:
        lines: Any = client.hgetall(KEYS.catalogue)
        found = [Summary.decode(name, text) for name, text in lines.items()]
        return [line.state for line in found if line.series in series]

    wait_for(lambda: states() == ["live"] * len(series), "all are live")


def events(client: Client, name: str) -> list[dict[str, Any]]:
    entries: Any = client.xrange(KEYS.events)
    facts = [json.loads(fields[b"event"]) for _, fields in entries]
    return [fact for fact in facts if fact["event"] == name]


def grown(client: Client, series: Series, by: int) -> None:
    """Wait until a stream has so many bars more."""
    before = stored(client, series)[-1].open_time_ms
    wait_for(
        lambda: len([b for b in stored(client, series) if b.open_time_ms > before]) >= by,
        f"{series} grows",
    )


def test_twelve_series_equal_the_truth(valkey: Server, bus: Client) -> None:
    with (
        Simulator(seed=3, speed=60, start_ms=tuesday_ms()) as market,
        publishing(market, valkey.url, *SERIES),
    ):
        live(bus, *SERIES)
        grown(bus, SERIES[0], 6)
        assert_true(market, bus, *SERIES, bars_min=25)
    assert {bar.closed_by for series in SERIES for bar in stored(bus, series)} <= {
        "history",
        "next",
        "clock",
    }
    assert not events(bus, "gap.abandoned")


@pytest.mark.parametrize(
    "kinds",
    [
        ("reset", "close"),
        ("corrupt", "invalid_utf8", "truncate"),
        ("repeat", "nan", "placeholder", "reversed", "late"),
        ("mute",),
    ],
)
def test_after_a_fault_the_streams_equal_the_truth_again(
    market: Simulator, valkey: Server, bus: Client, kinds: tuple[str, ...]
) -> None:
    with publishing(market, valkey.url, *FEW):
        live(bus, *FEW)
        for kind in kinds:
            grown(bus, FEW[0], 1)
            # Long enough that whole bars are missed.
            market.faults.inject(kind, duration_s=1.1, count=3)
            wait_for(lambda kind=kind: market.faults.counts[kind], f"{kind} happened")
        grown(bus, FEW[0], 4)
        assert_true(market, bus, *FEW)


def test_a_restart_in_the_middle_goes_on_where_the_stream_ends(
    market: Simulator, valkey: Server, bus: Client
) -> None:
    with publishing(market, valkey.url, *FEW):
        live(bus, *FEW)
        grown(bus, FEW[0], 2)
    market.advance(7 * 60_000)
    with publishing(market, valkey.url, *FEW):
        grown(bus, FEW[0], 8)
        assert_true(market, bus, *FEW)


def test_nothing_is_missing_after_the_server_was_killed_in_the_middle(
    market: Simulator, tmp_path: Path
) -> None:
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with valkey_server(tmp_path, *options) as server:
        client = server.client()
        with publishing(market, server.url, *FEW) as publisher:
            live(client, *FEW)
            grown(client, FEW[0], 1)
            for _ in range(2):
                server.kill()
                passed = market.now_ms() + 90_000
                wait_for(lambda passed=passed: market.now_ms() > passed)
                server.start()
                grown(client, FEW[0], 2)
            assert publisher.alive
            assert_true(market, client, *FEW)
        assert events(client, "store.lost")
        assert events(client, "store.found")
        client.close()


def test_a_bus_that_was_flushed_is_noticed_and_filled_again(
    market: Simulator, valkey: Server, bus: Client
) -> None:
    with publishing(market, valkey.url, FEW[0], FEW[1]):
        live(bus, FEW[0], FEW[1])
        ask(bus, Command("r1", "subscribe", (str(FEW[2]),)))
        live(bus, *FEW)
        grown(bus, FEW[0], 1)
        bus.flushall()
        live(bus, *FEW)
        grown(bus, FEW[0], 1)
        assert_true(market, bus, *FEW, bars_min=25)


def test_of_two_publishers_one_writes_and_the_other_takes_over(
    market: Simulator, valkey: Server, bus: Client
) -> None:
    code = (
        "import sys, threading\n"
        "from publisher import app\n"
        "from publisher.shell import lease\n"
        "lease.LEASE_MS = 2_500\n"
        "from publisher.settings import PublisherSettings\n"
        "settings = PublisherSettings(series=sys.argv[1], ws_url=sys.argv[2],"
        " history_bars=30, settle_ms=200, listen='')\n"
        "app.run(settings, sys.argv[3], threading.Event())\n"
    )
    series = ",".join(str(one) for one in FEW)
    arguments = [sys.executable, "-c", code, series, market.url, valkey.url]
    first = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        live(bus, *FEW)
        holder = bus.hget(KEYS.publisher, "holder")
        with publishing(market, valkey.url, *FEW):
            grown(bus, FEW[0], 2)
            assert bus.hget(KEYS.publisher, "holder") == holder
            assert len(market.connections) == 1
            first.kill()
            first.wait()
            wait_for(lambda: bus.hget(KEYS.publisher, "holder") != holder, "the other takes over")
            grown(bus, FEW[0], 3)
            assert_true(market, bus, *FEW)
    finally:
        first.kill()
        first.wait()


OURS = (
    *("Engine", "Publication", "Ledger", "Session", "Link", "Transports", "WebSocketTransport"),
    *("_Reader", "TokenWorker", "CommandReader", "TokenKeeper", "Delivery", "Thread"),
    *("UnixDomainSocketConnection", "ConnectionPool"),
)


def kept() -> Counter[str]:
    """How many objects of each kind this process keeps, what nobody refers to not counted."""
    gc.collect()
    everything = Counter(type(thing).__name__ for thing in gc.get_objects())
    return Counter({name: everything[name] for name in OURS})


def test_nothing_is_kept_of_lost_connections_and_leases(
    market: Simulator, valkey: Server, bus: Client
) -> None:
    rounds, others = 8, kept()

    def disturb(times: int) -> None:
        for number in range(times):
            opened = len(events(bus, "session.opened"))
            if number % 2:
                bus.delete(KEYS.publisher)  # and with it the lease
            else:
                market.faults.inject(("reset", "close")[number // 2 % 2])
            wait_for(lambda n=opened: len(events(bus, "session.opened")) > n, "spoken again")
            live(bus, *FEW)

    with publishing(market, valkey.url, *FEW):
        live(bus, *FEW)
        disturb(2)
        before = kept()
        disturb(rounds)
        assert len(events(bus, "publisher.started")) == 2 + rounds // 2
        # The threads of the last round end on their own time.
        wait_for(lambda: kept() <= before, lambda: f"no more than before: {kept() - before}")
    assert (before - others)["Engine"] == 1
    assert (before - others)["Publication"] == len(FEW)


def test_while_standing_by_nothing_is_kept_of_what_was_published(
    market: Simulator, valkey: Server, bus: Client
) -> None:
    others = kept()["Publication"]
    with publishing(market, valkey.url, *FEW):
        live(bus, *FEW)
        assert kept()["Publication"] == others + len(FEW)
        bus.hset(KEYS.publisher, mapping={"holder": "another", "expires_ms": 9_999_999_999_999})
        wait_for(lambda: kept()["Publication"] <= others, lambda: f"nothing: {kept()}")


def test_a_clean_stop_lets_the_next_publisher_begin_at_once(
    market: Simulator, valkey: Server, bus: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_MS", 60_000)
    with publishing(market, valkey.url, FEW[0]):
        live(bus, FEW[0])
    began = time.monotonic()
    with publishing(market, valkey.url, FEW[0]):
        live(bus, FEW[0])
        grown(bus, FEW[0], 1)
    assert time.monotonic() - began < 15
    assert_true(market, bus, FEW[0])


# Requests, through the bus.


def ask(client: Client, command: Command) -> list[Answer]:
    client.xadd(KEYS.commands, {"command": command.encode()})
    key = KEYS.replies(command.id)
    wait_for(lambda: client.llen(key) >= max(1, len(command.series)), f"{command.id} is answered")
    replies: Any = client.lrange(key, 0, -1)
    return [Answer.decode(text) for text in replies]


def test_what_is_subscribed_by_command_outlives_a_restart_and_what_is_removed_stays_out(
    market: Simulator, valkey: Server, bus: Client
) -> None:
    gold, btc, eth = Series.parse("XAUUSD-OANDA-1m"), FEW[0], SERIES[4]
    with publishing(market, valkey.url, btc, eth):
        live(bus, btc, eth)
        [wanted, unknown] = ask(bus, Command("r1", "subscribe", (str(gold), "NOPE-NYSE-1m")))
        answers = {wanted.series: wanted, unknown.series: unknown}
        assert answers[str(gold)].accepted
        assert "does not know NYSE:NOPE" in answers["NOPE-NYSE-1m"].message
        [removed] = ask(bus, Command("r2", "unsubscribe", (str(btc),)))
        assert removed.accepted
        bus.xadd(KEYS.commands, {"command": b'{"id":"r3","action":"dance","series":[]}'})
        bus.xadd(KEYS.commands, {"other": b"x"})
        wait_for(lambda: bus.llen(KEYS.replies("r3")))
        wait_for(lambda: len(events(bus, "command.refused")) == 2)
    with publishing(market, valkey.url, btc):
        live(bus, gold)
        grown(bus, gold, 1)
        line = Summary.decode(str(eth).encode(), bus.hget(KEYS.catalogue, str(eth)))  # type: ignore[arg-type]
        assert (line.state, line.reason) == ("removed", "no longer in TVBUS_SERIES")
        assert len(stored(bus, btc)) == bus.xlen(KEYS.bars(btc))
        assert_true(market, bus, gold)


# The beginning.


def test_a_publisher_waits_for_a_bus_that_is_not_there_yet(
    market: Simulator, tmp_path: Path
) -> None:
    with valkey_server(tmp_path) as server:
        server.kill()
        with publishing(market, server.url, FEW[0]) as publisher:
            time.sleep(0.5)
            assert publisher.alive
            server.start()
            with server.client() as client:
                live(client, FEW[0])


def test_a_publisher_that_shall_not_wait_says_where_no_bus_is(market: Simulator) -> None:
    settings = PublisherSettings(series=FEW, ws_url=market.url, listen="")
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    with pytest.raises(StoreUnavailable, match=r"(?i)start Redis or set TVBUS_REDIS_URL") as caught:
        app.run(settings, url, threading.Event(), wait=False)
    assert "secret" not in str(caught.value)


def test_a_bus_that_fails_between_the_lease_and_the_catalogue_ends_nothing(
    market: Simulator, valkey: Server, bus: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = RedisStore.catalogue
    failures = [StoreUnavailable("gone for a moment")]

    def fail_once(store: RedisStore) -> list[Summary]:
        if failures:
            raise failures.pop()
        return read(store)

    monkeypatch.setattr(RedisStore, "catalogue", fail_once)
    with publishing(market, valkey.url, FEW[0]):
        live(bus, FEW[0])
    assert not failures


def test_a_foreign_catalogue_key_does_not_stop_what_the_settings_name(
    market: Simulator, valkey: Server, bus: Client
) -> None:
    bus.set(KEYS.catalogue, "precious")
    with publishing(market, valkey.url, FEW[0]):
        wait_for(lambda: bus.xlen(KEYS.bars(FEW[0])) >= 30)
        wait_for(lambda: events(bus, "store.refused"))
    assert bus.get(KEYS.catalogue) == b"precious"


def test_a_health_port_that_is_taken_keeps_nobody_from_publishing_and_is_had_later(
    market: Simulator, valkey: Server, bus: Client
) -> None:
    listen = f"127.0.0.1:{free_port()}"
    with publishing(market, valkey.url, FEW[0], listen=listen):
        live(bus, FEW[0])
        standby = Publisher(market, valkey.url, FEW[0], listen=listen)
        wait_for(lambda: _answers(listen)["state"] == "publishing", "the first has the port")
    try:
        wait_for(lambda: _answers(listen)["state"] == "publishing", "the second has it")
    finally:
        standby.stop()


def _answers(listen: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(f"http://{listen}/healthz") as page:
            return json.loads(page.read())
    except urllib.error.HTTPError as error:
        return json.loads(error.read())
    except OSError:
        return {"state": "nobody"}


def test_a_stop_while_standing_by_or_waiting_ends_at_once(
    market: Simulator, valkey: Server, bus: Client
) -> None:
    with publishing(market, valkey.url, FEW[0]):
        live(bus, FEW[0])
        began = time.monotonic()
        with publishing(market, valkey.url, FEW[0]):
            time.sleep(0.3)
        with publishing(market, f"redis://127.0.0.1:{free_port()}", FEW[0]):
            time.sleep(0.3)
        assert time.monotonic() - began < 6


def test_a_lease_that_cannot_be_asked_for_is_asked_for_again(
    valkey: Server, bus: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus.set(KEYS.publisher, "precious")
    held = lease.RedisLease(bus, KEYS, "one")
    stop = threading.Event()
    got: list[int | None] = []
    waiter = threading.Thread(target=lambda: got.append(app._await_lease(held, stop)))
    waiter.start()
    time.sleep(0.3)
    assert got == []
    bus.delete(KEYS.publisher)
    waiter.join(5)
    assert got[0]


def test_a_standby_has_the_lease_as_soon_as_it_has_run_out(
    bus: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "RENEW_MS", 60_000)
    assert lease.RedisLease(bus, KEYS, "killed").acquire()
    stop = threading.Event()
    got: list[int | None] = []
    standby = lease.RedisLease(bus, KEYS, "standby")
    waiter = threading.Thread(target=lambda: got.append(app._await_lease(standby, stop)))
    waiter.start()
    waiter.join(5)
    stop.set()
    assert got
    assert got[0]


def test_requests_wait_while_the_engine_is_busy_and_are_given_up_when_it_ends(
    valkey: Server, bus: Client
) -> None:
    import queue  # noqa: PLC0415

    inbox: queue.Queue[Any] = queue.Queue(1)
    stop = threading.Event()
    reader = CommandReader(valkey.client(), KEYS, inbox, stop)
    for number in range(3):
        command = Command(f"r{number}", "subscribe", ("A-B-1m",))
        bus.xadd(KEYS.commands, {"command": command.encode()})
    reader.start()
    wait_for(inbox.full)
    assert inbox.get().command.id == "r0"
    wait_for(inbox.full)
    stop.set()
    reader.join(10)
    assert not reader.is_alive()
    reader._client.close()


def test_a_fill_beyond_one_answer_reaches_back_as_far_as_asked(
    market: Simulator, valkey: Server, bus: Client
) -> None:
    with publishing(market, valkey.url, FEW[0], history_bars=4_000, encoding="json"):
        live(bus, FEW[0])
        wait_for(lambda: bus.xlen(KEYS.bars(FEW[0])) >= 4_000)
        assert_true(market, bus, FEW[0])
    assert RedisStore(bus, KEYS, "json", Retention(0, 0)).stream_end(FEW[0]).watermark_ms
