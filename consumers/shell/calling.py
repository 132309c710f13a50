"""Calls handlers: with the bar, the gap, the event, the bars of an interval, or a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consumers.context import Context
from consumers.core.ids import EntryId
from consumers.core.wants import Subscription, Wanted
from consumers.core.work import Work
from consumers.errors import EntryInvalid
from consumers.shell.frames import frame_by_series
from consumers.shell.lookup import Lookup
from consumers.shell.threads import Clock
from publisher.wire import Bar, Series


@dataclass(slots=True)
class Caller:
    """Makes of entries what a handler takes."""

    group: str
    clock: Clock
    lookup: Lookup

    def call(self, subscription: Subscription, works: Sequence[Work]) -> object:
        """Call the handler; return what it returns, which may have to be awaited."""
        handler = subscription.handler
        if not handler.takes_context:
            return handler.call(self._argument(subscription, works))
        return handler.call(self._argument(subscription, works), self._context(works))

    def call_forming(self, subscription: Subscription, bar: Bar) -> object:
        """Call the handler with a state of the bar in progress."""
        handler = subscription.handler
        if not handler.takes_context:
            return handler.call(bar)
        context = self._made("", 1, self._lag_ms(bar.received_ms), bar.series, None)
        return handler.call(bar, context)

    def _argument(self, subscription: Subscription, works: Sequence[Work]) -> object:
        if subscription.batch:
            return [x.bar for x in works]
        (work,) = works
        match subscription.wanted:
            case Wanted.GAPS:
                return work.gap
            case Wanted.EVENTS:
                return work.event
            case Wanted.INTERVALS:
                return self._interval(subscription, work)
            case _:
                return work.bar

    def _interval(self, subscription: Subscription, work: Work) -> object:
        assert work.event is not None, "an interval completes by an event"
        end_time_ms = work.event.get("end_time_ms")
        if not isinstance(end_time_ms, int):
            raise EntryInvalid(f"end_time_ms must be an integer, was {end_time_ms!r}")
        bars = self.lookup.bars_that_ended(
            subscription.interval, end_time_ms, subscription.wants_series
        )
        return frame_by_series(bars) if subscription.frame else bars

    def _context(self, works: Sequence[Work]) -> Context:
        last = works[-1]
        lags = [x for x in map(self._lag_of, works) if x is not None]
        every = {_series_of(x) for x in works}
        return self._made(
            str(last.entry),
            max(x.attempt for x in works),
            max(lags, default=None),
            every.pop() if len(every) == 1 else None,
            last.replay_of,
        )

    def _lag_of(self, work: Work) -> int | None:
        if work.bar is not None:
            return self._lag_ms(work.bar.received_ms)
        at_ms = None if work.event is None else work.event.get("at_ms")
        return self._lag_ms(at_ms) if isinstance(at_ms, int) else None

    def _lag_ms(self, since_ms: int) -> int:
        return max(0, self.clock.wall_ms() - since_ms)

    def _made(
        self,
        entry_id: str,
        attempt: int,
        lag_ms: int | None,
        series: Series | None,
        replay_of: EntryId | None,
    ) -> Context:
        replay = None if replay_of is None else str(replay_of)
        return Context(self.group, entry_id, attempt, lag_ms, series, replay, self._info)

    def _info(self, series: Series) -> Mapping[str, str]:
        return self.lookup.info(series, self.clock.monotonic_ms())


def _series_of(work: Work) -> Series | None:
    if work.bar is not None:
        return work.bar.series
    return None if work.gap is None else work.gap.series
