"""Which work goes to a handler next, and what is read next."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
from consumer_world import BTC, ETH, MINUTE_MS, T0

from consumers.core.ids import SEQUENCE_MAX, ZERO, EntryId
from consumers.core.lane import Lane, Phase, Source
from consumers.core.lanes import LANE_PREFETCH_MAX, LETTERS_MAX, NEVER_MS, PREFETCH_MAX, Lanes
from consumers.core.patterns import Pattern
from consumers.core.wishes import Wishes
from consumers.core.work import Failure, Kind, Work
from publisher.wire import Series

GIVEN_UP = Failure("no taste")


def entry(number: int) -> EntryId:
    return EntryId(T0 + number * MINUTE_MS)


def new_lane(series: Series = BTC, *kinds: Kind) -> Lane:
    chosen = kinds or (Kind.BARS,)
    return Lane(str(series), series, {x: Source(f"{x.value}:{series}", x) for x in chosen})


def hold(lanes: Lanes, lane: Lane, token: int = 1) -> Lane:
    lanes.by_name[lane.name] = lane
    lane.token = token
    for source in lane.sources.values():
        source.attach(ZERO, ZERO)
        source.recovered()
    return lane


def put(lanes: Lanes, lane: Lane, numbers: range, kind: Kind = Kind.BARS) -> None:
    works = [Work(lane, entry(n), kind) for n in numbers]
    for work in works:
        lane.sources[kind].arrived(work.entry)
        lane.sources[kind].unacked.add(work.entry)
    lanes.deliver(lane, works)


def filled(numbers: range, *series: Series) -> tuple[Lanes, list[Lane]]:
    lanes = Lanes(valid_until_ms=NEVER_MS)
    held = [hold(lanes, new_lane(x)) for x in series or (BTC,)]
    for lane in held:
        put(lanes, lane, numbers)
    return lanes, held


def take(lanes: Lanes, now_ms: int = 0) -> Work:
    work = lanes.take(now_ms)
    assert work is not None
    return work


def bars(lane: Lane) -> Source:
    return lane.sources[Kind.BARS]


# What goes to handlers.


def test_the_works_of_a_lane_are_taken_one_by_one_in_order() -> None:
    lanes, [lane] = filled(range(3))
    taken = []
    while (work := lanes.take(0)) is not None:
        assert lanes.take(0) is None
        taken.append(work.entry)
        lanes.finish(work)
    assert taken == [entry(0), entry(1), entry(2)]
    assert bars(lane).processed == entry(2)
    assert lanes.take_done() == {bars(lane): taken}
    assert lanes.take_done() == {}


def test_lanes_take_turns() -> None:
    lanes, _ = filled(range(2), BTC, ETH)
    turns = []
    while (work := lanes.take(0)) is not None:
        turns.append(work.lane.series)
        lanes.finish(work)
    assert turns == [BTC, ETH, BTC, ETH]


def test_several_lanes_can_be_at_handlers_at_once() -> None:
    lanes, _ = filled(range(2), BTC, ETH)
    first, second = take(lanes), take(lanes)
    assert (first.lane.series, second.lane.series) == (BTC, ETH)
    assert lanes.take(0) is None
    lanes.finish(second)
    assert take(lanes).entry == entry(1)


def test_nothing_is_handed_out_once_the_leases_may_be_another_members() -> None:
    lanes, _ = filled(range(1))
    lanes.valid_until_ms = 500
    assert lanes.take(500) is None
    assert lanes.take(499) is not None


def test_before_the_first_beat_nothing_is_handed_out() -> None:
    assert Lanes().valid_until_ms < 0


def by_series(size: int) -> object:
    def batch_of(work: Work) -> tuple[Hashable, int]:
        return work.lane.series, size

    return batch_of


@pytest.mark.parametrize(("size", "expected"), [(2, [0, 1]), (3, [0, 1, 2]), (9, [0, 1, 2])])
def test_a_batch_holds_the_works_of_a_lane_in_order(size: int, expected: list[int]) -> None:
    lanes, [lane] = filled(range(3))
    batch = lanes.take_batch(0, by_series(size))  # type: ignore[arg-type]
    assert [x.entry for x in batch] == [entry(n) for n in expected]
    assert lanes.take(0) is None
    for work in batch:
        lanes.finish(work)
    assert len(lane.queue) == 3 - len(expected)
    assert lanes.take_done() == {bars(lane): [entry(n) for n in expected]}


def test_a_batch_goes_over_the_lanes_that_belong_in_it_and_no_others() -> None:
    other = Series("AAPL", "NASDAQ", "1m")
    lanes, _ = filled(range(2), BTC, other, ETH)

    def batch_of(work: Work) -> tuple[Hashable, int]:
        return work.lane.series == other, 3

    batch = lanes.take_batch(0, batch_of)
    assert [(x.lane.series, x.entry) for x in batch] == [
        (BTC, entry(0)),
        (BTC, entry(1)),
        (ETH, entry(0)),
    ]
    second = lanes.take_batch(0, batch_of)
    assert [x.lane.series for x in second] == [other, other]
    assert lanes.take_batch(0, batch_of) == []


def test_a_batch_passes_over_a_lane_that_is_to_be_handed_over() -> None:
    lanes, [_, leaving, _] = filled(range(1), BTC, Series("AAPL", "NASDAQ", "1m"), ETH)
    lanes.set_leaving(leaving, True)
    batch = lanes.take_batch(0, lambda _: (None, 9))
    assert [x.lane.series for x in batch] == [BTC, ETH]
    assert lanes.take(0) is None
    lanes.set_leaving(leaving, False)
    assert take(lanes).lane is leaving


def test_a_failed_batch_comes_again_from_the_work_that_is_parked() -> None:
    lanes, [lane] = filled(range(3))
    first, second, third = lanes.take_batch(0, by_series(9))  # type: ignore[arg-type]
    lanes.finish(first)
    lanes.park(second, 100)
    lanes.give_back(third)
    assert lanes.take(99) is None
    again = take(lanes, 100)
    assert (again, again.attempt) == (second, 2)
    lanes.finish(again)
    assert take(lanes) is third
    assert (third.attempt, lane.out) == (1, 1)


def test_the_works_of_a_lane_are_answered_for_in_order() -> None:
    lanes, _ = filled(range(2))
    _, second = lanes.take_batch(0, by_series(9))  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        lanes.finish(second)


def test_a_parked_work_holds_up_its_lane_until_it_is_due() -> None:
    lanes, [lane] = filled(range(2))
    work = take(lanes)
    assert lanes.next_due_ms() is None
    lanes.park(work, 500)
    assert lane.parked
    assert (lanes.take(499), lanes.next_due_ms()) == (None, 500)
    assert lanes.take(500) is work
    assert not lane.parked


def test_the_server_counts_an_attempt_only_where_it_is_the_works_own() -> None:
    lanes, _ = filled(range(1))
    work = take(lanes)
    lanes.park(work, 1, counted=False)
    assert (work.attempt, lanes.take_failed()) == (1, [])
    lanes.park(take(lanes, 1), 2)
    assert (work.attempt, lanes.take_failed(), lanes.take_failed()) == (2, [work], [])
    lanes.put_back_failed([work])
    assert lanes.take_failed() == [work]
    lanes.put_back_failed([work])
    work.dropped = True
    assert lanes.take_failed() == []


def test_a_work_is_touched_from_its_handing_out_until_the_server_counted_that() -> None:
    lanes, [lane] = filled(range(2))
    assert lanes.is_untouched(bars(lane))
    work = take(lanes)
    assert [x.touched for x in lane.queue] == [True, False]
    assert not lanes.is_untouched(bars(lane))
    lanes.park(work, 5)
    assert not lanes.is_untouched(bars(lane))
    assert lanes.take_failed() == [work]
    assert lanes.is_untouched(bars(lane))
    lanes.park(take(lanes, 5), 9, counted=False)
    assert lanes.is_untouched(bars(lane))
    lanes.finish(take(lanes, 9))
    lanes.finish(take(lanes))
    assert lanes.is_untouched(bars(lane))


def test_a_work_given_up_becomes_a_letter_and_the_lane_goes_on() -> None:
    lanes, [lane] = filled(range(2))
    work = take(lanes)
    work.attempt, work.fields = 5, {b"bar": b"x"}
    lanes.bury(work, GIVEN_UP)
    [letter] = lanes.letters
    assert (letter.source, letter.entry, letter.failure) == (bars(lane), entry(0), GIVEN_UP)
    assert (letter.attempts, letter.fields) == (5, {b"bar": b"x"})
    assert lanes.take_done() == {}
    assert bars(lane).processed == entry(0)
    assert take(lanes).entry == entry(1)


def test_what_belongs_to_a_gap_is_acknowledged_with_it() -> None:
    lanes, [lane] = filled(range(0))
    lanes.deliver(lane, [Work(lane, entry(2), also=(entry(0), entry(1)))])
    lanes.finish(take(lanes))
    assert lanes.take_done() == {bars(lane): [entry(0), entry(1), entry(2)]}


# Replays.


def replay(lane: Lane, letter: int = 9) -> Work:
    return Work(lane, entry(0), replay_of=EntryId(letter))


def test_a_replay_goes_alone_before_what_waits_and_moves_no_position() -> None:
    lanes, [lane] = filled(range(5, 7))
    lanes.replay(replay(lane))
    assert lanes.replaying == {EntryId(9)}
    [work] = lanes.take_batch(0, by_series(9))  # type: ignore[arg-type]
    assert work.replay_of == EntryId(9)
    lanes.finish(work)
    assert [(x.lane, x.letter, x.failure) for x in lanes.replayed] == [(lane, EntryId(9), None)]
    assert (bars(lane).processed, lanes.take_done()) == (ZERO, {})
    assert take(lanes).entry == entry(5)


def test_a_replay_that_fails_again_makes_no_second_letter() -> None:
    lanes, [lane] = filled(range(0))
    lanes.replay(replay(lane))
    lanes.bury(take(lanes), GIVEN_UP)
    assert (lanes.letters, lanes.replayed[0].failure) == ([], GIVEN_UP)


def test_a_replay_goes_while_the_lane_waits_for_a_retry() -> None:
    lanes, [lane] = filled(range(1))
    lanes.park(take(lanes), 500)
    lanes.replay(replay(lane))
    lanes.finish(take(lanes))
    assert lanes.take(499) is None
    assert lanes.take(500) is not None


# Leases that come and go.


def test_a_lane_that_is_to_be_handed_over_gives_nothing_more() -> None:
    lanes, [lane] = filled(range(2))
    lanes.set_leaving(lane, True)
    assert lanes.take(0) is None
    assert (lanes.plan(), lanes.quiet()) == ([], {})
    lanes.set_leaving(lane, False)
    assert take(lanes).entry == entry(0)


@pytest.mark.parametrize("ending", ["finish", "bury", "park", "give_back", "replay"])
def test_of_a_dropped_lane_nothing_is_acknowledged(ending: str) -> None:
    lanes, [lane] = filled(range(4))
    lanes.finish(take(lanes))
    if ending == "replay":
        lanes.replay(replay(lane))
    work = take(lanes)
    lanes.drop(lane)
    assert (lane.token, lanes.held(), bars(lane).phase) == (0, [], Phase.OUTSIDE)
    assert lanes.replaying == set()
    endings = {
        "finish": lambda: lanes.finish(work),
        "replay": lambda: lanes.finish(work),
        "bury": lambda: lanes.bury(work, GIVEN_UP),
        "park": lambda: lanes.park(work, 5),
        "give_back": lambda: lanes.give_back(work),
    }
    endings[ending]()
    assert work.dropped
    assert (lanes.take_done(), lanes.letters, lanes.replayed) == ({}, [], [])
    assert (lanes.take(100), lanes.next_due_ms(), lane.out) == (None, None, 0)
    assert bars(lane).processed == entry(0)


def test_a_dropped_lane_takes_its_letters_and_ended_replays_with_it() -> None:
    lanes, [lane, other] = filled(range(1), BTC, ETH)
    for one in (lane, other):
        lanes.replay(replay(one, letter=len(one.name)))
    for _ in range(2):
        lanes.finish(take(lanes))
        lanes.bury(take(lanes), GIVEN_UP)
    lanes.drop(lane)
    assert [x.source.lane for x in lanes.letters] == [other]
    assert [x.lane for x in lanes.replayed] == [other]


def test_a_lane_that_comes_back_waits_for_the_handler_that_still_has_its_old_work() -> None:
    lanes, [lane] = filled(range(2))
    old = take(lanes)
    lanes.drop(lane)
    hold(lanes, lane, token=2)
    put(lanes, lane, range(2))
    assert lanes.take(0) is None
    lanes.finish(old)
    again = take(lanes)
    assert (again.entry, again is old, bars(lane).processed) == (entry(0), False, ZERO)


def test_a_parked_work_of_a_dropped_lane_does_not_come_back() -> None:
    lanes, [lane] = filled(range(2))
    lanes.park(take(lanes), 5)
    lanes.drop(lane)
    assert (lanes.take(5), lanes.next_due_ms(), lane.parked) == (None, None, False)


def test_a_lost_stream_takes_only_its_own_works_along() -> None:
    lanes = Lanes(valid_until_ms=NEVER_MS)
    lane = hold(lanes, new_lane(BTC, Kind.BARS, Kind.CORRECTIONS))
    put(lanes, lane, range(2))
    put(lanes, lane, range(1), Kind.CORRECTIONS)
    first = take(lanes)
    lanes.park(first, 10)
    lanes.lose(bars(lane))
    assert not lane.parked
    assert take(lanes).kind is Kind.CORRECTIONS
    assert lanes.take_failed() == []
    lanes.lose(lane.sources[Kind.CORRECTIONS])
    assert list(lane.queue) == []


def test_a_lost_stream_leaves_the_parked_work_of_the_other() -> None:
    lanes = Lanes(valid_until_ms=NEVER_MS)
    lane = hold(lanes, new_lane(BTC, Kind.BARS, Kind.CORRECTIONS))
    put(lanes, lane, range(1), Kind.CORRECTIONS)
    put(lanes, lane, range(1))
    lanes.park(take(lanes), 10)
    lanes.lose(bars(lane))
    assert lane.parked
    assert take(lanes, 10).kind is Kind.CORRECTIONS


# Acknowledgements.


def test_acknowledgements_that_failed_are_kept_in_order() -> None:
    lanes, [lane] = filled(range(3))
    for _ in range(2):
        lanes.finish(take(lanes))
    failed = lanes.take_done()
    lanes.finish(take(lanes))
    lanes.put_back({**failed, new_lane(ETH).sources[Kind.BARS]: []})
    assert lanes.done_of(bars(lane)) == [entry(0), entry(1), entry(2)]
    assert lanes.take_done() == {bars(lane): [entry(0), entry(1), entry(2)]}
    assert lanes.done_of(bars(lane)) == []


def test_what_no_handler_needs_to_see_is_acknowledged_with_the_rest() -> None:
    lanes, [lane] = filled(range(1))
    lanes.finish(take(lanes))
    lanes.acknowledge(bars(lane), [entry(7)])
    lanes.acknowledge(bars(lane), [])
    assert lanes.take_done() == {bars(lane): [entry(0), entry(7)]}
    lanes.acknowledge(bars(lane), [])
    assert lanes.take_done() == {}


# What is read.


def test_what_is_pending_comes_before_what_is_new() -> None:
    lanes = Lanes()
    lane = new_lane()
    lanes.by_name[lane.name] = lane
    lane.token = 1
    assert lanes.plan() == []
    source = bars(lane)
    source.attach(entry(0), entry(2))
    assert source.phase is Phase.RECOVERING
    [reading] = lanes.plan()
    assert (reading.source, reading.count) == (source, LANE_PREFETCH_MAX)
    assert lanes.quiet() == {}
    source.recovered()
    assert (source.phase, len(lanes.plan())) == (Phase.LIVE, 1)
    source.more = False
    assert lanes.plan() == []
    assert lanes.quiet() == {source.key: entry(2)}


def test_only_what_is_held_is_read() -> None:
    lanes, [lane] = filled(range(0))
    lane.token = 0
    assert (lanes.plan(), lanes.quiet()) == ([], {})


def test_a_lane_without_room_is_not_read_and_the_others_are() -> None:
    lanes, [lane] = filled(range(LANE_PREFETCH_MAX))
    assert lanes.plan() == []
    other = hold(lanes, new_lane(ETH))
    assert [x.source for x in lanes.plan()] == [bars(other)]
    lanes.finish(take(lanes))
    assert [(x.source, x.count) for x in lanes.plan()] == [
        (bars(lane), 1),
        (bars(other), LANE_PREFETCH_MAX),
    ]


def test_larger_batches_get_more_room() -> None:
    lanes, _ = filled(range(LANE_PREFETCH_MAX))
    lanes.lane_prefetch_max = 3 * LANE_PREFETCH_MAX
    assert [x.count for x in lanes.plan()] == [2 * LANE_PREFETCH_MAX]


def test_nothing_is_read_beyond_the_total_unless_it_only_waits_for_retries() -> None:
    lanes, [lane] = filled(range(PREFETCH_MAX))
    other = hold(lanes, new_lane(ETH))
    assert lanes.plan() == []
    lanes.park(take(lanes), 10)
    assert [x.source for x in lanes.plan()] == [bars(other)]
    assert len(lane.queue) == PREFETCH_MAX


def test_many_series_share_the_room() -> None:
    lanes = Lanes()
    for number in range(500):
        hold(lanes, new_lane(Series(f"S{number}", "X", "1m")))
    assert {x.count for x in lanes.plan()} == {PREFETCH_MAX // 500}


def test_nothing_is_read_while_too_many_dead_letters_wait() -> None:
    lanes, _ = filled(range(1))
    lanes.bury(take(lanes), GIVEN_UP)
    assert len(lanes.plan()) == 1
    lanes.letters *= LETTERS_MAX
    assert lanes.plan() == []


# Positions.


def test_the_position_is_before_everything_unacknowledged() -> None:
    source = new_lane().sources[Kind.BARS]
    source.attach(entry(2), entry(2))
    assert (source.position, source.kept, source.attached) == (entry(2), entry(2), True)
    for number in (3, 4, 5):
        source.arrived(entry(number))
        source.unacked.add(entry(number))
    assert source.position == entry(2)
    source.acknowledged([entry(3)])
    assert source.position == entry(3)
    source.acknowledged([entry(5)])
    assert source.position == entry(4).before()
    source.acknowledged([])
    source.acknowledged([entry(4)])
    assert source.position == entry(5)


def test_a_stream_let_go_remembers_its_position_and_what_was_handled() -> None:
    lanes, [lane] = filled(range(3))
    source = bars(lane)
    source.processed = entry(1)
    source.acknowledged([entry(1)])
    lanes.drop(lane)
    assert source.position == entry(0).before()
    source.attach(entry(0).before(), entry(2))
    assert source.processed == entry(1)
    source.attach(entry(6), entry(6))
    assert (source.processed, source.position) == (entry(6), entry(6))


@pytest.mark.parametrize(
    ("position", "checkpoint", "expected"),
    [
        (ZERO, None, None),
        (entry(3), None, entry(3).ms),
        (EntryId(T0 - 1, SEQUENCE_MAX), None, None),
        (entry(3).before(), entry(1), entry(1).ms),
        (entry(3), entry(1), entry(3).ms),
        (ZERO, entry(1).before(), None),
    ],
)
def test_the_last_bar_is_known_where_a_position_is_one(
    position: EntryId, checkpoint: EntryId | None, expected: int | None
) -> None:
    source = new_lane().sources[Kind.BARS]
    source.attach(position, position, checkpoint)
    assert (source.opened_ms, source.proven) == (expected, False)


def test_after_a_lost_connection_a_live_stream_looks_for_what_the_last_reply_held() -> None:
    lanes, [lane] = filled(range(3))
    source = bars(lane)
    source.rewind()
    assert (source.phase, source.cursor) == (Phase.RECOVERING, ZERO)
    source.cursor = entry(1)
    source.rewind()
    assert source.cursor == entry(1)
    source.arrived(entry(5))
    assert (source.cursor, source.seen) == (entry(5), entry(5))
    outside = new_lane().sources[Kind.BARS]
    outside.rewind()
    assert outside.phase is Phase.OUTSIDE
    assert lanes.held() == [lane]


# What handlers wish for.


def wishes(**some: list[str]) -> Wishes:
    return Wishes(**{kind: [Pattern.parse(x) for x in texts] for kind, texts in some.items()})


def test_wishes_tell_which_series_and_streams_are_read() -> None:
    some = wishes(bars=["BTC*"], corrections=[str(BTC), str(ETH)], forming=["*-NASDAQ-1m"])
    assert some.named == {BTC, ETH}
    assert some.is_open
    assert some.kinds(BTC) == [Kind.BARS, Kind.CORRECTIONS]
    assert some.kinds(ETH) == [Kind.CORRECTIONS]
    apple, other = Series("AAPL", "NASDAQ", "1m"), Series("AAPL", "NYSE", "1m")
    assert some.kinds(apple) == []
    assert some.matched([BTC, ETH, apple, other]) == {BTC, ETH, apple}
    assert not wishes(bars=[str(BTC)]).is_open
