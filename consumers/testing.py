"""A bus in memory, for unit tests of your own handlers: no server, no threads, no waiting.

from consumers.testing import TestBus
from strategy import app

def test_it_sells_after_three_falling_bars():
    with TestBus(app) as bus:
        bus.publish("BTCUSDT-BINANCE-1m", 103, 102, 101)
    assert broker.orders == ["sell"]
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal, Self

import orjson

from consumers.app import Consumer
from consumers.core.ids import EntryId
from consumers.core.wants import INTERVAL_COMPLETED
from consumers.core.work import Kind
from consumers.errors import UsageError
from consumers.shell.bus import standing_in
from consumers.shell.lookup import ended_ms
from consumers.shell.memory import MemoryBus
from consumers.shell.rehearsal import FIRST_MS, DeadLetter, Rehearsal
from consumers.shell.threads import Counts
from publisher.wire import Bar, Series, Summary, encode_bar

GapReason = Literal["missing", "trimmed", "abandoned"]


class TestBus:
    """Publishes to a consumer's handlers, through the worker that runs them for real.

    Each method returns when all handlers did. What a handler raises comes out of the
    method; with `raise_errors=False` it is tried again and given up as in production,
    where waits between attempts cost no time. While the bus is open, `read_bars` and
    `read_frame` read it too; `join` and `follow` do not.
    """

    __test__ = False  # pytest, this is no test

    def __init__(self, app: Consumer, *, raise_errors: bool = True) -> None:
        """Take the consumer; nothing of it is connected, or changed beyond the end."""
        self._app = app
        self._bus = MemoryBus(app.bus.keys, app.bus.state_dir, None)
        self._rehearsal = Rehearsal(
            self._bus, app.group, app.subscriptions, app.policy, raise_errors=raise_errors
        )
        self._newest: dict[Series, Bar] = {}
        self._gaps: dict[Series, tuple[int, GapReason]] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Let the process find this bus instead of a real one."""
        self._open.enter_context(standing_in(self._bus))
        self._open.enter_context(self._app.served_by(self._rehearsal.desk))
        self._open.callback(self._rehearsal.close)
        return self

    def __exit__(self, *_: object) -> None:
        """Put everything back."""
        self._open.close()

    @property
    def counts(self) -> Counts:
        """What happened: bars handled, failed, skipped and more."""
        return self._rehearsal.desk.counts

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """What was given up on, where the consumer keeps it aside."""
        return self._rehearsal.dead_letters

    def bars(self, series: str | Series, *closes: float, **fields: Any) -> list[Bar]:
        """Return the next bars of a series, one for each close; publish them or change them first.

        They follow the newest one without gap; open, high and low are the close, and
        the volume is 1, unless `fields` say otherwise. Raises SeriesInvalid.
        """
        wanted = _series(series)
        made: list[Bar] = []
        for close in closes:
            made.append(self._next(wanted, made[-1] if made else None, close, fields))
        return made

    def publish(self, series: str | Series, *closes: float, **fields: Any) -> list[Bar]:
        """Publish the next bars of a series; return them. See `bars`."""
        made = self.bars(series, *closes, **fields)
        self.publish_bars(*made)
        return made

    def publish_bars(self, *bars: Bar) -> None:
        """Publish bars, of one series or of several, those of a series in order."""
        for bar in bars:
            self._note(bar)
            name, payload = encode_bar(bar)
            key = self._bus.keys.bars(bar.series)
            self._rehearsal.put(Kind.BARS, key, bar.series, {name: payload}, bar.open_time_ms)
        self._rehearsal.settle()

    def prefill(self, series: str | Series, *closes: float, **fields: Any) -> list[Bar]:
        """Put bars on the bus from before the group began: `read_bars` finds them.

        Raises UsageError for a series of which something was published already.
        """
        made = self.bars(series, *closes, **fields)
        if self._rehearsal.has_begun(_series(series)):
            raise UsageError(f"prefill {series} before anything of it is published")
        for bar in made:
            self._note(bar)
            name, payload = encode_bar(bar)
            key = self._bus.keys.bars(bar.series)
            self._bus.memory.append(key, EntryId(bar.open_time_ms), {name: payload})
        return made

    def correct(self, bar: Bar, **changes: Any) -> Bar:
        """Correct a bar that was published, such as `correct(bar, close=99)`; return it."""
        corrected = replace(bar, revision=bar.revision + 1, **changes)
        key = self._bus.keys.corrections(bar.series)
        self._rehearsal.put(Kind.CORRECTIONS, key, bar.series, dict([encode_bar(corrected)]))
        self._rehearsal.settle()
        return corrected

    def form(self, series: str | Series, close: float, **fields: Any) -> Bar:
        """Let the bar in progress of a series change; return it."""
        (bar,) = self.bars(series, close, **{"closed_by": "forming"} | fields)
        self._rehearsal.form(bar)
        self._rehearsal.settle()
        return bar

    def gap(self, series: str | Series, bars: int = 1, reason: GapReason = "missing") -> None:
        """Let bars be missing before the next one that is published.

        Raises UsageError where there is no bar before them.
        """
        wanted = _series(series)
        if wanted not in self._newest:
            raise UsageError(f"a gap is between two bars: publish one of {wanted} first")
        self._gaps[wanted] = bars, reason
        if reason == "trimmed":
            self._bus.memory.streams[self._bus.keys.bars(wanted)].clear()

    def event(self, name: str, **fields: Any) -> None:
        """Let the publisher tell something, such as `event("series.delayed", delay_ms=900_000)`."""
        at_ms = self._rehearsal.clock.wall_ms()
        told = orjson.dumps({"event": name, "at_ms": at_ms, "level": "info", **fields})
        self._rehearsal.put(Kind.EVENTS, self._bus.keys.events, None, {b"event": told})
        self._rehearsal.settle()

    def complete(self, interval: str, end_time_ms: int | None = None) -> None:
        """Let an interval be complete: the publisher tells that its bars which ended then are out.

        Without a time it is the end of the newest bar of that interval.
        """
        ends = {x: ended_ms(bar) for x, bar in self._newest.items() if x.interval == interval}
        if not ends:
            raise UsageError(f"publish a bar of the interval {interval!r} first")
        end_ms = max(ends.values()) if end_time_ms is None else end_time_ms
        missing = [str(x) for x, ended in ends.items() if ended != end_ms]
        self.event(
            INTERVAL_COMPLETED,
            interval=interval,
            end_time_ms=end_ms,
            published=len(ends) - len(missing),
            missing=missing,
            missing_count=len(missing),
        )

    def describe(self, series: str | Series, **fields: str) -> None:
        """Let the bus know something of a series: what `context.info` returns."""
        known = self._bus.memory.hashes.setdefault(self._bus.keys.series(_series(series)), {})
        known.update({name.encode(): value.encode() for name, value in fields.items()})

    def _next(self, series: Series, before: Bar | None, close: float, fields: Any) -> Bar:
        lost, reason = self._gaps.get(series, (0, "missing")) if before is None else (0, "missing")
        before = before or self._newest.get(series)
        opened_ms, previous_ms = FIRST_MS, None
        if before is not None:
            opened_ms = before.open_time_ms + (1 + lost) * series.interval_ms
            is_told = lost and reason != "abandoned"
            previous_ms = opened_ms - series.interval_ms if is_told else before.open_time_ms
        values = {
            **dict.fromkeys(("open", "high", "low", "close"), float(close)),
            "volume": 1.0,
            "end_time_ms": opened_ms + series.interval_ms,
            "previous_open_time_ms": previous_ms,
            "received_ms": opened_ms + series.interval_ms,
            "closed_by": "next",
            "gap": bool(lost) and reason == "abandoned",
        }
        return Bar(series, opened_ms, **(values | fields))

    def _note(self, bar: Bar) -> None:
        """Let the catalogue know of the series, and time go on to when the bar was received."""
        catalogue = self._bus.memory.hashes.setdefault(self._bus.keys.catalogue, {})
        catalogue[str(bar.series).encode()] = Summary(bar.series, "live").encode()
        clock = self._rehearsal.clock
        clock.time_ms = max(clock.time_ms, bar.received_ms)
        self._gaps.pop(bar.series, None)
        self._newest[bar.series] = bar


def _series(series: str | Series) -> Series:
    return series if isinstance(series, Series) else Series.parse(series)
