"""How far a group is behind: the numbers by value, and of a real server in each case
in which the server's own `lag` is null, missing or wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from consumer_world import BTC, ETH, MINUTE_MS, T0, Market, Server
from hypothesis import given
from hypothesis import strategies as st

from bus.connection import Client, connect_writer
from bus.embedded import _binary
from consumers import lag
from consumers.core.ids import ZERO, EntryId
from consumers.core.lag import (
    NOTHING,
    Count,
    Ends,
    Lag,
    Progress,
    Quality,
    must_count,
    time_lag_ms,
    totals,
    unread,
)
from consumers.dead import DeadLetters
from consumers.errors import GroupUnavailable
from consumers.lag import GroupLag, LagReport, SeriesLag, group_names, read_lag
from publisher.wire import Series
from tests.bus.clusters import cluster_of

KEY = "tv:bars:{BTCUSDT-BINANCE-1m}"


def at(number: int) -> EntryId:
    return EntryId(T0 + number * MINUTE_MS)


def ends(first: int = 0, newest: int = 99, length: int | None = None) -> Ends:
    return Ends(newest - first + 1 if length is None else length, at(first), at(newest))


def after(number: int, lag: int | None = None) -> Progress:
    return Progress(at(number), 0, lag)


EMPTY = Ends(0, ZERO, ZERO)


@pytest.mark.parametrize(
    ("progress", "stream", "number"),
    [
        (Progress(ZERO, 0, None), ends(), 100),
        (Progress(at(4), 0, None), ends(first=10), 90),
        (after(9, lag=95), ends(first=10), 90),  # after a trim the server counts what is gone
        (after(99), ends(), 0),
        (after(99, lag=3), ends(), 0),  # and never comes down to 0
        (after(200), ends(), 0),
        (after(5), EMPTY, 0),
        (Progress(ZERO, 0, None), EMPTY, 0),
    ],
)
def test_at_the_ends_of_a_stream_nothing_needs_to_be_counted(
    progress: Progress, stream: Ends, number: int
) -> None:
    assert not must_count(stream, progress)
    assert unread(stream, progress) == (number, Quality.EXACT)


@pytest.mark.parametrize("server_lag", [None, 0, 7, 200])
@pytest.mark.parametrize(
    "count", [Count(1_000, 49, at(99)), Count(49, 49, at(99)), Count(49, 49, at(100))]
)
def test_what_was_counted_to_the_end_counts_whatever_the_server_says(
    server_lag: int | None, count: Count
) -> None:
    assert must_count(ends(), after(50))
    assert unread(ends(), after(50, server_lag), count) == (49, Quality.COUNTED)


def test_an_entry_that_was_deleted_behind_the_position_is_not_unread() -> None:
    assert unread(ends(length=80), after(50), Count(1_000, 29, at(99))) == (29, Quality.COUNTED)
    # All after the position were deleted but the last, then that one too.
    assert unread(ends(), after(98), Count(1_000, 0, None)) == (0, Quality.COUNTED)


@pytest.mark.parametrize(
    ("server_lag", "number"),
    [
        (49, 49),
        (99, 99),
        (10, 10),
        (9, 49),  # less than was counted
        (100, 49),  # the first entry was read, so 99 is the most
        (None, 49),
    ],
)
def test_beyond_the_count_the_server_is_believed_where_it_can_be_true(
    server_lag: int | None, number: int
) -> None:
    # By time: 10 counted up to bar 60; of the 99 after the first, 39/99 of the time is left.
    count = Count(10, 10, at(60))
    assert unread(ends(), after(50, server_lag), count) == (number, Quality.ESTIMATED)


def test_without_a_count_time_alone_tells() -> None:
    assert unread(ends(), after(50), NOTHING) == (49, Quality.ESTIMATED)
    assert unread(ends(length=11), after(49), NOTHING) == (5, Quality.ESTIMATED)


def test_an_estimate_is_at_least_what_was_counted_and_never_none() -> None:
    same = Ends(3, EntryId(T0, 0), EntryId(T0, 2))
    assert unread(same, Progress(EntryId(T0, 0), 0, None)) == (1, Quality.ESTIMATED)
    two = Ends(2, at(0), at(1))
    assert unread(two, after(0)) == (1, Quality.ESTIMATED)


@given(
    first=st.integers(0, 50),
    length=st.integers(0, 60),
    delivered=st.integers(0, 130),
    server_lag=st.none() | st.integers(-5, 300),
    limit=st.integers(0, 80),
)
def test_any_stream_and_position_has_a_number_within_the_stream(
    first: int, length: int, delivered: int, server_lag: int | None, limit: int
) -> None:
    stream = Ends(length, at(first), at(first + length - 1)) if length else EMPTY
    true = max(0, min(length, first + length - 1 - delivered))
    number = min(limit, true)
    count = Count(limit, number, at(delivered + number) if number else None)
    found, quality = unread(stream, after(delivered, server_lag), count)
    assert 0 <= found <= length
    assert (found > 0) == (true > 0)
    if quality < Quality.ESTIMATED:
        assert found == true


@pytest.mark.parametrize(
    ("stream", "acknowledged", "bars"),
    [
        (ends(), at(99), 0),
        (ends(), at(98), 1),
        (ends(), at(0), 99),
        (ends(), None, 100),
        (ends(), ZERO, 100),
        (ends(first=40), at(5), 60),
        (ends(), at(150), 0),
        (EMPTY, at(5), 0),
        (EMPTY, None, 0),
    ],
)
def test_the_time_lag_is_between_the_newest_and_the_last_acknowledged(
    stream: Ends, acknowledged: EntryId | None, bars: int
) -> None:
    assert time_lag_ms(stream, acknowledged, MINUTE_MS) == bars * MINUTE_MS


def test_a_group_is_as_far_behind_as_its_worst_series() -> None:
    rows = [
        Lag(5, 1, 300, 60_000, Quality.EXACT),
        Lag(7, 2, 100, 120_000, Quality.COUNTED),
    ]
    sums = totals(rows, complete=True)
    assert (sums.series, sums.unread, sums.pending) == (2, 12, 3)
    assert (sums.oldest_pending_ms, sums.time_lag_ms) == (300, 120_000)
    assert str(sums.quality) == "counted"
    assert str(totals(rows, complete=False).quality) == "at_least"
    assert totals([], complete=True).quality is Quality.EXACT


# Of a real server.


def group_of(market: Market, client: Client | None = None, **options: Any) -> GroupLag:
    found = read_lag(client or market.client, market.keys, [BTC, ETH], **options)
    [group] = [x for x in found.groups if x.group == "g"]
    return group


def row_of(market: Market, client: Client | None = None, **options: Any) -> Lag:
    [row] = [x for x in group_of(market, client, **options).series if x.name == str(BTC)]
    return row.lag


def server_lag(market: Market) -> int | None:
    """What the server itself says."""
    [info] = market.client.xinfo_groups(KEY)
    return info["lag"]


def take(market: Market, count: int, *, ack: bool = True, consumer: str = "host") -> None:
    """Read as another program would."""
    [[_, entries]] = market.client.xreadgroup("g", consumer, {KEY: ">"}, count=count)
    assert len(entries) == count
    if ack:
        market.client.xack(KEY, "g", *[x[0] for x in entries])


def begin(market: Market, after: str = "0", bars: int = 20) -> None:
    market.publish(BTC, range(bars))
    market.client.xgroup_create(KEY, "g", after)


def test_a_group_that_reads_from_the_oldest(market: Market) -> None:
    begin(market)
    assert row_of(market) == Lag(20, 0, 0, 20 * MINUTE_MS, Quality.EXACT)
    take(market, 8)
    assert row_of(market) == Lag(12, 0, 0, 12 * MINUTE_MS, Quality.COUNTED)
    take(market, 12)
    assert row_of(market) == Lag(0, 0, 0, 0, Quality.EXACT)


def test_a_group_created_in_the_middle(market: Market) -> None:
    begin(market, f"{at(7)}")
    assert server_lag(market) is None
    assert row_of(market) == Lag(12, 0, 0, 12 * MINUTE_MS, Quality.COUNTED)


def test_a_group_created_in_the_middle_of_an_empty_stream(market: Market) -> None:
    market.client.xgroup_create(KEY, "g", "5-0", mkstream=True)
    assert row_of(market) == Lag(0, 0, 0, 0, Quality.EXACT)


def test_an_entry_deleted_in_the_middle(market: Market) -> None:
    begin(market)
    take(market, 5)
    market.client.xdel(KEY, str(at(12)))
    assert server_lag(market) is None
    assert row_of(market) == Lag(14, 0, 0, 15 * MINUTE_MS, Quality.COUNTED)


def test_the_newest_entry_deleted(market: Market) -> None:
    begin(market)
    take(market, 5)
    market.client.xdel(KEY, str(at(19)))
    assert row_of(market) == Lag(14, 0, 0, 14 * MINUTE_MS, Quality.COUNTED)


def test_every_entry_deleted(market: Market) -> None:
    begin(market)
    take(market, 5, ack=False)
    market.client.xdel(KEY, *[str(at(x)) for x in range(20)])
    found = row_of(market)
    assert (found.unread, found.pending, found.time_lag_ms) == (0, 5, 0)


def test_the_last_id_of_the_stream_set_by_hand(market: Market) -> None:
    begin(market)
    take(market, 5)
    market.client.execute_command("XSETID", KEY, str(at(40)))
    assert row_of(market) == Lag(15, 0, 0, 15 * MINUTE_MS, Quality.COUNTED)
    market.client.execute_command(
        *("XSETID", KEY, str(at(40)), "ENTRIESADDED", 90, "MAXDELETEDID", str(at(30)))
    )
    assert server_lag(market) != 15
    assert row_of(market) == Lag(15, 0, 0, 15 * MINUTE_MS, Quality.COUNTED)


@pytest.mark.parametrize(("position", "number"), [(9, 10), (30, 0), (-3, 20)])
def test_the_position_of_the_group_set_by_hand(market: Market, position: int, number: int) -> None:
    begin(market)
    take(market, 5)
    market.client.xgroup_setid(KEY, "g", str(at(position)))
    assert row_of(market).unread == number
    assert row_of(market).time_lag_ms == number * MINUTE_MS


def test_trimmed_beyond_the_position(market: Market) -> None:
    begin(market)
    take(market, 5)
    market.client.xtrim(KEY, maxlen=6, approximate=False)
    assert row_of(market) == Lag(6, 0, 0, 6 * MINUTE_MS, Quality.EXACT)
    take(market, 6)
    # Some servers say 9 for ever.
    assert row_of(market) == Lag(0, 0, 0, 0, Quality.EXACT)


def test_trimmed_before_the_position(market: Market) -> None:
    begin(market)
    take(market, 12)
    market.client.xtrim(KEY, maxlen=10, approximate=False)
    assert row_of(market) == Lag(8, 0, 0, 8 * MINUTE_MS, Quality.COUNTED)


class OldServer:
    """A real server whose answers are those of Redis 6.2."""

    def __init__(self, client: redis.Redis) -> None:
        told = client.response_callbacks["XINFO GROUPS"]

        def older(reply: Any, **options: Any) -> Any:
            infos = told(reply, **options)
            return [{k: v for k, v in x.items() if k not in ("lag", "entries-read")} for x in infos]

        client.set_response_callback("XINFO GROUPS", older)
        self.client = client


@pytest.mark.parametrize("counted_max", [50_000, 4, 0])
def test_a_server_that_knows_no_lag(
    market: Market, shared_server: Server, counted_max: int
) -> None:
    begin(market)
    take(market, 8)
    with shared_server.client() as client:
        old = OldServer(client).client
        assert "lag" not in old.xinfo_groups(KEY)[0]
        found = row_of(market, old, counted_max=counted_max)
    assert (found.unread, found.time_lag_ms) == (12, 12 * MINUTE_MS)
    assert found.quality is (Quality.COUNTED if counted_max > 12 else Quality.ESTIMATED)


def test_what_is_handed_out_and_not_acknowledged(market: Market) -> None:
    begin(market)
    take(market, 5)
    take(market, 3, ack=False)
    market.client.xclaim(KEY, "g", "host", 0, [str(at(5))], idle=70_000, justid=True)
    found = row_of(market)
    assert (found.unread, found.pending) == (12, 3)
    assert found.time_lag_ms == 15 * MINUTE_MS
    assert 70_000 <= found.oldest_pending_ms < 130_000


def test_the_first_entry_pending_leaves_nothing_acknowledged(market: Market) -> None:
    begin(market)
    take(market, 20, ack=False)
    market.client.xack(KEY, "g", *[str(at(x)) for x in range(1, 20)])
    found = row_of(market)
    assert (found.unread, found.pending, found.time_lag_ms) == (0, 1, 20 * MINUTE_MS)


def test_pending_entries_that_were_trimmed_count_as_pending(market: Market) -> None:
    begin(market)
    take(market, 5, ack=False)
    market.client.xtrim(KEY, maxlen=4, approximate=False)
    found = row_of(market)
    assert (found.unread, found.pending, found.time_lag_ms) == (4, 5, 4 * MINUTE_MS)


def test_counting_ends_at_its_limit_and_goes_on_by_time(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lag, "COUNTED_EACH_MAX", 10)
    begin(market, f"{at(9)}", bars=100)
    assert row_of(market) == Lag(90, 0, 0, 90 * MINUTE_MS, Quality.ESTIMATED)
    assert row_of(market, counted_max=0) == Lag(90, 0, 0, 90 * MINUTE_MS, Quality.ESTIMATED)


def test_what_may_be_counted_is_shared_by_all(market: Market) -> None:
    begin(market, f"{at(9)}")
    market.publish(ETH, range(20))
    market.client.xgroup_create(market.keys.bars(ETH), "g", str(at(15)))
    read = {x.name: x.lag for x in group_of(market, counted_max=12).series}
    assert read[str(ETH)] == Lag(4, 0, 0, 4 * MINUTE_MS, Quality.COUNTED)
    assert read[str(BTC)].quality is Quality.ESTIMATED
    assert group_of(market).totals.unread == 14


def test_every_group_is_found_and_those_of_other_keys_are_not(market: Market) -> None:
    begin(market)
    market.client.xgroup_create(KEY, "a", "$")
    market.client.xgroup_create("tv:events", "watch", "0", mkstream=True)
    market.client.xadd("tv:events", {"event": "{}"})
    market.client.set(market.keys.bars(ETH), "mine")
    assert group_names(market.client, market.keys, [BTC, ETH]) == ["a", "g", "watch"]
    found = read_lag(market.client, market.keys, [BTC, ETH]).groups
    assert [x.group for x in found] == ["a", "g", "watch"]
    [events] = found[2].series
    assert (events.name, events.lag.unread, events.lag.time_lag_ms) == ("@events", 1, 0)
    assert group_names(market.client, market.keys, []) == ["watch"]


def test_a_bus_without_groups_has_none(market: Market) -> None:
    market.publish(BTC, range(3))
    assert read_lag(market.client, market.keys, [BTC, ETH]) == LagReport((), 0)


def test_members_and_holders_are_those_of_the_leases(market: Market) -> None:
    begin(market)
    seconds, _ = market.client.time()
    later, before = (seconds + 5) * 1000, (seconds - 5) * 1000
    market.client.hset(
        "tv:group:{g}:members",
        mapping={"one": f"{later} {later} f00 {BTC}", "gone": f"{before} {before} f00 {ETH}"},
    )
    market.client.hset("tv:group:{g}:leases", mapping={str(BTC): "one 17", str(ETH): "gone 3"})
    take(market, 1, consumer="stranger")
    found = group_of(market)
    assert found.members == 1
    assert [(x.name, x.holder) for x in found.series] == [(str(BTC), "one")]


def test_members_without_leases_are_those_that_asked_a_while_ago(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(market)
    take(market, 1, consumer="one")
    take(market, 1, consumer="two")
    take(market, 1, consumer="host#12")
    assert group_of(market).members == 2
    monkeypatch.setattr(lag, "MEMBER_IDLE_MS_MAX", -1)
    assert group_of(market).members == 0


def test_dead_letters_are_counted(market: Market) -> None:
    begin(market)
    assert group_of(market).dead_letters == 0
    for _ in range(3):
        market.client.xadd("tv:dead:{g}", {"reason": "x"})
    assert group_of(market).dead_letters == 3
    market.client.delete("tv:dead:{g}")
    market.client.set("tv:dead:{g}", "mine")
    market.client.set("tv:group:{g}:members", "mine")
    assert group_of(market).dead_letters == 0


def test_more_than_can_be_looked_at_is_told(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lag, "PAIRS_MAX", 2)
    begin(market)
    market.publish(ETH, range(3))
    for group in ("a", "g"):
        market.client.xgroup_create(market.keys.bars(ETH), group, "0")
    a, g = read_lag(market.client, market.keys, [BTC, ETH]).groups
    assert (a.totals.quality, a.totals.unread) == (Quality.EXACT, 3)
    assert (g.totals.quality, g.totals.unread) == (Quality.AT_LEAST, 20)


def test_groups_beyond_the_limit_are_counted(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lag, "GROUPS_MAX", 2)
    market.publish(BTC, range(3))
    for group in ("c", "a", "b", "d"):
        market.client.xgroup_create(KEY, group, "0")
    found = read_lag(market.client, market.keys, [BTC])
    assert [(x.group, x.totals.unread) for x in found.groups] == [("a", 3), ("b", 3)]
    assert found.left_out == 2


Race = Callable[[redis.Redis], object]


@pytest.mark.parametrize(
    "vanish",
    [
        lambda client: client.delete(KEY),
        lambda client: client.xgroup_destroy(KEY, "g"),
        lambda client: (client.delete(KEY), client.set(KEY, "mine")),
    ],
)
@pytest.mark.parametrize("step", ["XINFO STREAM", "XRANGE", "XPENDING", "XREVRANGE", "XLEN"])
def test_what_vanishes_on_the_way_is_no_failure(
    market: Market, monkeypatch: pytest.MonkeyPatch, vanish: Race, step: str
) -> None:
    begin(market)
    take(market, 5)
    take(market, 3, ack=False)
    asked = lag._run

    def run(client: Client, commands: Any) -> Any:
        if commands and commands[0][0] == step:
            vanish(market.client)
        return asked(client, commands)

    monkeypatch.setattr(lag, "_run", run)
    found = read_lag(market.client, market.keys, [BTC]).groups
    assert [x.group for x in found] == ["g"]
    assert all(isinstance(x, SeriesLag) for x in found[0].series)


def test_a_user_without_the_rights_is_told(market: Market, shared_server: Server) -> None:
    begin(market)
    take(market, 3, ack=False)
    for refused in ("xinfo|groups", "xpending", "xlen"):
        rights = ["~tv:*", "+@all", f"-{refused}"]
        market.client.execute_command("ACL", "SETUSER", "see", "reset", "on", ">hush", *rights)
        client = connect_writer(f"unix://see:hush@{shared_server.directory}/s")
        with pytest.raises(GroupUnavailable, match="permission"):
            read_lag(client, market.keys, [BTC])
        client.close()
    market.client.execute_command("ACL", "DELUSER", "see")


def test_a_server_that_is_gone_is_told(market: Market, own_server: Server) -> None:
    client = connect_writer(own_server.url)
    assert read_lag(client, market.keys, [BTC]).groups == ()
    own_server.kill()
    with pytest.raises(GroupUnavailable):
        read_lag(client, market.keys, [BTC])
    client.close()


def test_a_cluster_tells_the_same(tmp_path: Path) -> None:
    series = [Series(f"S{number**5}", "X", "1m") for number in range(20)]
    with cluster_of(str(_binary()), tmp_path, 3) as ports:
        client = connect_writer(f"redis+cluster://127.0.0.1:{ports[0]}")
        market = Market(client, "")
        for one in series:
            market.publish(one, range(10))
            client.xgroup_create(market.keys.bars(one), "g", str(at(4)))
        key = market.keys.bars(series[0])
        client.xreadgroup("g", "host", {key: ">"}, count=3)
        entry = client.xadd("tv:dead:{g}", {"reason": "x", "series": str(series[0])})
        [group] = read_lag(client, market.keys, series).groups
        assert group.totals.unread == 5 * 20 - 3
        assert (group.totals.pending, group.members, group.dead_letters) == (3, 1, 1)
        assert all(x.lag.time_lag_ms == 5 * MINUTE_MS for x in group.series)
        letters = DeadLetters(client, market.keys, "g")
        assert letters.replay(letters.find([entry.decode()])).asked == 1
        assert letters.drop([x.id for x in letters.walk()]) == 1
        client.close()
