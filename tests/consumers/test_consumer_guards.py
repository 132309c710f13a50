"""Guards that only one exact moment shows."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from consumer_world import BTC, ETH, FAST, MINUTE_MS, T0, Events, Market, Recorder, Running

from consumers import Bar, Consumer, Context, Tuning
from consumers.errors import GroupUnavailable
from consumers.shell import intake
from consumers.shell.group import Group, Served, Serving
from consumers.shell.membership import Membership
from consumers.shell.reader import Reader
from publisher.wire import encode_bar
from tests.waiting import eventually

Start = Callable[..., Running]


def test_a_reply_that_was_lost_is_asked_for_again(
    market: Market, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = Group.serve
    lost: list[int] = []

    def lossy(self: Group, requests: Sequence[Serving]) -> Any:
        outcomes = serve(self, requests)
        entries = sum(len(x.entries) for x in outcomes if isinstance(x, Served))
        if entries and None in [x.cursor for x in requests] and len(lost) < 3:
            lost.append(entries)
            raise GroupUnavailable("the reply was lost")
        return outcomes

    monkeypatch.setattr(Group, "serve", lossy)
    market.publish(BTC, range(250))
    seen = Recorder()
    running = start(market, seen)
    seen.wait(lambda: len(seen.bars) == 250)
    assert seen.numbers() == list(range(250))
    assert len(lost) == running.app.counts.bus_lost == 3
    assert running.app.counts.claimed == 0
    eventually(lambda: market.pending(BTC) == 0)


def test_what_the_server_gave_to_a_call_that_ran_late_is_handled_in_its_turn(
    market: Market, start: Start, events: Events
) -> None:
    key = market.keys.bars(BTC)
    market.publish(BTC, range(2))
    seen = Recorder()
    start(market, seen)
    seen.wait(lambda: seen.numbers() == [0, 1])
    eventually(lambda: market.pending(BTC) == 0)
    [member] = [x["name"] for x in market.client.xinfo_consumers(key, "g")]
    # A call of the member that it gave up on: the server runs it after all.
    late = market.client.pipeline(transaction=True)
    bar = market.bar(BTC, 2)
    late.xadd(key, dict([encode_bar(bar)]), id=f"{bar.open_time_ms}-0")
    late.xreadgroup("g", member, {key: ">"}, count=1)
    late.execute()
    market.publish(BTC, range(3, 5))
    seen.wait(lambda: len(seen.bars) == 5)
    assert seen.numbers() == list(range(5))
    eventually(lambda: market.pending(BTC) == 0)
    assert events.named("gap.seen") == []


def test_trimmed_entries_of_ones_own_are_acknowledged_at_once(
    market: Market, start: Start, events: Events
) -> None:
    key = market.keys.bars(BTC)
    market.publish(BTC, range(3))
    market.client.xgroup_create(key, "g", "0")
    market.client.xreadgroup("g", "me", {key: ">"}, count=2)
    market.client.xdel(key, f"{T0}-0", f"{T0 + MINUTE_MS}-0")
    seen = Recorder()
    start(market, seen, name="me")
    assert events.wait("entry.trimmed")["entries"] == 2
    seen.wait(lambda: seen.numbers() == [2])
    eventually(lambda: market.pending(BTC) == 0)


@pytest.mark.parametrize("destroy", ["group", "stream"])
def test_a_group_that_vanishes_during_a_blocking_read_is_made_again_with_the_next_bar(
    market: Market, start: Start, events: Events, destroy: str
) -> None:
    key = market.keys.bars(BTC)
    market.publish(BTC, [0])
    seen = Recorder()
    start(market, seen, tuning=Tuning(block_ms=4_000, catalogue_ms=4_000, repair_ms=20))
    seen.wait(lambda: len(seen.bars) == 1)
    eventually(lambda: market.pending(BTC) == 0)
    if destroy == "group":
        market.client.xgroup_destroy(key, "g")
    else:
        market.client.delete(key)
    market.publish(BTC, [1])
    events.wait("group.lost")
    seen.wait(lambda: 1 in seen.numbers())
    assert seen.numbers() == [0, 1]


def test_a_first_signal_stops_and_gives_the_signals_back(market: Market) -> None:
    before = signal.getsignal(signal.SIGTERM)
    market.publish(BTC, range(100))
    seen = Recorder()
    app = Consumer("g", "oldest", market.url, tuning=FAST)

    @app.on(str(BTC))
    def handle(bar: Bar) -> None:
        if len(seen.bars) == 3:
            signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) == before
        seen(bar)

    app.run()
    assert seen.numbers() == [0, 1, 2, 3]
    assert signal.getsignal(signal.SIGTERM) == before
    assert market.pending(BTC) == 96


def failing_once(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, failure: Callable[[Any], Any]
) -> list[int]:
    """Let the first call of a method give what `failure` makes of its reply."""
    call = getattr(owner, name)
    failed: list[int] = []

    def wrapped(self: Any, *arguments: Any) -> Any:
        reply = call(self, *arguments)
        if not failed and (changed := failure(reply)) is not None:
            failed.append(1)
            return changed
        return reply

    monkeypatch.setattr(owner, name, wrapped)
    return failed


def test_an_attempt_that_the_server_may_not_have_counted_is_counted_again(
    market: Market, start: Start, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    raise_attempt = Group.raise_attempt
    lost: list[int] = []

    def lossy(self: Group, key: str, token: int, entry: Any) -> int:
        if not lost:
            lost.append(1)
            raise GroupUnavailable("nothing was sent")
        return raise_attempt(self, key, token, entry)

    monkeypatch.setattr(Group, "raise_attempt", lossy)
    market.publish(BTC, range(2))
    attempts: list[int] = []
    seen = Recorder()
    seen.failing = lambda bar: bar.open_time_ms == T0 and len(attempts) < 3

    def handler(bar: Bar, context: Context) -> None:
        attempts.append(context.attempt)
        seen(bar)

    start(market, handler)
    seen.wait(lambda: seen.numbers() == [0, 1])
    assert attempts == [1, 2, 3, 1]
    events.wait("bus.lost")


@pytest.mark.parametrize("trouble", ["fenced", "lost", "refused"])
def test_what_befalls_a_stream_while_its_bar_waits_for_a_retry_is_noticed(
    market: Market, start: Start, events: Events, trouble: str
) -> None:
    key = market.keys.bars(BTC)
    market.publish(BTC, range(3))
    seen = Recorder()
    done: list[int] = []

    def handler(bar: Bar) -> None:
        if not done:
            done.append(1)
            if trouble == "fenced":
                market.client.xgroup_createconsumer(key, "g", "other#900")
            elif trouble == "lost":
                market.client.xgroup_destroy(key, "g")
            else:
                market.client.set(key, "not a stream")
            raise RuntimeError("again, please")
        seen(bar)

    start(market, handler)
    if trouble == "refused":
        events.wait("series.refused")
        market.client.delete(key)
        market.publish(BTC, range(3))
    else:
        events.wait("lease.lost" if trouble == "fenced" else "group.lost")
    seen.wait(lambda: seen.numbers() == [0, 1, 2])
    eventually(lambda: market.pending(BTC) == 0)


def test_acknowledgements_of_a_stream_that_could_not_be_served_now_are_sent_again(
    market: Market, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(reply: list[Any]) -> Any:
        return [GroupUnavailable("not now") for _ in reply]

    market.publish(BTC, [0])
    seen = Recorder()
    failed: list[list[int]] = []

    def handler(bar: Bar) -> None:
        if not failed:
            failed.append(failing_once(monkeypatch, Group, "serve", broken))
        seen(bar)

    running = start(market, handler)
    eventually(lambda: failed == [[1]])
    eventually(lambda: market.pending(BTC) == 0)
    market.publish(BTC, [1])
    seen.wait(lambda: seen.numbers() == [0, 1])
    assert running.app.counts.bus_lost == 1


@pytest.mark.parametrize("call", ["take_over", "create"])
def test_a_series_that_cannot_be_begun_now_is_begun_soon(
    market: Market, start: Start, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def broken(reply: dict[str, Any]) -> Any:
        return {key: GroupUnavailable("not now") for key in reply} if reply else None

    failed = failing_once(monkeypatch, Group, call, broken)
    market.publish(BTC, range(3))
    seen = Recorder()
    start(market, seen)
    seen.wait(lambda: seen.numbers() == [0, 1, 2])
    assert failed


def test_a_series_that_cannot_be_begun_now_holds_up_no_other(
    market: Market, start: Start, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    take_over = Group.take_over
    calls: list[int] = []

    def partly(self: Group, requests: Any) -> Any:
        reply = take_over(self, requests)
        if market.keys.bars(BTC) in reply:
            calls.append(1)
            reply[market.keys.bars(BTC)] = GroupUnavailable("not now")
        return reply

    with monkeypatch.context() as patch:
        patch.setattr(Group, "take_over", partly)
        market.publish(BTC, range(3))
        market.publish(ETH, range(3))
        seen = Recorder()
        running = start(market, seen, str(BTC), str(ETH))
        seen.wait(lambda: seen.numbers(ETH) == [0, 1, 2])
        eventually(lambda: len(calls) >= 2)
        assert seen.numbers(BTC) == []
        patch.undo()
        seen.wait(lambda: seen.numbers(BTC) == [0, 1, 2])
    assert running.app.counts.bus_lost == 0


def test_a_hand_over_that_failed_is_made_again(
    market: Market, start: Start, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    def broken(reply: list[Any]) -> Any:
        return [GroupUnavailable("not now") for _ in reply] or None

    failed = failing_once(monkeypatch, Group, "hand_over", broken)
    seen = Recorder()
    both = (str(BTC), str(ETH))
    start(market, seen, *both, name="one")
    events.wait("series.attached", 2)
    start(market, seen, *both, name="two")
    events.wait("series.attached", 3)
    assert failed
    for series in (BTC, ETH):
        market.publish(series, range(3))
    seen.wait(lambda: len(seen.bars) == 6)


def test_a_member_that_fails_lets_the_others_have_its_series_at_once(
    market: Market, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    market.publish(BTC, range(3))
    first, second = Recorder(), Recorder()
    one = start(market, first, name="one", lease_ms=60_000)
    first.wait(lambda: len(first.bars) == 3)

    def broken(self: Reader) -> int:
        raise RuntimeError("a bug of ours")

    with monkeypatch.context() as patch:
        patch.setattr(Reader, "attempt", broken)
        one.thread.join(20)
    [error] = one.errors
    assert str(error) == "a bug of ours"
    start(market, second, name="two", lease_ms=60_000)
    market.publish(BTC, [3])
    second.wait(lambda: 3 in second.numbers())


def test_a_member_that_fails_while_the_server_is_away_says_so(
    market: Market, start: Start, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    one = start(market, Recorder())
    events.wait("series.attached")

    def broken(self: Any) -> int:
        raise RuntimeError("a bug of ours")

    def away(self: Any) -> None:
        raise GroupUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(Membership, "leave", away)
        patch.setattr(Reader, "attempt", broken)
        one.thread.join(20)
    assert events.wait("group.left_dirty")["error"] == "away"
    assert [str(x) for x in one.errors] == ["a bug of ours"]


def test_a_gap_that_cannot_be_looked_into_now_is_told_as_it_seems(
    market: Market, start: Start, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    def translated() -> Any:
        raise GroupUnavailable("away")

    monkeypatch.setattr(intake, "translated", translated)
    market.publish(BTC, [0, 3])
    seen = Recorder()
    start(market, seen)
    seen.wait(lambda: seen.numbers() == [0, 3])
    assert events.wait("gap.seen")["reason"] == "missing"
    events.wait("gap.unjudged")
