"""The series from being wanted to being live, and what TradingView does to them."""

from __future__ import annotations

import json

import pytest
from publisher_world import BTC, ETH, MINUTE_MS, NOW_MS, World, series_number, values

from publisher import engine, links, roster
from publisher.errors import ConnectionLost, Fenced, LocalProtocolError, StoreUnavailable
from publisher.ports import CommandRefused, Connected, Disconnected
from publisher.wire import Series


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TURN_MS_MAX", 1)


def live(*series: Series) -> World:
    world = World(*(series or (BTC,)))
    world.go_live(*(series or (BTC,)))
    return world


# What an entry says.


def test_every_field_of_a_bar_is_as_tradingview_and_the_clock_said() -> None:
    world = live()
    stream = world.store.bars[BTC]
    first, second = stream[NOW_MS - 2 * MINUTE_MS], stream[NOW_MS - MINUTE_MS]
    assert (first.previous_open_time_ms, first.closed_by, first.end_time_ms) == (
        None,
        "history",
        None,
    )
    assert second.previous_open_time_ms == NOW_MS - 2 * MINUTE_MS
    world.clock.wall += 61_500
    world.clock.monotonic += 61_500
    world.update(BTC, values(1, 200.0), end=2)
    world.turn(2)
    by_next = stream[NOW_MS]
    assert (by_next.closed_by, by_next.end_time_ms) == ("next", NOW_MS + MINUTE_MS)
    assert by_next.received_ms == NOW_MS + 61_500
    assert by_next.previous_open_time_ms == NOW_MS - MINUTE_MS
    assert (by_next.open, by_next.high, by_next.low, by_next.close, by_next.volume) == (
        100.0,
        102.0,
        98.0,
        101.0,
        5.0,
    )
    world.pass_ms(70_000)
    by_clock = stream[NOW_MS + MINUTE_MS]
    assert (by_clock.closed_by, by_clock.end_time_ms) == ("clock", NOW_MS + 2 * MINUTE_MS)
    assert NOW_MS + 2 * MINUTE_MS + 2_000 <= by_clock.received_ms <= NOW_MS + 2 * MINUTE_MS + 4_000
    assert not any(bar.gap or bar.revision for bar in stream.values())


def test_the_forming_bar_is_put_apart_and_never_among_the_closed_ones() -> None:
    world = live()
    world.pass_ms(1_000)
    world.update(BTC, values(0, 123.0))
    world.pass_ms(1_000)
    assert world.store.forming[-1].open == 123.0
    assert world.store.forming[-1].closed_by == "forming"
    assert world.store.times(BTC) == [-2, -1]


# The clock that closes bars.


def test_the_clock_closes_nothing_while_data_lies_unread() -> None:
    world = live()
    world.transport.stalled_ms = world.clock.monotonic
    world.pass_ms(120_000, step_ms=60_000)
    assert world.store.times(BTC) == [-2, -1]
    world.update(BTC, values(0, 500.0), end=1)
    world.turn()
    world.transport.stalled_ms = None
    world.pass_ms(1_000)
    assert world.store.bars[BTC][NOW_MS].open == 500.0


def test_the_clock_closes_nothing_on_a_connection_that_says_nothing() -> None:
    world = live()
    world.pass_ms(59_000)
    world.pass_ms(25_000, heartbeat=False)
    assert world.store.times(BTC) == [-2, -1]
    world.hear("~h~9")
    world.pass_ms(1_000, heartbeat=False)
    assert world.store.times(BTC) == [-2, -1, 0]


def test_the_clock_closes_nothing_in_the_middle_of_what_a_line_had_held_up() -> None:
    world = live()
    world.pass_ms(59_000)
    world.pass_ms(10_000, heartbeat=False)
    for base in (300.0, 400.0, 500.0):
        world.update(BTC, values(0, base), end=1)
        world.pass_ms(150, heartbeat=False)
        assert world.store.times(BTC) == [-2, -1]
    world.pass_ms(1_000, heartbeat=False)
    closed = world.store.bars[BTC][NOW_MS]
    assert (closed.open, closed.closed_by) == (500.0, "clock")
    assert world.store.corrections == []


def test_the_clock_closes_bars_also_where_data_never_pauses() -> None:
    world = live(BTC, ETH)
    world.pass_ms(59_000)
    for step in range(40):
        world.update(ETH, values(0, 100.0 + step))
        world.pass_ms(100, heartbeat=False)
    assert world.store.times(BTC) == [-2, -1, 0]


def test_the_clock_waits_for_what_is_in_the_inbox() -> None:
    world = live()
    world.pass_ms(59_000)
    world.clock.wall += 10_000
    world.clock.monotonic += 10_000
    for _ in range(engine.TURN_FACTS_MAX + 5):
        world.hear("~h~3")
    world.update(BTC, values(0, 500.0), end=1)
    world.turn()
    assert world.store.times(BTC) == [-2, -1]
    world.pass_ms(2_000)
    assert world.store.bars[BTC][NOW_MS].open == 500.0


def test_a_stalled_process_does_not_take_its_own_stall_for_silence() -> None:
    world = live()
    world.transport.stalled_ms = world.clock.monotonic
    world.clock.monotonic += 120_000
    world.clock.wall += 120_000
    world.turn(2)
    assert not world.store.told("session.lost")


# Series by series.


def test_an_unknown_symbol_is_refused_with_its_reason_and_the_others_go_on() -> None:
    world = World(BTC, ETH)
    world.connect()
    world.say("symbol_error", world.session_of(BTC), "sds_sym_1", "invalid symbol", stamped=True)
    world.say("series_error", world.session_of(BTC), "sds_1", "s1", "resolve error", stamped=True)
    world.fill(ETH, values(-1), values(0), end=1)
    assert world.store.lines[BTC].state == "refused"
    assert "does not know BINANCE:BTCUSDT" in world.store.lines[BTC].reason
    assert world.store.lines[ETH].state == "live"
    [told] = world.store.told("series.refused")
    assert told["level"] == "error"


def test_a_refused_series_is_asked_again_after_minutes_not_seconds() -> None:
    world = World(BTC, ETH)
    world.connect()
    world.fill(ETH, values(-1), values(0), end=1)
    world.say("symbol_error", world.session_of(BTC), "sds_sym_1", "invalid symbol", stamped=True)
    world.pass_ms(60_000, step_ms=5_000)
    assert world.asked().count(BTC) == 1
    for _ in range(20):
        if world.asked().count(BTC) < 2:
            world.pass_ms(5_000, step_ms=5_000)
    assert world.asked().count(BTC) == 2
    minutes = [values(m) for m in (0, 1)]
    world.fill(BTC, *minutes, end=10)
    assert world.store.lines[BTC].state == "live"


def test_refused_series_do_not_take_the_places_of_others() -> None:
    many = [series_number(i) for i in range(roster.FILLS_MAX + 3)]
    world = World(*many)
    world.connect()
    world.pass_ms(1_000)
    assert world.asked() == many[: roster.FILLS_MAX]
    for series in many[: roster.FILLS_MAX]:
        world.say("symbol_error", world.session_of(series), "sds_sym_1", "invalid symbol")
    world.pass_ms(1_000)
    assert set(world.asked()) == set(many)


def test_series_that_are_never_answered_do_not_keep_others_waiting() -> None:
    many = [series_number(i) for i in range(20)]
    world = World(*many)
    world.connect()
    world.pass_ms(roster.MUTE_MS_MAX * 3)
    assert set(world.asked()) == set(many)


def test_series_that_fail_again_and_again_leave_places_to_new_ones() -> None:
    many = [series_number(i) for i in range(40)]
    world = World(*many)
    world.connect()
    bad = set(many[:10])
    answered: set[Series] = set()
    for _ in range(120):
        for series in set(world.asked()) - bad - answered:
            answered.add(series)
            world.fill(series, values(-1), values(0), end=1)
        world.pass_ms(500)
    assert answered == set(many) - bad
    first = [many.index(series) for series in world.asked()]
    assert max(first.index(i) for i in range(10, 40)) < 60


def test_bars_that_wait_for_the_bus_outlive_a_refusal_by_tradingview() -> None:
    world = live()
    with world.bus_down():
        world.update(BTC, values(1), end=2)
        world.turn()
        world.say("critical_error", world.session_of(BTC), "no permission", "x")
        world.turn()
    assert world.store.times(BTC) == [-2, -1, 0]
    assert world.store.lines[BTC].state == "refused"


def test_a_series_that_breaks_as_soon_as_it_is_live_is_asked_ever_more_seldom() -> None:
    world = live()
    waits = []
    for _ in range(5):
        world.say("clear_data", world.session_of(BTC))
        world.turn()
        asked, began = len(world.asked()), world.clock.monotonic
        while len(world.asked()) == asked:
            world.pass_ms(100, step_ms=100)
        waits.append(world.clock.monotonic - began)
        world.fill(BTC, values(-1), values(0), end=1)
    assert waits[-1] > 4 * waits[0]


def test_a_series_that_was_live_for_long_is_asked_again_at_once() -> None:
    world = live()
    for minute in range(1, 6):
        world.say("clear_data", world.session_of(BTC))
        world.pass_ms(2_000, step_ms=500)
        asked = world.asked().count(BTC)
        assert asked == minute + 1
        world.fill(BTC, values(-1), values(0), end=10)
        world.pass_ms(roster.STEADY_MS + 1_000)
    assert world.store.times(BTC)[:2] == [-2, -1]


def test_a_reply_that_never_comes_interrupts_its_series_only() -> None:
    world = World(BTC, ETH)
    world.connect()
    world.fill(ETH, values(-1), values(0), end=1)
    world.pass_ms(33_000)
    [told] = world.store.told("series.interrupted")
    assert told["series"] == str(BTC)
    assert "no answer" in told["reason"]
    assert world.asked().count(ETH) == 1
    assert world.asked().count(BTC) == 2


def test_a_fill_that_does_not_reach_back_asks_for_more() -> None:
    world = World(BTC, history_bars=5)
    world.connect()
    world.fill(BTC, values(-1), values(0), end=1, exhausted=None)
    assert world.transport.sent[-1]["m"] == "request_more_data"
    world.update(BTC, *(values(m) for m in range(-6, -1)), kind="timescale_update")
    world.say(
        "series_completed", world.session_of(BTC), "sds_1", "streaming", "s1", {}, stamped=True
    )
    world.turn(2)
    assert world.store.times(BTC) == [-5, -4, -3, -2, -1]


def test_refused_values_and_what_is_missing_for_good_are_told() -> None:
    world = live()
    world.update(BTC, [*values(1)[:1], -5.0, -4.0, -6.0, -5.0, 1.0])
    world.turn(2)
    [told] = world.store.told("bar.refused")
    assert told["open_time_ms"] == NOW_MS + MINUTE_MS
    assert "negative" in told["reason"]
    world.disconnect(ConnectionLost("gone"))
    world.pass_ms(600_000, step_ms=60_000, heartbeat=False)
    world.connect()
    world.fill(BTC, values(9), values(10), end=11)
    [told] = world.store.told("gap.abandoned")
    assert (told["after_ms"], told["before_ms"]) == (NOW_MS - MINUTE_MS, NOW_MS + 9 * MINUTE_MS)
    assert world.store.bars[BTC][NOW_MS + 9 * MINUTE_MS].gap


def test_a_gap_is_told_before_the_bar_that_follows_it_is_written() -> None:
    world = live()
    world.disconnect(ConnectionLost("gone"))
    world.pass_ms(600_000, step_ms=60_000, heartbeat=False)
    world.connect()
    for number in range(200):
        world.engine.notes.tell("series.checked", number=number)
    world.store.fenced = True  # Before another event can follow the bar.
    with pytest.raises(Fenced):
        world.fill(BTC, values(9), values(10), end=11)
    assert len(world.store.told("gap.abandoned")) == 1


def test_values_refused_at_the_close_are_fetched_from_history() -> None:
    world = live()
    world.update(BTC, [values(0)[0], 1e100, 1e100, 1e100, 1e100, 1.0])
    world.update(BTC, values(1), end=2)
    world.turn(2)
    assert world.store.times(BTC) == [-2, -1]
    world.pass_ms(2_000)
    world.fill(BTC, values(-1), values(0, 77.0), values(1), end=2)
    assert world.store.bars[BTC][NOW_MS].open == 77.0


def test_a_substituted_source_and_a_delay_are_told_once() -> None:
    world = live()
    for _ in range(2):
        world.resolve(BTC, full_name="BATS:BTC", delay=900)
        world.turn()
    [told] = world.store.told("series.substituted")
    assert told["source"] == "BATS:BTC"
    [told] = world.store.told("series.delayed")
    assert (told["delay_ms"], told["end_of_day"]) == (900_000, False)
    assert world.store.hashes[BTC]["source"] == "BATS:BTC"


def test_a_stream_that_ends_in_the_future_is_refused_not_waited_for() -> None:
    world = World(BTC, ETH)
    world.store.bars[BTC] = {}
    future = world.store.bars[BTC]
    template = live().store.bars[BTC][NOW_MS - MINUTE_MS]
    future[NOW_MS + 10**10] = template
    world.connect()
    world.fill(ETH, values(-1), values(0), end=1)
    assert world.store.lines[BTC].state == "refused"
    assert "in the future" in world.store.lines[BTC].reason
    assert world.asked() == [ETH]


# Bars that TradingView lost on the way.


def test_a_jump_over_bars_is_looked_into_before_anything_newer_is_published() -> None:
    world = live()
    world.clock.wall += 4 * MINUTE_MS
    world.update(BTC, values(4), end=5)
    world.turn(2)
    assert world.asked() == [BTC, BTC]
    world.fill(BTC, *(values(m) for m in range(-2, 5)), end=5)
    assert world.store.times(BTC) == [-2, -1, 0, 1, 2, 3]
    assert not world.store.told("gap.abandoned")
    assert len(world.store.told("series.checked")) == 1


def test_a_jump_within_one_message_publishes_nothing_behind_it_either() -> None:
    world = live()
    world.clock.wall += 5 * MINUTE_MS
    world.update(BTC, values(3), values(4), end=5)
    world.turn(2)
    assert world.store.times(BTC) == [-2, -1, 0]
    world.turn(2)
    world.fill(BTC, *(values(m) for m in range(-2, 5)), end=6)
    assert world.store.times(BTC) == [-2, -1, 0, 1, 2, 3]


def test_bars_that_were_missed_make_the_others_be_looked_into_too() -> None:
    world = live(BTC, ETH)
    world.clock.wall += 4 * MINUTE_MS
    world.clock.monotonic += 20_000
    world.update(BTC, values(3), end=4)
    world.turn(2)
    assert world.asked().count(ETH) == 1
    world.fill(BTC, *(values(m) for m in range(-2, 4)), end=5)
    assert world.asked().count(ETH) == 2


def test_pauses_in_trading_are_looked_into_ever_more_seldom() -> None:
    world = live()
    for step in range(1, 40):
        minute = 3 * step
        world.clock.wall = NOW_MS + minute * MINUTE_MS
        world.pass_ms(3_000)
        before = world.asked().count(BTC)
        world.update(BTC, values(minute), end=minute + 1)
        world.turn(3)
        if world.asked().count(BTC) > before:
            world.fill(BTC, *(values(3 * s) for s in range(max(0, step - 5), step + 1)))
    assert world.asked().count(BTC) < 10
    assert world.store.times(BTC) == [-2, -1, *range(0, 117, 3)]


# The connection.


def test_reconnecting_waits_longer_each_time_until_a_bar_came() -> None:
    world = live()
    waits = []
    for _ in range(8):
        world.disconnect(ConnectionLost("gone"))
        opened, began = len(world.transport.opened), world.clock.monotonic
        while len(world.transport.opened) == opened:
            world.pass_ms(50, step_ms=50, heartbeat=False)
        waits.append(world.clock.monotonic - began)
        world.inbox.put(Connected(world.transport.opened[-1]))
        world.hear(json.dumps({"session_id": "x", "timestampMs": world.clock.wall}))
        world.turn(2)
    assert waits[-1] > 10 * waits[0]
    assert max(waits) <= links.RECONNECT_MS_MAX
    world.fill(BTC, values(-1), values(0), end=1)
    world.disconnect(ConnectionLost("gone"))
    assert world.store.told("session.lost")[-1]["retry_in_ms"] <= links.RECONNECT_BASE_MS


def test_what_an_old_connection_still_says_concerns_nobody() -> None:
    world = live()
    old = world.transport.opened[-1]
    world.disconnect(ConnectionLost("gone"))
    world.inbox.put(Disconnected(old, ConnectionLost("gone again")))
    world.inbox.put(Connected(old))
    world.turn(2)
    assert len(world.store.told("session.lost")) == 1
    assert not world.engine.status.connected


def test_a_connection_that_says_nothing_at_all_is_made_anew() -> None:
    world = World(BTC)
    world.turn()
    assert world.transport.opened == [1]
    world.pass_ms(links.CONNECTING_MS_MAX + 1_000, heartbeat=False, step_ms=5_000)
    assert len(world.transport.opened) == 2
    world.inbox.put(Connected(world.transport.opened[-1]))
    world.turn()
    world.pass_ms(11_000, heartbeat=False)
    assert "no hello" in world.store.told("session.lost")[0]["reason"]


def test_silence_ends_the_connection() -> None:
    world = live()
    world.pass_ms(31_000, heartbeat=False)
    assert "nothing received" in world.store.told("session.lost")[0]["reason"]


@pytest.mark.parametrize("payload", ["{", "[]", '{"m":7}'])
def test_what_is_no_message_ends_the_connection_and_what_follows_is_not_read(payload: str) -> None:
    world = live()
    world.hear(payload, "~h~1")
    world.turn()
    assert len(world.store.told("session.lost")) <= 1
    assert not world.engine.status.connected


def test_a_protocol_error_ends_the_connection_with_tradingviews_words() -> None:
    world = live()
    world.say("protocol_error", "wrong data")
    world.hear("~h~1", "~h~2")
    world.turn(2)
    assert "wrong data" in world.store.told("session.lost")[0]["reason"]


def test_unknown_messages_are_counted_and_change_nothing() -> None:
    world = live()
    world.say("brand_new", 1)
    world.turn()
    assert world.engine.status.counts["message.unknown"] == 1
    assert world.engine.status.connected


def test_nothing_is_connected_to_while_nothing_is_wanted() -> None:
    world = World()
    world.turn(3)
    assert world.transport.opened == []
    world.command("subscribe", str(BTC))
    assert world.transport.opened == [1]


def test_a_program_error_of_our_own_stops_the_engine() -> None:
    world = live()
    session = world.engine._dialogue.links.clock
    assert session is not None
    with pytest.raises(LocalProtocolError):
        session.request_more(ETH, 5, 0)


def test_a_lease_that_cannot_be_renewed_is_tried_again_and_counts_as_trouble() -> None:
    world = live()
    world.lease.error = StoreUnavailable("away")
    world.pass_ms(2_000)
    assert "away" in world.engine.status.store_trouble
    world.lease.error = None
    world.pass_ms(10_000)
    assert world.engine.status.store_trouble == ""


# Commands.


def test_a_subscription_is_answered_once_its_series_is_live() -> None:
    world = live()
    world.command("subscribe", str(ETH))
    assert world.replies() == []
    world.turn(2)
    world.fill(ETH, values(-1), values(0), end=1)
    [reply] = world.replies()
    assert (reply.series, reply.accepted) == (str(ETH), True)
    assert "1 bars of history" in reply.message
    assert world.store.lines[ETH].wanted_by == "command"
    assert world.store.commands_read == "1-0"


@pytest.mark.parametrize(
    ("text", "reason"),
    [("nonsense", "is not a series"), ("A-B-7x", "interval must be one of"), ("", "is not")],
)
def test_a_bad_text_is_answered_with_what_was_expected(text: str, reason: str) -> None:
    world = live()
    world.command("subscribe", text, str(BTC))
    bad, good = world.replies()
    assert (bad.series, bad.accepted) == (text, False)
    assert reason in bad.message
    assert (good.accepted, good.message) == (True, "live")


def test_an_unknown_symbol_is_answered_with_the_reason_each_time() -> None:
    world = live()
    for request in ("r1", "r2"):
        world.command("subscribe", str(ETH), request=request)
        world.turn(2)
        world.say("symbol_error", world.session_of(ETH), "sds_sym_1", "invalid symbol")
        world.turn(2)
        [reply] = world.replies(request)
        assert not reply.accepted
        assert "does not know BINANCE:ETHUSDT" in reply.message


def test_what_is_unsubscribed_is_removed_and_says_so() -> None:
    world = live(BTC, ETH)
    session = world.session_of(BTC)
    world.command("unsubscribe", str(BTC), "GOLD-TVC-1D")
    removed, unknown = world.replies()
    assert (removed.accepted, removed.message) == (True, "removed")
    assert not unknown.accepted
    assert "was not published" in unknown.message
    assert world.store.lines[BTC].state == "removed"
    assert {"m": "chart_delete_session", "p": [session]} in world.transport.sent
    world.say("du", session, {"sds_1": {"s": [{"i": 0, "v": values(1)}], "t": "s1"}})
    world.turn(2)
    assert world.store.times(BTC) == [-2, -1]


def test_a_subscription_that_is_taken_back_is_answered_too() -> None:
    world = live()
    world.command("subscribe", str(ETH), request="r1")
    world.command("unsubscribe", str(ETH), request="r2")
    [reply] = world.replies("r1")
    assert (reply.accepted, reply.message) == (False, "unsubscribed meanwhile")


def test_unsubscribing_works_without_a_connection() -> None:
    world = live()
    world.disconnect(ConnectionLost("gone"))
    world.command("unsubscribe", str(BTC))
    assert world.replies()[0].accepted


def test_a_series_of_the_settings_that_is_subscribed_outlives_its_name_there() -> None:
    world = live()
    assert world.store.lines[BTC].wanted_by == "settings"
    world.command("subscribe", str(BTC))
    assert world.store.lines[BTC].wanted_by == "command"


def test_more_series_than_one_publisher_takes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "SERIES_MAX", 1)
    world = live()
    world.command("subscribe", str(ETH))
    assert "1 series are published already" in world.replies()[0].message


def test_a_command_that_cannot_be_understood_is_told_answered_and_passed() -> None:
    world = live()
    world.inbox.put(CommandRefused("r9", "action must be subscribe", "5-0"))
    world.inbox.put(CommandRefused(None, "command is malformed", "6-0"))
    world.turn(2)
    [reply] = world.replies("r9")
    assert (reply.accepted, reply.message) == (False, "action must be subscribe")
    assert len(world.store.told("command.refused")) == 2
    assert world.store.commands_read == "6-0"


def test_a_subscription_made_again_after_a_restart_changes_nothing() -> None:
    world = live()
    for entry in ("1-0", "1-0"):
        world.command("subscribe", str(BTC), entry=entry)
    assert [reply.message for reply in world.replies()] == ["live", "live"]
    assert world.asked() == [BTC]
