"""Poison entries, dead letters handed over again, corrections and events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from consumer_world import BTC, ETH, MINUTE_MS, T0, Events, Market, Recorder, Running

from consumers import Bar, Consumer, Context
from publisher.wire import encode_bar
from tests.waiting import eventually

Start = Callable[..., Running]


def letters(market: Market) -> list[dict[bytes, bytes]]:
    return [fields for _, fields in market.client.xrange(market.keys.dead("g"))]


def poison(number: int) -> Callable[[Bar], bool]:
    return lambda bar: bar.series == BTC and bar.open_time_ms == T0 + number * MINUTE_MS


def ask_again(market: Market) -> str:
    """As `tvbus dead replay` does."""
    [(letter, fields)] = market.client.xrange(market.keys.dead("g"))
    market.client.hset(market.keys.group("g", "replays"), letter, fields[b"series"])
    return str(letter.decode())


def replays(market: Market) -> int:
    return int(market.client.hlen(market.keys.group("g", "replays")))


def test_a_poison_entry_becomes_a_dead_letter_and_delays_only_its_own_series(
    market: Market, start: Start, events: Events
) -> None:
    market.publish(BTC, range(5))
    market.publish(ETH, range(5))
    seen = Recorder()
    seen.failing = poison(2)
    attempts: list[int] = []

    def handler(bar: Bar, context: Context) -> None:
        if poison(2)(bar):
            attempts.append(context.attempt)
        seen(bar)

    running = start(market, handler, str(BTC), str(ETH), attempts=3, name="me")
    seen.wait(lambda: len(seen.bars) == 9)
    assert seen.numbers(BTC) == [0, 1, 3, 4]
    assert attempts == [1, 2, 3]
    eventually(lambda: market.pending(BTC) == market.pending(ETH) == 0)
    [letter] = letters(market)
    assert letter[b"key"] == market.keys.bars(BTC).encode()
    assert letter[b"id"] == f"{T0 + 2 * MINUTE_MS}-0".encode()
    assert (letter[b"kind"], letter[b"series"]) == (b"bars", str(BTC).encode())
    assert (letter[b"attempts"], letter[b"consumer"]) == (b"3", b"me")
    assert b"RuntimeError: no taste" in letter[b"reason"]
    assert letter[b"traceback"].startswith(b"Traceback")
    assert b"RuntimeError: no taste" in letter[b"traceback"]
    name, payload = encode_bar(market.bar(BTC, 2))
    assert letter[b"original." + name] == payload
    assert running.app.counts.dead_lettered == 1
    assert events.wait("entry.dead_lettered")["id"] == f"{T0 + 2 * MINUTE_MS}-0"


def test_attempts_are_counted_over_restarts(market: Market, start: Start, events: Events) -> None:
    market.publish(BTC, range(2))
    attempts: list[int] = []
    seen = Recorder()
    seen.failing = poison(0)

    def handler(bar: Bar, context: Context) -> None:
        if poison(0)(bar):
            attempts.append(context.attempt)
            if len(attempts) == 2:
                running.app.stop()
        seen(bar)

    running = start(market, handler, attempts=4)
    running.thread.join(20)
    start(market, handler, attempts=4)
    seen.wait(lambda: seen.numbers() == [1])
    assert attempts == [1, 2, 3, 4]
    eventually(lambda: len(letters(market)) == 1)


def test_a_dead_letter_is_written_before_its_entry_is_acknowledged(
    market: Market, start: Start, events: Events
) -> None:
    market.client.set(market.keys.dead("g"), "not a stream")
    market.publish(BTC, range(3))
    seen = Recorder()
    seen.failing = poison(0)
    running = start(market, seen, attempts=1)
    events.wait("entry.dead_letter_failed")
    seen.wait(lambda: seen.numbers() == [1, 2])
    eventually(lambda: market.pending(BTC) == 1)
    running.stop()
    market.client.delete(market.keys.dead("g"))
    start(market, seen, attempts=1)
    eventually(lambda: market.pending(BTC) == 0)
    assert [x[b"id"] for x in letters(market)] == [f"{T0}-0".encode()]


def test_a_letter_handed_over_again_with_success_is_gone(
    market: Market, start: Start, events: Events
) -> None:
    market.publish(BTC, range(3))
    seen = Recorder()
    seen.failing = poison(1)
    running = start(market, seen, attempts=1)
    events.wait("entry.dead_lettered")
    seen.wait(lambda: seen.numbers() == [0, 2])
    seen.failing = lambda bar: False
    letter = ask_again(market)
    assert events.wait("dead_letter.replayed")["id"] == letter
    assert seen.numbers() == [0, 2, 1]
    assert seen.bars[-1] == market.bar(BTC, 1)
    eventually(lambda: letters(market) == [] and replays(market) == 0)
    assert running.app.counts.replayed == 1
    market.publish(BTC, [3])
    seen.wait(lambda: seen.numbers() == [0, 2, 1, 3])


def test_a_letter_in_hand_is_not_handed_over_twice(
    market: Market, start: Start, events: Events
) -> None:
    market.publish(BTC, range(2))
    seen = Recorder()
    healed, go_on = threading.Event(), threading.Event()

    def handler(bar: Bar) -> None:
        if healed.is_set():
            go_on.wait(20)
        seen(bar)

    seen.failing = poison(0)
    running = start(market, handler, attempts=1)
    events.wait("entry.dead_lettered")
    seen.wait(lambda: seen.numbers() == [1])
    seen.failing = lambda bar: False
    healed.set()
    ask_again(market)
    lanes = running.app._desk.lanes
    eventually(lambda: lanes.replaying)
    beaten_ms = lanes.valid_until_ms
    eventually(lambda: lanes.valid_until_ms > beaten_ms + 300)
    go_on.set()
    events.wait("dead_letter.replayed")
    eventually(lambda: not lanes.replaying)
    market.publish(BTC, [2])
    seen.wait(lambda: 2 in seen.numbers())
    assert seen.numbers() == [1, 0, 2]


def test_a_letter_that_fails_again_is_kept_and_can_be_asked_for_once_more(
    market: Market, start: Start, events: Events
) -> None:
    market.publish(BTC, range(2))
    seen = Recorder()
    seen.failing = poison(0)
    start(market, seen, attempts=2)
    events.wait("entry.dead_lettered")
    tries = len(seen.calls)
    letter = ask_again(market)
    line = events.wait("dead_letter.replay_failed")
    assert (line["id"], "no taste" in line["error"]) == (letter, True)
    eventually(lambda: replays(market) == 0)
    assert len(letters(market)) == 1
    assert len([x for x in seen.calls if poison(0)(x)]) <= tries + 1
    seen.failing = lambda bar: False
    ask_again(market)
    events.wait("dead_letter.replayed")


def test_a_letter_that_cannot_be_handed_over_is_told_and_kept(
    market: Market, start: Start, events: Events
) -> None:
    market.client.xadd(market.keys.bars(BTC), {"bar": b"\xc1"}, id=f"{T0}-0")
    start(market, Recorder())
    events.wait("entry.dead_lettered")
    ask_again(market)
    assert "cannot be decoded" in events.wait("dead_letter.replay_failed")["error"]
    eventually(lambda: replays(market) == 0)
    assert len(letters(market)) == 1
    market.client.hset(market.keys.group("g", "replays"), "1-1", str(BTC))
    assert "no such dead letter" in events.wait("dead_letter.replay_failed", 2)["error"]
    eventually(lambda: replays(market) == 0)


def correct(market: Market, number: int, revision: int) -> None:
    name, payload = encode_bar(market.bar(BTC, number, revision=revision))
    market.client.xadd(market.keys.corrections(BTC), {name: payload})


def test_corrections_are_read_where_somebody_wants_them(market: Market, start: Start) -> None:
    market.publish(BTC, range(3))
    correct(market, 1, 1)
    seen, corrected = Recorder(), Recorder()

    def also(app: Consumer) -> None:
        app.on_correction(str(BTC))(corrected)

    start(market, seen, also=also)
    corrected.wait(lambda: len(corrected.bars) == 1)
    correct(market, 1, 2)
    corrected.wait(lambda: [x.revision for x in corrected.bars] == [1, 2])
    seen.wait(lambda: seen.numbers() == [0, 1, 2])
    key = market.keys.corrections(BTC)
    eventually(lambda: market.client.xpending(key, "g")["pending"] == 0)


def tell(market: Market, event: str, **fields: Any) -> None:
    text = orjson.dumps({"event": event, "at_ms": 1, "level": "info", **fields})
    market.client.xadd(market.keys.events, {"event": text})


def test_events_are_read_by_one_member_from_now_on_and_in_order(
    market: Market, start: Start, events: Events
) -> None:
    tell(market, "series.filled", series="old")
    seen: list[Mapping[str, Any]] = []

    def also(app: Consumer) -> None:
        app.on_event("series.*")(seen.append)

    for name in ("one", "two"):
        start(market, Recorder(), name=name, also=also)
    events.wait("series.attached", 2)
    for number in range(5):
        tell(market, "series.filled", series=f"S{number}")
        tell(market, "gap.abandoned")
    market.client.xadd(market.keys.events, {"event": b"[1]"})
    market.client.xadd(market.keys.events, {"other": b"{}"})
    tell(market, "series.removed", series="last")
    eventually(lambda: seen and seen[-1]["series"] == "last")
    assert [x["series"] for x in seen] == ["S0", "S1", "S2", "S3", "S4", "last"]
    events.wait("entry.dead_lettered", 2)
    assert {x[b"kind"] for x in letters(market)} == {b"events"}
    eventually(lambda: market.client.xpending(market.keys.events, "g")["pending"] == 0)


def test_a_dead_event_can_be_handed_over_again(
    market: Market, start: Start, events: Events
) -> None:
    healed: list[bool] = []
    seen: list[Mapping[str, Any]] = []

    def take(event: Mapping[str, Any]) -> None:
        if not healed:
            raise RuntimeError("not today")
        seen.append(event)

    start(market, Recorder(), attempts=1, also=lambda app: app.on_event("series.*")(take))
    events.wait("series.attached", 2)
    tell(market, "series.filled", series="X")
    events.wait("entry.dead_lettered")
    healed.append(True)
    ask_again(market)
    events.wait("dead_letter.replayed")
    assert [x["series"] for x in seen] == ["X"]
