"""What waits for the bus, through the bus's failures."""

from __future__ import annotations

import random

import pytest
from publisher_world import BTC, ETH, MINUTE_MS, NOW_MS, World, series_number, values

from publisher import delivery, engine, roster
from publisher.errors import (
    AppendUnknown,
    Fenced,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    StreamDiverged,
)
from publisher.publication import Publication
from publisher.wire import Bar, Series, Summary


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TURN_MS_MAX", 1)


def live(*series: object) -> World:
    world = World(*(series or (BTC,)))  # type: ignore[arg-type]
    world.go_live(*(series or (BTC,)))  # type: ignore[arg-type]
    return world


def test_closed_bars_wait_while_the_bus_is_away_and_follow_in_order() -> None:
    world = live()
    with world.bus_down():
        for minute in range(1, 6):
            world.pass_ms(MINUTE_MS, step_ms=20_000)
            world.update(BTC, values(minute), end=minute + 1)
            world.turn()
        assert world.store.times(BTC) == [-2, -1]
        assert world.engine.status.waiting_bars == 5
    assert world.store.times(BTC) == [-2, -1, 0, 1, 2, 3, 4]
    assert len(world.store.told("store.lost")) == 1
    assert len(world.store.told("store.found")) == 1


def test_updates_of_a_forming_bar_are_conflated_while_the_bus_is_away() -> None:
    world = live()
    world.pass_ms(1_000)
    before = len(world.store.forming)
    with world.bus_down():
        for step in range(50):
            world.update(BTC, values(0, 100 + step))
            world.turn()
    assert [bar.open for bar in world.store.forming[before:]] == [149.0]


def test_events_beyond_the_bound_are_dropped_and_their_number_is_told() -> None:
    world = live()
    with world.bus_down():
        for _ in range(delivery.EVENTS_WAITING_MAX + 50):
            world.engine.notes.tell("test.happened")
        world.turn()
    [told] = world.store.told("event.dropped")
    assert 50 <= told["dropped"] < 70
    assert world.engine.notes.counts["event.dropped"] == told["dropped"]
    assert len(world.store.told("test.happened")) > 900
    world.turn()
    assert world.engine.status.counts["event.dropped"] >= 1


def test_bars_beyond_the_bound_are_let_go_and_fetched_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "OUTBOX_BARS_MAX", 3)
    monkeypatch.setattr(roster, "OUTBOX_BARS_MAX", 3)
    world = live()
    with world.bus_down():
        for minute in range(1, 6):
            world.pass_ms(MINUTE_MS, step_ms=20_000)
            world.update(BTC, values(minute), end=minute + 1)
            world.turn()
        assert world.engine.status.waiting_bars <= 3
        assert world.asked() == [BTC]
    assert world.asked() == [BTC, BTC]
    world.fill(BTC, *(values(minute) for minute in range(-2, 7)), end=7)
    assert world.store.times(BTC) == list(range(-2, 6))


def test_one_series_that_cannot_be_written_now_does_not_undo_what_was_written() -> None:
    world = live(BTC, ETH)
    world.store.refused[BTC] = StoreUnavailable("Redis does not take bars now: MISCONF")
    for series in (BTC, ETH):
        world.update(series, values(1), end=2)
    world.turn(2)
    assert world.store.times(ETH) == [-2, -1, 0]
    assert "MISCONF" in world.engine.status.store_trouble
    world.store.refused.clear()
    world.pass_ms(5_000)
    assert world.store.times(BTC) == [-2, -1, 0]
    assert [entry[1] for entry in world.store.order if entry[2] == NOW_MS] == [ETH, BTC]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (StoreRefused("key tv:forming:{BTC} holds a set"), "refused"),
        (StoreUnavailable("OOM"), "live"),
        (StreamDiverged("not as left"), "filling"),
    ],
)
def test_a_forming_bar_that_cannot_be_put_harms_no_other_series(
    error: StoreError, state: str
) -> None:
    world = live(BTC, ETH)
    put = world.store.put_forming
    world.store.put_forming = lambda token, bars: [  # type: ignore[method-assign]
        error if bar.series == BTC else put(token, [bar])[0] for bar in bars
    ]
    world.pass_ms(1_000)
    world.update(BTC, values(0, 1.0))
    world.update(ETH, values(0, 2.0))
    world.pass_ms(3_000)
    assert world.store.forming[-1].open == 2.0
    world.store.__dict__.pop("put_forming")
    world.pass_ms(3_000)
    assert world.store.lines[BTC].state == state
    assert world.store.lines[ETH].state == "live"


def test_a_foreign_series_hash_refuses_its_series_only() -> None:
    world = live(BTC, ETH)
    describe = world.store.describe

    def refuse(token: int, series: Series, fields: dict[str, str]) -> None:
        if series == BTC:
            raise StoreRefused("key tv:series:{BTC} holds a list")
        describe(token, series, fields)

    world.store.describe = refuse  # type: ignore[method-assign]
    for series in (BTC, ETH):
        world.resolve(series, description="new")
    world.turn(5)
    assert world.store.lines[BTC].state == "refused"
    assert world.store.lines[ETH].state == "live"
    assert world.engine.notes.counts["series.refused"] == 1


def test_an_append_whose_reply_was_lost_is_sent_again_and_stands_once() -> None:
    world = live()
    world.store.replies_lost = 1
    world.update(BTC, values(1), end=2)
    world.turn()
    assert world.engine.status.waiting_bars == 1
    world.pass_ms(5_000)
    assert world.store.times(BTC) == [-2, -1, 0]
    assert world.engine.status.waiting_bars == 0
    assert [entry for entry in world.store.order if entry[2] == NOW_MS] == [("bar", BTC, NOW_MS)]


def test_a_fenced_append_stops_the_engine() -> None:
    world = live()
    world.store.fenced = True
    world.update(BTC, values(1), end=2)
    with pytest.raises(Fenced):
        world.turn(2)


def test_a_lost_lease_stops_the_engine_before_it_writes() -> None:
    world = live()
    world.lease.held = False
    world.clock.monotonic += engine.RENEW_MS
    world.update(BTC, values(1), end=2)
    with pytest.raises(Fenced):
        world.turn()
    assert world.store.times(BTC) == [-2, -1]


def test_a_stream_that_is_not_as_left_is_read_again_and_refilled() -> None:
    world = live()
    del world.store.bars[BTC][NOW_MS - MINUTE_MS]
    world.update(BTC, values(1), end=2)
    world.turn(2)
    world.pass_ms(2_000)
    assert world.asked() == [BTC, BTC]
    world.fill(BTC, values(-2), values(-1), values(0), values(1), end=2)
    assert world.store.times(BTC) == [-2, -1, 0]
    [told] = world.store.told("series.interrupted")
    assert "not as" in told["reason"]


def test_a_series_whose_keys_are_foreign_is_refused_and_the_others_go_on() -> None:
    world = live(BTC, ETH)
    world.store.refused[BTC] = StoreRefused("key tv:bars:{BTC} holds a list")
    for series in (BTC, ETH):
        world.update(series, values(1), end=2)
    world.turn(3)
    assert world.store.times(ETH)[-1] == 0
    assert world.store.lines[BTC].state == "refused"
    assert "holds a list" in world.store.lines[BTC].reason
    world.store.refused.clear()
    while world.asked().count(BTC) < 2:
        world.pass_ms(10_000, step_ms=10_000)
        assert world.clock.wall < NOW_MS + 1_000_000
    world.fill(BTC, values(-1), values(0), values(1), end=10)
    assert world.store.times(BTC) == [-2, -1, 0]


def test_a_foreign_corrections_key_refuses_its_series_once_not_again_and_again() -> None:
    world = live(BTC, ETH)
    world.store.failing["put_correction"] = StoreRefused("key tv:corrections:{BTC} holds a set")
    world.update(BTC, values(-1, 90.0))
    world.turn(10)
    assert len(world.store.told("series.refused")) == 1
    assert world.engine.notes.counts["series.refused"] == 1
    assert [told["corrections"] for told in world.store.told("correction.dropped")] == [1]


@pytest.mark.parametrize("call", ["list_series", "emit"])
def test_a_foreign_key_that_belongs_to_no_series_stops_no_bar(call: str) -> None:
    world = World(BTC)
    world.store.failing[call] = StoreRefused("key holds a string")
    world.go_live(BTC)
    world.update(BTC, values(1), end=2)
    world.turn(3)
    assert world.store.times(BTC) == [-2, -1, 0]
    assert "key holds a string" in world.engine.status.store_trouble
    assert world.engine.notes.counts["store.refused"] == 1
    del world.store.failing[call]
    world.pass_ms(delivery.REFUSED_MS + 1_000, step_ms=10_000)
    assert world.store.lines[BTC].state == "live"
    assert world.store.told("series.filled")
    assert world.engine.status.store_trouble == ""


def test_an_answer_that_nobody_can_be_given_delays_nothing() -> None:
    world = live()
    world.store.failing["answer"] = StoreRefused("key tv:replies:r1 holds a string")
    world.command("subscribe", str(BTC))
    assert world.store.commands_read == "1-0"
    assert world.engine.status.counts["answer.dropped"] >= 1


def test_a_long_history_does_not_delay_the_newest_bar_of_others() -> None:
    world = World()
    publications = {}
    for number in range(9):
        series = series_number(number)
        publication = publications[series] = Publication(series, "settings")
        previous_ms = None
        for minute in range(3_000 if number < 8 else 1):
            bar = closed(series, minute, previous_ms)
            previous_ms = bar.open_time_ms
            publication.outbox.append(bar)
    carried = delivery.Delivery(world.store, 7, world.clock, random.Random(1))
    carried.flush(publications)
    carried.flush(publications)
    assert world.store.times(series_number(8)) == [0]


def closed(series: Series, minute: int, previous_ms: int | None) -> Bar:
    at_ms = NOW_MS + minute * MINUTE_MS
    return Bar(series, at_ms, 1, 2, 0, 1, None, None, previous_ms, at_ms, "next")


def test_an_outage_is_waited_out_from_its_end_not_from_its_beginning() -> None:
    world = live()
    calls = []

    def hang(*_: object) -> object:
        calls.append(world.clock.monotonic)
        world.clock.monotonic += 5_000  # a bus that does not answer takes its time
        raise StoreUnavailable("timed out")

    world.store.append = hang  # type: ignore[method-assign, assignment]
    world.update(BTC, values(1), end=2)
    world.turn()
    world.turn(20)
    assert len(calls) == 1
    world.clock.monotonic += 200
    world.turn()
    assert len(calls) == 2


def test_a_correction_follows_its_bar_never_the_other_way_round() -> None:
    world = live()
    with world.bus_down():
        world.update(BTC, values(1), end=2)
        world.turn()
        world.update(BTC, values(0, 50.0))
        world.turn()
    at = NOW_MS
    assert [entry for entry in world.store.order if entry[2] == at] == [
        ("bar", BTC, at),
        ("correction", BTC, at),
    ]
    [(entry_ms, bar)] = world.store.corrections
    assert (bar.open, bar.revision, entry_ms >= bar.received_ms) == (50.0, 1, True)


def test_two_corrections_of_the_same_moment_get_rising_ids() -> None:
    world = live()
    world.update(BTC, values(-1, 50.0))
    world.update(BTC, values(-1, 51.0))
    world.turn(2)
    ids = [entry_ms for entry_ms, _ in world.store.corrections]
    assert len(ids) == 2
    assert ids[0] < ids[1]
    assert [bar.revision for _, bar in world.store.corrections] == [1, 2]


def test_a_correction_whose_reply_was_lost_keeps_its_id() -> None:
    world = live()
    done = world.store.put_correction

    def lose(token: int, bar: object, entry_ms: int) -> None:
        done(token, bar, entry_ms)  # type: ignore[arg-type]
        world.store.__dict__.pop("put_correction")
        raise AppendUnknown("the reply was lost")

    world.store.put_correction = lose  # type: ignore[method-assign]
    world.update(BTC, values(-1, 50.0))
    world.turn(2)
    world.pass_ms(3_000)
    ids = [entry_ms for entry_ms, _ in world.store.corrections]
    assert len(ids) == 2
    assert ids[0] == ids[1]


def test_a_diverged_corrections_stream_is_read_again() -> None:
    world = live()
    world.store.failing["put_correction"] = StreamDiverged("not as left")
    world.update(BTC, values(-1, 50.0))
    world.turn(2)
    del world.store.failing["put_correction"]
    world.pass_ms(3_000)
    world.fill(BTC, values(-2), values(-1, 50.0), values(0), end=1)
    assert [bar.open for _, bar in world.store.corrections] == [50.0]


def test_a_bus_that_comes_back_without_its_newest_bars_is_noticed_at_once() -> None:
    world = live()
    with world.bus_down():
        world.pass_ms(2_000)
        del world.store.bars[BTC][NOW_MS - MINUTE_MS]
    world.pass_ms(3_000)
    assert world.asked() == [BTC, BTC]
    world.fill(BTC, values(-2), values(-1), values(0), end=1)
    assert world.store.times(BTC) == [-2, -1]


def test_a_bus_that_comes_back_without_its_newest_corrections_is_noticed_at_once() -> None:
    world = live()
    world.update(BTC, values(-1, 50.0))
    world.turn(2)
    with world.bus_down():
        world.pass_ms(2_000)
        world.store.corrections.clear()
    world.pass_ms(3_000)
    assert world.asked() == [BTC, BTC]
    world.fill(BTC, values(-2), values(-1, 50.0), values(0), end=1)
    assert [bar.open for _, bar in world.store.corrections] == [50.0]


def test_a_stream_that_was_evicted_is_filled_again_within_a_minute_without_its_next_bar() -> None:
    world = live()
    world.store.bars[BTC].clear()
    world.pass_ms(59_000)
    world.pass_ms(3_000)
    assert world.asked() == [BTC, BTC]
    world.fill(BTC, values(-2), values(-1), values(0), values(1), end=2)
    assert world.store.times(BTC)[-2:] == [-1, 0]


def test_a_bus_that_comes_back_as_it_was_costs_no_request() -> None:
    world = live()
    world.update(BTC, values(-1, 50.0))
    world.turn(2)
    with world.bus_down():
        world.pass_ms(2_000)
    world.pass_ms(5_000)
    assert world.asked() == [BTC]


def test_a_line_of_the_catalogue_that_another_wrote_does_not_stay() -> None:
    world = live()
    world.pass_ms(1_000)
    world.store.lines[BTC] = Summary(BTC, "filling")
    world.pass_ms(61_000)
    assert world.store.lines[BTC].state == "live"


def test_a_bus_that_cannot_be_read_but_written_is_not_asked_in_a_tight_loop() -> None:
    world = World(BTC)
    world.store.failing["stream_end"] = StoreUnavailable("no permission for XINFO")
    world.connect()
    world.pass_ms(20_000, step_ms=200)
    assert 1 <= world.engine.notes.counts["store.lost"] <= 8
    del world.store.failing["stream_end"]
    world.pass_ms(20_000)
    assert world.asked() == [BTC]


def test_a_command_with_thousands_of_series_has_every_one_answered() -> None:
    world = live()
    texts = [f"X{i}-BINANCE-1m" for i in range(3_000)]
    world.command("unsubscribe", *texts)
    for _ in range(40):
        world.turn()
    assert [answer.series for answer in world.replies()] == texts


def test_answers_beyond_the_bound_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "ANSWERS_WAITING_MAX", 200)
    world = live()
    with world.bus_down():
        world.command("unsubscribe", *(f"X{i}-BINANCE-1m" for i in range(1_000)))
    assert len(world.replies()) <= 200
    assert sum(told["dropped"] for told in world.store.told("answer.dropped")) >= 800


def test_a_clean_stop_carries_what_waits_and_gives_the_lease_back() -> None:
    world = live()
    world.update(BTC, values(1), end=2)
    stop = FlagAfter(1)
    world.engine.run(stop)  # type: ignore[arg-type]
    assert world.store.times(BTC) == [-2, -1, 0]
    assert world.lease.released == 1
    assert world.transport.closed >= 1
    assert world.store.told("publisher.stopped")


def test_a_stop_does_not_wait_for_a_bus_that_is_away() -> None:
    world = live()
    world.store.down = StoreUnavailable("away")
    world.update(BTC, values(1), end=2)
    world.engine.run(FlagAfter(2))  # type: ignore[arg-type]
    assert world.lease.released == 0
    assert world.engine.notes.counts["bar.left"] == 1


def test_a_stop_with_a_slow_bus_tells_what_it_left() -> None:
    world = World(BTC, history_bars=3_000)
    world.connect()
    world.fill(BTC, *(values(minute) for minute in range(-3_000, 1)), end=1, turn=False)
    append = world.store.append

    def slow(*given: object) -> object:
        world.clock.monotonic += 1_000
        return append(*given)  # type: ignore[arg-type]

    world.store.append = slow  # type: ignore[method-assign, assignment]
    before = world.clock.monotonic
    world.engine.run(FlagAfter(1))  # type: ignore[arg-type]
    assert world.clock.monotonic - before < 6_000
    assert world.engine.notes.counts["bar.left"] == 1
    assert world.lease.released == 1


def test_a_lease_that_cannot_be_given_back_does_not_hinder_the_stop() -> None:
    world = live()
    world.engine.run(FlagAfter(0))  # type: ignore[arg-type]
    assert world.lease.released == 1
    other = live()
    other.clock.monotonic += 10
    other.lease.error = StoreUnavailable("away")
    other.engine._renew_at_ms = other.clock.monotonic + 1_000_000
    other.engine.run(FlagAfter(0))  # type: ignore[arg-type]
    assert other.lease.released == 0


class FlagAfter:
    """A stop flag that is set after some looks at it."""

    def __init__(self, looks: int) -> None:
        self._looks = looks

    def is_set(self) -> bool:
        self._looks -= 1
        return self._looks < 0
