"""A small market with a known truth, for the ledger's tests; shares no code with the publisher.

Bars are known by their place in `World.truth`. Each passes through a few states,
the last of which is final; a server sends what it is told to send.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from publisher.core.bars import Ledger
from publisher.core.decisions import Abandon, Correct, Decision, Moment, Publish, Recent, StreamEnd
from publisher.core.messages import SlotBars
from publisher.core.points import Point
from publisher.wire import Bar, Series

SERIES = Series("BTCUSDT", "BINANCE", "1m")
MINUTE_MS = 60_000
ORIGIN_MS = 1_700_000_040_000
SETTLE_MS = 2_000


def at(server_ms: int, *, received_ms: int | None = None, settle_ms: int = SETTLE_MS) -> Moment:
    """A moment at which the machine's clock is 250 ms ahead unless said otherwise."""
    return Moment(
        server_ms + 250 if received_ms is None else received_ms, server_ms, settle_ms, server_ms
    )


def values(open_time_ms: int, base: float, volume: float | None = 1.0) -> tuple[Any, ...]:
    """The five or six values of a bar as they stand in a message."""
    prices = (open_time_ms / 1000, base, base + 2, base - 2, base + 1)
    return prices if volume is None else (*prices, volume)


def slot(*bars: tuple[Any, ...], close_ms: int | None = None) -> SlotBars:
    """The bars of one message."""
    return SlotBars(values=bars, turnaround="s1", close_time_ms=close_ms)


def of(decisions: list[Decision], kind: type) -> list[Any]:
    """The decisions of one kind, in order."""
    return [decision for decision in decisions if isinstance(decision, kind)]


def published(decisions: list[Decision]) -> list[Bar]:
    """The bars that are to be published, in order."""
    return [decision.bar for decision in of(decisions, Publish)]


@dataclass
class TrueBar:
    """A bar of the market: its states so far, the last one final once `ended`."""

    open_ms: int
    states: list[tuple[float, float]]
    final: int | None = None
    """Place of the state at its end, once it was corrected."""

    def finals(self) -> list[tuple[float, float]]:
        return self.states[-1:] if self.final is None else self.states[self.final :]

    def point(self) -> tuple[Any, ...]:
        base, volume = self.states[-1]
        return values(self.open_ms, base, volume)


@dataclass
class Checker:
    """Keeps what was decided, and objects to what may not be."""

    world: World
    bars: list[Bar] = field(default_factory=list)
    corrections: dict[int, list[Bar]] = field(default_factory=dict)
    abandoned: list[tuple[int, int]] = field(default_factory=list)
    content: bool = True

    def take(self, decisions: list[Decision]) -> None:
        """Look at decisions in order; objecting, it is content no more."""
        content, self.content = self.content, False
        self._take(decisions)
        self.content = content

    def _take(self, decisions: list[Decision]) -> None:
        for place, decision in enumerate(decisions):
            if isinstance(decision, Publish):
                self._publish(decision.bar, decisions[place - 1] if place else None)
            elif isinstance(decision, Correct):
                self._correct(decision)
            elif isinstance(decision, Abandon):
                self.abandoned.append((decision.after_ms, decision.before_ms))
                following = decisions[place + 1]
                assert isinstance(following, Publish)
                assert following.bar.open_time_ms == decision.before_ms

    def _publish(self, bar: Bar, before: Decision | None) -> None:
        newest = self.bars[-1].open_time_ms if self.bars else None
        assert bar.previous_open_time_ms == newest
        assert newest is None or bar.open_time_ms > newest
        place = self.world.place(bar.open_time_ms)
        assert place < len(self.world.truth) - 1 or self.world.ended(place), "still forming"
        finals = [bar_values(*state) for state in self.world.truth[place].finals()]
        assert bar_values_of(bar) in finals, "not the final values"
        if bar.closed_by == "clock":
            settled_ms = bar.open_time_ms + MINUTE_MS + SETTLE_MS
            assert self.world.now_ms >= settled_ms, "closed too early"
        if newest is not None:
            missing = self.world.truth[self.world.place(newest) + 1 : place]
            if bar.gap:
                assert isinstance(before, Abandon)
                assert (before.after_ms, before.before_ms) == (newest, bar.open_time_ms)
                lost = [one for one in missing if one.open_ms not in self.world.spoilt]
                assert all(one.open_ms < self.world.oldest_ms for one in lost), "was to be had"
            else:
                assert not missing, f"{len(missing)} bars left out in silence"
        else:
            assert not bar.gap
        self.bars.append(bar)

    def _correct(self, decision: Correct) -> None:
        bar = decision.bar
        in_stream = bar.open_time_ms in {one.open_time_ms for one in self.bars}
        assert decision.late == (not in_stream and bar.revision == 1)
        past = self.corrections.setdefault(bar.open_time_ms, [])
        assert bar.revision == (past[-1].revision if past else 0) + 1
        past.append(bar)

    def newest(self, bar: Bar) -> Bar:
        """What a reader of both streams knows of a bar."""
        return self.corrections.get(bar.open_time_ms, [bar])[-1]

    def end(self) -> StreamEnd:
        """What a restarted publisher reads of the bus."""
        recent = {}
        for bar in self.bars[-20:]:
            now = self.newest(bar)
            point = Point(now.open_time_ms, now.open, now.high, now.low, now.close, now.volume)
            recent[now.open_time_ms] = Recent(point, now.revision)
        return StreamEnd(self.bars[-1].open_time_ms if self.bars else None, recent)


def bar_values(base: float, volume: float) -> list[float]:
    """Prices and volume of a state."""
    return list(values(0, base, volume)[1:])


def bar_values_of(bar: Bar) -> list[float | None]:
    """Prices and volume of a published bar."""
    return [bar.open, bar.high, bar.low, bar.close, bar.volume]


class World:
    """A market, the one who sends its bars, and a ledger that listens."""

    def __init__(self, history_bars: int, plan_bars: int, known: int) -> None:
        self.now_ms = ORIGIN_MS
        self.truth: list[TrueBar] = []
        self.spoilt: set[int] = set()
        """Open times that history cannot give in a readable form."""
        self.plan_bars = plan_bars
        self.history_bars = history_bars
        self.ledger = Ledger(SERIES, StreamEnd(), history_bars)
        self.checker = Checker(self)
        self.subscribed = False
        self.waiting: list[tuple[Any, ...]] = []
        for step in range(known):
            self.open_bar(float(100 + step))
        self.waiting.clear()

    # The market.

    def place(self, open_ms: int) -> int:
        return next(n for n, bar in enumerate(self.truth) if bar.open_ms == open_ms)

    def ended(self, place: int) -> bool:
        return self.now_ms >= self.truth[place].open_ms + MINUTE_MS

    def open_bar(self, base: float, idle_minutes: int = 0) -> None:
        """Begin the next bar, after minutes without a trade."""
        if self.truth:
            self.now_ms = max(self.now_ms, self.truth[-1].open_ms + MINUTE_MS)
            self.now_ms += idle_minutes * MINUTE_MS
        open_ms = self.now_ms - self.now_ms % MINUTE_MS
        if self.truth and open_ms <= self.truth[-1].open_ms:
            open_ms = self.truth[-1].open_ms + MINUTE_MS
        self.now_ms = max(self.now_ms, open_ms)
        self.truth.append(TrueBar(open_ms, [(base, 0.0)]))
        self._say(self.truth[-1])

    def update_bar(self, base: float) -> None:
        """Move the newest bar, unless it has ended."""
        bar = self.truth[-1]
        if not self.ended(len(self.truth) - 1):
            bar.states.append((base, bar.states[-1][1] + 1))
            self._say(bar)

    def correct_bar(self, back: int, base: float) -> None:
        """Change a bar that ended, one of the last few."""
        bar = self.truth[max(0, len(self.truth) - 1 - back)]
        if self.ended(self.truth.index(bar)):
            bar.final = len(bar.states) - 1 if bar.final is None else bar.final
            bar.states.append((base, bar.states[-1][1] + 0.5))
            self._say(bar)

    def _say(self, bar: TrueBar) -> None:
        if self.subscribed:
            self.waiting.append(bar.point())

    @property
    def oldest_ms(self) -> int:
        """Open time of the oldest bar that can still be had."""
        return self.truth[-self.plan_bars :][0].open_ms

    def close_ms(self, bars: list[tuple[Any, ...]]) -> int:
        times = [bar[0] for bar in bars if bar[0] != "?"]
        return round(max(times, default=0) * 1000) + MINUTE_MS

    # The conversation.

    def deliver(self, sizes: list[int], *, stating_the_end: bool = True) -> None:
        """Deliver what waits, in messages of these sizes, the rest in one."""
        while self.waiting and self.subscribed:
            size = sizes.pop() if sizes else len(self.waiting)
            message, self.waiting = self.waiting[:size], self.waiting[size:]
            close_ms = self.close_ms(message) if stating_the_end else None
            self._take(self.ledger.receive(slot(*message, close_ms=close_ms), at(self.now_ms)))

    def expire(self) -> None:
        """Let the time do its part."""
        if self.subscribed and not self.waiting:
            self._take(self.ledger.expire(at(self.now_ms)))

    def subscribe(self, cuts: list[int], answer_bars: int, repeats: int) -> None:
        """Ask for history and answer it, cut into messages, until the ledger is content."""
        self.subscribed = True
        self.waiting.clear()
        wanted = min(self.ledger.begin(self.now_ms), answer_bars)
        have = 0
        for _ in range(1000):
            window = self.truth[-self.plan_bars :]
            older = window[: len(window) - have][-wanted:]
            have += len(older)
            self._answer(older, list(cuts), repeats)
            decisions = self.ledger.complete(have >= len(window), at(self.now_ms))
            self._take(decisions)
            asked = [
                decision.bars for decision in decisions if type(decision).__name__ == "AskMore"
            ]
            if not asked:
                return
            wanted = min(asked[0], answer_bars)
        raise AssertionError("the fill never ends")

    def _answer(self, bars: list[TrueBar], cuts: list[int], repeats: int) -> None:
        rest = [self._spoilt(bar) for bar in bars]
        rest += rest[-repeats:] if repeats else []
        while rest:
            size = cuts.pop() if cuts else len(rest)
            message, rest = rest[:size], rest[size:]
            close_ms = self.close_ms(message)
            self._take(self.ledger.receive(slot(*message, close_ms=close_ms), at(self.now_ms)))

    def _spoilt(self, bar: TrueBar) -> tuple[Any, ...]:
        point = bar.point()
        return (*point[:4], float("nan"), *point[5:]) if bar.open_ms in self.spoilt else point

    def disconnect(self) -> None:
        self.subscribed = False
        self.waiting.clear()

    def restart(self) -> None:
        """A new publisher, that knows of the old one what stands in the streams."""
        self.disconnect()
        self.ledger = Ledger(SERIES, self.checker.end(), self.history_bars)

    def _take(self, decisions: list[Decision]) -> None:
        self.checker.take(decisions)
        if any(type(decision).__name__ == "Reload" for decision in decisions):
            self.disconnect()
