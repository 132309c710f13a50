"""A random market, a random conversation: what is published is a run of the truth."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ledger_world import MINUTE_MS, SETTLE_MS, World, bar_values, bar_values_of

SIZES = st.lists(st.integers(1, 7), max_size=4)
BASES = st.integers(10, 99).map(float)


class Conversation(RuleBasedStateMachine):
    """Splits a true market into subscriptions, disconnects, restarts and messages."""

    @initialize(
        history=st.integers(0, 6),
        plan=st.integers(2, 40),
        known=st.integers(1, 20),
        idle_ms=st.sampled_from([0, MINUTE_MS + SETTLE_MS - 1, MINUTE_MS + SETTLE_MS]),
        sizes=SIZES,
    )
    def begin(self, history: int, plan: int, known: int, idle_ms: int, sizes: list[int]) -> None:
        self.world = World(history, plan, known)
        self.world.now_ms += idle_ms
        self.world.subscribe(sizes, answer_bars=50, repeats=0)
        closed = min(known, plan) - (0 if idle_ms == MINUTE_MS + SETTLE_MS else 1)
        assert len(self.world.checker.bars) == min(history, closed)

    @rule(moves=st.lists(st.lists(BASES, max_size=3), min_size=1, max_size=4))
    def bars_open_and_move(self, moves: list[list[float]]) -> None:
        for bases in moves:
            self.world.open_bar(50.0)
            for base in bases:
                self.world.update_bar(base)

    @rule(
        count=st.integers(1, 4),
        spoilt=st.none() | st.tuples(st.integers(0, 9), st.booleans()),
        sizes=SIZES,
    )
    def live_minutes(self, count: int, spoilt: tuple[int, bool] | None, sizes: list[int]) -> None:
        if not self.world.subscribed:
            self.world.subscribe([], 50, 0)
        for _ in range(count):
            self.world.open_bar(50.0)
            self.world.update_bar(60.0)
        if spoilt is not None:
            self.an_update_is_spoilt(*spoilt)
        self.world.deliver(sizes)

    @rule(base=BASES, idle=st.sampled_from([1, 7]))
    def a_bar_opens_after_minutes_without_trade(self, base: float, idle: int) -> None:
        self.world.open_bar(base, idle)

    @rule(base=BASES, spent_ms=st.integers(0, 20_000))
    def the_bar_moves(self, base: float, spent_ms: int) -> None:
        self.world.now_ms += spent_ms
        self.world.update_bar(base)

    @rule(back=st.integers(0, 4), base=BASES)
    def an_ended_bar_is_corrected(self, back: int, base: float) -> None:
        self.world.correct_bar(back, base)

    @rule(sizes=SIZES, stating=st.booleans())
    def messages_come(self, sizes: list[int], stating: bool) -> None:
        self.world.deliver(sizes, stating_the_end=stating)

    @precondition(lambda self: self.world.waiting)
    @rule(place=st.integers(0, 20))
    def an_update_is_repeated(self, place: int) -> None:
        waiting = self.world.waiting
        waiting.insert(place % len(waiting), waiting[place % len(waiting)])

    @precondition(lambda self: self.world.waiting)
    @rule(place=st.integers(0, 20), timeless=st.booleans())
    def an_update_is_spoilt(self, place: int, timeless: bool) -> None:
        waiting = self.world.waiting
        place %= len(waiting)
        time_s = "?" if timeless and place == len(waiting) - 1 else waiting[place][0]
        waiting[place] = (time_s, float("nan"), *waiting[place][2:])

    @rule(spent_ms=st.sampled_from([500, SETTLE_MS, MINUTE_MS]))
    def time_passes(self, spent_ms: int) -> None:
        self.world.deliver([])
        self.world.now_ms += spent_ms
        self.world.expire()

    @rule()
    def the_connection_is_lost(self) -> None:
        self.world.disconnect()

    @precondition(lambda self: not self.world.subscribed)
    @rule()
    def the_connection_is_back(self) -> None:
        self.world.subscribe([], 50, 0)

    @rule()
    def the_publisher_is_killed(self) -> None:
        self.world.restart()

    @rule(sizes=SIZES, answer=st.integers(2, 50), repeats=st.integers(0, 3))
    def it_is_asked_for_again(self, sizes: list[int], answer: int, repeats: int) -> None:
        self.world.subscribe(sizes, answer, repeats)

    @rule()
    def one_bar_is_never_readable(self) -> None:
        self.world.spoilt.add(self.world.truth[-1].open_ms)

    @invariant()
    def nothing_wrong_stands_in_the_stream(self) -> None:
        """The checker has objected already if it does."""

    def teardown(self) -> None:
        if not hasattr(self, "world") or not self.world.checker.content:
            return
        world, checker = self.world, self.world.checker
        world.deliver([])
        world.subscribe([], 50, 0)
        world.now_ms += 2 * MINUTE_MS + SETTLE_MS
        world.expire()
        if not world.subscribed:
            world.subscribe([], 50, 0)
        window = [bar for bar in world.truth if bar.open_ms >= world.oldest_ms]
        there = [bar for bar in window if bar.open_ms not in world.spoilt]
        if checker.bars and there:
            newest_ms = checker.bars[-1].open_time_ms
            assert newest_ms >= there[-1].open_ms, "the newest closed bar is not published"
        stream = {bar.open_time_ms: bar for bar in checker.bars}
        for bar in there[-5:]:
            if bar.open_ms in stream:
                newest = bar_values_of(checker.newest(stream[bar.open_ms]))
                assert newest == bar_values(*bar.states[-1]), "the truth never came"


Conversation.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class TestPublishedBarsAreARunOfTheTruth(Conversation.TestCase):
    """Ascending, chained, complete, final; what is left out is announced."""
