"""Groups and streams that vanish, entries that were trimmed, servers that are replaced."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from consumer_world import (
    BTC,
    ETH,
    FAST,
    MINUTE_MS,
    T0,
    Events,
    Market,
    Recorder,
    Running,
    Server,
)

from consumers import Consumer, Gap, Tuning
from tests.bus.servers import free_port
from tests.waiting import eventually

Start = Callable[..., Running]


def kept(market: Market) -> dict[str, str]:
    found = market.client.hgetall(market.keys.group("g", "checkpoints"))
    return {name.decode(): text.decode() for name, text in found.items()}


def handled(market: Market, start: Start, count: int = 10) -> None:
    """A group that has handled so many bars and runs no more."""
    market.publish(BTC, range(count))
    seen = Recorder()
    running = start(market, seen)
    seen.wait(lambda: len(seen.bars) == count)
    running.stop()


# Groups and streams.


def test_the_position_is_kept_beside_the_stream(market: Market, start: Start) -> None:
    market.publish(BTC, range(3))
    seen = Recorder()
    running = start(market, seen)
    eventually(lambda: kept(market) == {str(BTC): f"{T0 + 2 * MINUTE_MS}-0"})
    market.publish(BTC, [3])
    seen.wait(lambda: len(seen.bars) == 4)
    running.stop()
    assert kept(market) == {str(BTC): f"{T0 + 3 * MINUTE_MS}-0"}


@pytest.mark.parametrize("lost", ["group", "stream"])
def test_what_vanished_while_nobody_ran_goes_on_at_the_position_that_was_kept(
    market: Market, start: Start, events: Events, lost: str
) -> None:
    handled(market, start, 10)
    key = market.keys.bars(BTC)
    if lost == "group":
        market.client.xgroup_destroy(key, "g")
        market.publish(BTC, range(10, 13))
    else:
        market.client.delete(key)
        market.publish(BTC, range(4, 13))
    seen = Recorder()
    start(market, seen, start="oldest")
    seen.wait(lambda: len(seen.bars) == 3)
    assert seen.numbers() == [10, 11, 12]
    told = events.wait("group.lost")
    assert told["resumed_after"] == f"{T0 + 9 * MINUTE_MS}-0"
    assert events.named("gap.seen") == []


def test_after_a_flush_while_nobody_ran_the_start_rule_counts(
    market: Market, start: Start, events: Events
) -> None:
    handled(market, start, 3)
    market.client.flushall()
    market.publish(BTC, range(5))
    seen = Recorder()
    start(market, seen, start="oldest")
    seen.wait(lambda: len(seen.bars) == 5)
    assert events.named("group.lost") == []


def test_a_flush_and_refill_while_members_run_repeats_nothing_and_loses_nothing(
    market: Market, start: Start, events: Events
) -> None:
    market.publish(BTC, range(10))
    market.publish(ETH, range(10))
    seen = Recorder()
    both = (str(BTC), str(ETH))
    for name in ("one", "two"):
        start(market, seen, *both, name=name)
    seen.wait(lambda: len(seen.bars) == 20)
    eventually(lambda: market.pending(BTC) == market.pending(ETH) == 0)
    eventually(lambda: {len(kept(market)), len(events.named("series.let_go"))} == {2, 1})
    market.client.flushall()
    for series in (BTC, ETH):
        market.publish(series, range(2, 15))
    seen.wait(lambda: all(14 in seen.numbers(x) for x in (BTC, ETH)))
    for series in (BTC, ETH):
        assert sorted(set(seen.numbers(series))) == list(range(15))
        eventually(lambda s=series: market.pending(s) == 0)


@pytest.mark.parametrize("lost", ["group", "stream"])
def test_a_quiet_stream_that_vanishes_is_noticed_and_made_again(
    market: Market, start: Start, events: Events, lost: str
) -> None:
    market.publish(BTC, range(3))
    seen = Recorder()
    start(market, seen)
    seen.wait(lambda: len(seen.bars) == 3)
    eventually(lambda: market.pending(BTC) == 0)
    if lost == "group":
        market.client.xgroup_destroy(market.keys.bars(BTC), "g")
    else:
        market.client.delete(market.keys.bars(BTC))
    events.wait("group.lost")
    eventually(lambda: market.pending(BTC) == 0)
    market.publish(BTC, [3])
    seen.wait(lambda: len(seen.bars) == 4)
    assert seen.numbers() == [0, 1, 2, 3]


def test_a_stream_that_cannot_be_made_again_is_no_hot_loop(
    market: Market, start: Start, events: Events
) -> None:
    seen = Recorder()
    start(market, seen, str(BTC), str(ETH), tuning=Tuning(block_ms=100, check_ms=50))
    events.wait("series.attached", 2)
    market.client.delete(market.keys.bars(BTC))
    market.client.set(market.keys.bars(BTC), "not a stream")
    assert events.wait("series.refused")["series"] == str(BTC)
    before = market.client.info("commandstats")
    market.publish(ETH, range(5))
    seen.wait(lambda: len(seen.numbers(ETH)) == 5)
    stats = market.client.info("commandstats")
    calls = sum(x["calls"] for x in stats.values()) - sum(x["calls"] for x in before.values())
    assert calls < 500
    assert len(events.named("series.refused")) == 1


def test_a_group_set_further_by_hand_is_no_hot_loop(
    market: Market, start: Start, events: Events
) -> None:
    key = market.keys.bars(BTC)
    market.publish(BTC, [0])
    seen = Recorder()
    running = start(market, seen, tuning=Tuning(check_ms=600_000))
    seen.wait(lambda: len(seen.bars) == 1)
    eventually(lambda: market.pending(BTC) == 0)
    market.client.xgroup_setid(key, "g", f"{T0 + 5 * MINUTE_MS}-0")
    market.publish(BTC, [3])
    source = next(iter(running.app._desk.lanes.by_name[str(BTC)].sources.values()))
    eventually(lambda: source.seen.ms == T0 + 5 * MINUTE_MS)
    market.publish(BTC, [6], previous_open_time_ms=T0 + 3 * MINUTE_MS)
    seen.wait(lambda: len(seen.bars) == 2)
    assert seen.numbers() == [0, 6]
    assert events.wait("gap.seen")["reason"] == "missing"


# Entries that were trimmed.


def with_gaps(gaps: list[Gap]) -> Callable[[Consumer], object]:
    return lambda app: app.on_gap("*")(gaps.append)


def test_bars_trimmed_unread_are_told_as_a_gap_before_the_next_bar(
    market: Market, start: Start, events: Events
) -> None:
    handled(market, start, 3)
    market.publish(BTC, range(3, 10))
    market.client.xtrim(market.keys.bars(BTC), minid=f"{T0 + 7 * MINUTE_MS}-0", approximate=False)
    gaps: list[Gap] = []
    seen = Recorder()
    told: list[int] = []
    start(market, lambda bar: (told.append(len(gaps)), seen(bar)), also=with_gaps(gaps))
    seen.wait(lambda: len(seen.bars) == 3)
    assert seen.numbers() == [7, 8, 9]
    assert gaps == [Gap(BTC, T0 + 2 * MINUTE_MS, T0 + 6 * MINUTE_MS, "trimmed")]
    assert told == [1, 1, 1]
    line = events.wait("gap.seen")
    assert (line["from_ms"], line["to_ms"], line["reason"]) == (
        T0 + 2 * MINUTE_MS,
        T0 + 6 * MINUTE_MS,
        "trimmed",
    )


def test_pending_bars_that_were_trimmed_are_told_as_a_gap_and_acknowledged(
    market: Market, start: Start
) -> None:
    key = market.keys.bars(BTC)
    market.publish(BTC, range(8))
    market.client.xgroup_create(key, "g", "0")
    market.client.xreadgroup("g", "gone", {key: ">"}, count=5)
    market.client.xack(key, "g", f"{T0}-0")
    market.client.xtrim(key, minid=f"{T0 + 3 * MINUTE_MS}-0", approximate=False)
    gaps: list[Gap] = []
    seen = Recorder()
    running = start(market, seen, also=with_gaps(gaps))
    seen.wait(lambda: len(seen.bars) == 5)
    assert seen.numbers() == [3, 4, 5, 6, 7]
    assert gaps == [Gap(BTC, T0 + MINUTE_MS - 1, T0 + 2 * MINUTE_MS, "trimmed")]
    assert running.app.counts.trimmed == 2
    eventually(lambda: market.pending(BTC) == 0)


def test_bars_that_the_publisher_abandoned_are_told_with_their_reason(
    market: Market, start: Start
) -> None:
    market.publish(BTC, [0])
    market.publish(BTC, [5], previous_open_time_ms=T0, gap=True)
    gaps: list[Gap] = []
    seen = Recorder()
    start(market, seen, also=with_gaps(gaps))
    seen.wait(lambda: seen.numbers() == [0, 5])
    assert gaps == [Gap(BTC, T0, T0 + 5 * MINUTE_MS - 1, "abandoned")]


def test_across_a_restart_bars_in_order_are_no_gap(
    market: Market, start: Start, events: Events
) -> None:
    handled(market, start, 3)
    handled(market, start, 0)
    market.publish(BTC, range(3, 6))
    seen = Recorder()
    start(market, seen)
    seen.wait(lambda: seen.numbers() == [3, 4, 5])
    assert events.named("gap.seen") == []


def test_across_a_restart_a_missing_bar_is_told(
    market: Market, start: Start, events: Events
) -> None:
    handled(market, start, 3)
    market.publish(BTC, [5])
    seen = Recorder()
    start(market, seen)
    seen.wait(lambda: seen.numbers() == [5])
    line = events.wait("gap.seen")
    assert (line["from_ms"], line["to_ms"]) == (T0 + 2 * MINUTE_MS, T0 + 4 * MINUTE_MS)


# Servers.


class Replicated(Server):
    """A server that also listens at a port, so that it can be replicated."""

    port = 0

    def start(self) -> None:
        self.port = self.port or free_port()
        super().start()

    def arguments(self) -> list[str]:
        return ["--port", str(self.port), "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0"]


@pytest.fixture
def pair(shared_server: Server) -> Iterator[tuple[Replicated, Replicated]]:
    with tempfile.TemporaryDirectory(prefix="tvbus-") as directory:
        servers = []
        for name in ("a", "b"):
            Path(directory, name).mkdir()
            servers.append(Replicated(shared_server.binary, Path(directory, name)))
            servers[-1].start()
        yield servers[0], servers[1]
        for server in servers:
            server.kill()


def test_a_promoted_replica_that_lagged_repeats_nothing_that_this_process_handled(
    pair: tuple[Replicated, Replicated], start: Start, events: Events
) -> None:
    primary, replica = pair
    with primary.client() as client, replica.client() as other:
        market = Market(client, primary.url)
        other.replicaof("127.0.0.1", primary.port)
        seen = Recorder()
        market.publish(BTC, range(10))
        running = start(market, seen)
        seen.wait(lambda: len(seen.bars) == 10)
        eventually(lambda: market.pending(BTC) == 0)
        client.set("after", "all of that")
        eventually(lambda: client.wait(1, 500) == 1)
        other.replicaof("NO", "ONE")  # what comes now it will not have
        market.publish(BTC, range(10, 15))
        seen.wait(lambda: len(seen.bars) == 15)
        eventually(lambda: market.pending(BTC) == 0)
        primary.kill()
        events.wait("bus.lost")
        shutil.move(replica.directory / "s", primary.directory / "s")
        promoted = Market(redis.Redis(unix_socket_path=f"{primary.directory}/s"), primary.url)
        promoted.publish(BTC, range(10, 20))  # as the publisher does, by its own record
        seen.wait(lambda: 19 in seen.numbers())
        assert seen.numbers() == list(range(20))
        eventually(lambda: promoted.pending(BTC) == 0)
        eventually(lambda: running.app.counts.repeated == 5)
        promoted.client.close()
        running.stop()


def test_two_members_go_on_after_a_restart_of_the_server(
    own_server: Server, start: Start, events: Events
) -> None:
    with own_server.client() as client:
        market = Market(client, own_server.url)
        seen = Recorder()
        both = (str(BTC), str(ETH))
        members = [start(market, seen, *both, name=x, tuning=FAST) for x in ("one", "two")]
        market.publish(BTC, range(50))
        market.publish(ETH, range(50))
        seen.wait(lambda: len(seen.bars) == 100)
        own_server.kill()
        events.wait("bus.lost", 2)
        own_server.start()
        market.publish(BTC, range(50, 100))
        market.publish(ETH, range(50, 100))
        seen.wait(lambda: all(99 in seen.numbers(x) for x in (BTC, ETH)))
        for series in (BTC, ETH):
            assert list(dict.fromkeys(seen.numbers(series))) == list(range(100))
            eventually(lambda s=series: market.pending(s) == 0)
        for member in members:
            member.stop()
