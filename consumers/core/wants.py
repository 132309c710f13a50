"""Who wants what: the handlers of a consumer, and which of them an entry goes to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any, Final

from consumers.core.handlers import Handler
from consumers.core.patterns import Pattern
from consumers.core.wishes import Wishes
from consumers.core.work import Kind, Work
from publisher.wire import Series

INTERVAL_COMPLETED: Final = "interval.completed"
BATCH_MAX: Final = 5_000
"""Most bars that one call may take; no more are in hand."""
EVENTS_REMEMBERED_MAX: Final = 1_000
"""Kinds of events whose handlers are remembered; more than there are."""


class Wanted(Enum):
    """What a handler is called for."""

    BARS = "bars"
    FORMING = "forming"
    CORRECTIONS = "corrections"
    GAPS = "gaps"
    EVENTS = "events"
    INTERVALS = "intervals"


@dataclass(frozen=True, slots=True, eq=False)
class Subscription:
    """A handler and what it wants."""

    wanted: Wanted
    handler: Handler
    patterns: tuple[Pattern, ...] = ()
    """Series; of an interval's subscription those that its bars are gathered of."""
    names: tuple[str, ...] = ()
    """Patterns of events' names."""
    interval: str = ""
    frame: bool = False
    """The bars of an interval as a data frame."""
    batch: int = 0
    """Bars in one call, as a list; 0: one bar, by itself."""

    def wants_series(self, series: Series) -> bool:
        """Tell whether this is for the series."""
        return any(x.matches(series) for x in self.patterns)

    def wants_event(self, event: Mapping[str, Any]) -> bool:
        """Tell whether this is for the event."""
        name = str(event.get("event"))
        if self.wanted is Wanted.INTERVALS:
            return name == INTERVAL_COMPLETED and event.get("interval") == self.interval
        return any(fnmatchcase(name, x) for x in self.names)


@dataclass(slots=True)
class Subscriptions:
    """All handlers of a consumer, in the order of registration."""

    every: list[Subscription] = field(default_factory=list)
    _series: dict[tuple[Wanted, Series], tuple[Subscription, ...]] = field(default_factory=dict)
    _events: dict[tuple[str, str], tuple[Subscription, ...]] = field(default_factory=dict)

    def add(self, subscription: Subscription) -> None:
        """Register one."""
        self.every.append(subscription)
        self._series.clear()
        self._events.clear()

    @property
    def wishes(self) -> Wishes:
        """What is to be read for them."""
        return Wishes(
            bars=self._patterns(Wanted.BARS, Wanted.GAPS),
            corrections=self._patterns(Wanted.CORRECTIONS),
            forming=self._patterns(Wanted.FORMING),
            events=any(self._of(Wanted.EVENTS, Wanted.INTERVALS)),
        )

    @property
    def batch_max(self) -> int:
        """The most bars that a handler wants at once."""
        return max((x.batch for x in self.every), default=0)

    def of(self, work: Work) -> tuple[Subscription, ...]:
        """Return whom an entry goes to, in order.

        A gap is told before the bar behind it. Handlers of batches come before
        those of single bars, so that a batch is not cut after each bar.
        """
        if work.event is not None:
            return self._of_event(work.event)
        subscriptions: tuple[Subscription, ...] = ()
        if work.gap is not None:
            subscriptions = self.of_series(Wanted.GAPS, work.gap.series)
        if work.bar is not None:
            wanted = Wanted.CORRECTIONS if work.kind is Kind.CORRECTIONS else Wanted.BARS
            subscriptions += self.of_series(wanted, work.bar.series)
        return subscriptions

    def of_series(self, wanted: Wanted, series: Series) -> tuple[Subscription, ...]:
        """Return who wants this of a series, in order."""
        key = (wanted, series)
        if key not in self._series:
            found = [x for x in self._of(wanted) if x.wants_series(series)]
            self._series[key] = tuple(sorted(found, key=lambda x: not x.batch))
        return self._series[key]

    def _of_event(self, event: Mapping[str, Any]) -> tuple[Subscription, ...]:
        key = (str(event.get("event")), str(event.get("interval")))
        if key not in self._events:
            if len(self._events) >= EVENTS_REMEMBERED_MAX:
                self._events.clear()
            both = self._of(Wanted.EVENTS, Wanted.INTERVALS)
            self._events[key] = tuple(x for x in both if x.wants_event(event))
        return self._events[key]

    def _patterns(self, *wanted: Wanted) -> list[Pattern]:
        return [x for one in self._of(*wanted) for x in one.patterns]

    def _of(self, *wanted: Wanted) -> Iterable[Subscription]:
        return (x for x in self.every if x.wanted in wanted)
