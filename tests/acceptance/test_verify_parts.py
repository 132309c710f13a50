"""What `tvbus verify` makes of corrections that come meanwhile, and of a bus that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from bus.errors import BusUnreachable
from consumers.shell.requests import History, Requests
from consumers.shell.streams import forwards
from publisher.wire import Bar, Series, encode_bar
from publisher.wire.answers import HistoryBar
from tests.acceptance.rig import Rig
from tvbus import verifying
from tvbus.shared import Bus
from tvbus.verifying import Verdict, tell, verify

BTC = Series.parse("BTCUSDT-BINANCE-1m")
OPENED_MS = 1_700_000_040_000
BARS = [
    Bar(BTC, OPENED_MS + n * 60_000, 1.0, 2.0, 0.5, 1.5, 9.0, None, before, 1, "next")
    for n, before in ((0, None), (1, OPENED_MS), (2, OPENED_MS + 60_000))
]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A server alone; the tests play the publisher."""
    with Rig(tmp_path_factory.mktemp("verifying"), []) as running:
        yield running


@pytest.fixture
def bus(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    """A bus with three bars, and no pauses."""
    rig.client.flushall()
    monkeypatch.setattr(verifying, "LOOK_S", 0.0)
    bus = Bus.at(rig.url)
    for bar in BARS:
        put(bus, bus.keys.bars(BTC), f"{bar.open_time_ms}-0", bar)
    yield bus
    bus.client.close()


def put(bus: Bus, key: str, entry: str, bar: Bar) -> None:
    name, payload = encode_bar(bar)
    fields: Any = {name: payload}
    bus.client.xadd(key, fields, entry)


def correct(bus: Bus, entry: str, bar: Bar) -> None:
    put(bus, bus.keys.corrections(BTC), entry, bar)


def answer(
    monkeypatch: pytest.MonkeyPatch, bars: list[Bar], meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Let the publisher answer with these bars, after something happened."""
    sent = [
        HistoryBar(b.open_time_ms, b.open, b.high, b.low, b.close, b.volume, None) for b in bars
    ]

    def ask(*_: Any) -> History:
        meanwhile()
        return History(sent, message=f"{len(sent)} bars")

    monkeypatch.setattr(Requests, "history", ask)


CHANGED = replace(BARS[1], close=1.25, revision=1)


def test_a_correction_that_comes_while_history_is_fetched_is_no_difference(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    for history in ([BARS[0], CHANGED, BARS[2]], BARS):
        bus.client.delete(bus.keys.corrections(BTC))
        answer(monkeypatch, history, lambda: correct(bus, "7-0", CHANGED))
        assert verify(bus, BTC, offline=False).outcome == "verified"


def test_a_correction_that_comes_after_history_is_waited_for(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = []

    def pause(wait_s: float) -> None:
        pauses.append(wait_s)
        bus.client.xadd(bus.keys.corrections(BTC), {"bar": b"\xc1"}, f"{len(pauses)}-0")
        if len(pauses) == 2:
            correct(bus, "7-0", CHANGED)

    monkeypatch.setattr(verifying.time, "sleep", pause)
    answer(monkeypatch, [BARS[0], CHANGED, BARS[2]])
    assert verify(bus, BTC, offline=False).outcome == "verified"
    assert len(pauses) == 2


def test_it_is_not_waited_for_without_end(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(verifying.time, "sleep", pauses.append)
    answer(monkeypatch, [BARS[0], CHANGED, BARS[2]])
    verdict = verify(bus, BTC, offline=False)
    assert verdict.found.counts == {"different": 1}
    assert len(pauses) == verifying.LOOKS_MAX


def test_bars_that_close_during_the_check_are_no_difference(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = replace(
        BARS[2],
        open_time_ms=OPENED_MS + 180_000,
        previous_open_time_ms=BARS[2].open_time_ms,
    )

    def close() -> None:
        put(bus, bus.keys.bars(BTC), f"{newer.open_time_ms}-0", newer)
        correct(bus, "7-0", replace(newer, close=1.0, revision=1))

    answer(monkeypatch, [*BARS, newer], close)
    verdict = verify(bus, BTC, offline=False)
    assert verdict.outcome == "verified"
    assert verdict.comparison is not None
    assert verdict.comparison.newer == 1


def test_bars_that_are_appended_while_the_stream_is_read_are_let_be(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def append_first(client: Any, key: str, *span: str, **bounds: str) -> Any:
        put(bus, key, f"{OPENED_MS + 180_000}-0", replace(BARS[2], open_time_ms=1))
        return forwards(client, key, *span, **bounds)

    monkeypatch.setattr(verifying, "forwards", append_first)
    verdict = verify(bus, BTC, offline=True)
    assert (verdict.outcome, verdict.bars) == ("verified", 3)


def test_no_history_at_all_is_told(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, [])
    verdict = verify(bus, BTC, offline=False)
    assert (verdict.outcome, verdict.reason) == ("unverified", "history has no bars: 0 bars")


def test_the_future_counts_from_what_tradingview_calls_the_present(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = [
        replace(bar, open_time_ms=bar.open_time_ms + 10**13, previous_open_time_ms=before)
        for bar, before in zip(BARS, [None, *(b.open_time_ms + 10**13 for b in BARS)], strict=False)
    ]
    bus.client.delete(bus.keys.bars(BTC))
    for bar in ahead:
        put(bus, bus.keys.bars(BTC), f"{bar.open_time_ms}-0", bar)
    assert verify(bus, BTC, offline=True).found.counts == {"future": 3}
    answer(monkeypatch, ahead)
    assert verify(bus, BTC, offline=False).outcome == "verified"
    put(bus, bus.keys.forming(BTC), "*", replace(ahead[-1], closed_by="forming"))
    assert verify(bus, BTC, offline=True).outcome == "verified"
    bus.client.xadd(bus.keys.forming(BTC), {"bar": b"\xc1"})
    assert verify(bus, BTC, offline=True).found.counts == {"future": 3}


def test_a_bus_that_fails_is_told_in_our_words(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise redis.ConnectionError("gone")

    with monkeypatch.context() as broken:
        broken.setattr(bus.client, "time", fail)
        with pytest.raises(BusUnreachable, match=r"the bus at unix://.* failed: gone"):
            verify(bus, BTC, offline=True)
    with monkeypatch.context() as broken:
        broken.setattr(bus.client, "xrevrange", fail)
        with pytest.raises(BusUnreachable, match=r"the bus at unix://.* failed: .*gone"):
            verify(bus, BTC, offline=True)


def test_an_event_that_is_not_taken_is_told(bus: Bus) -> None:
    bus.client.set(bus.keys.events, "a text of somebody else")
    with pytest.raises(BusUnreachable, match="does not take the event: WRONGTYPE"):
        tell(bus, Verdict(BTC))


def test_a_stream_of_nothing_readable_is_not_compared(bus: Bus) -> None:
    bus.client.delete(bus.keys.bars(BTC))
    bus.client.xadd(bus.keys.bars(BTC), {"bar": b"\xc1"}, f"{OPENED_MS}-0")
    verdict = verify(bus, BTC, offline=False)
    assert (verdict.outcome, verdict.comparison) == ("differed", None)
