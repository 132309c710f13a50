"""When an interval is complete: all its series have published the bar that ends then.

Portfolio strategies wait for this. A barrier stands for one interval and one end time T.
It opens with the first bar that ends at T and is complete once every series has one that
is live, in real time, open for trading between T minus the interval and T, and on the
same grid (a stock's hours end at :30 where a currency's end at :00). What has published
nothing by the time-out is named: a quiet symbol has no bar where nobody traded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from publisher.core.hours import TradingHours
from publisher.wire import DAY_MS, Series

TIMEOUT_MS: Final = 10_000
"""How long after T and the settle time a barrier waits, by TradingView's clock."""
BARRIERS_MAX: Final = 1_000
"""Barriers that may stand at a time; beyond, the oldest are decided as they are."""
REMEMBERED_MAX: Final = 200
"""Decided barriers that are remembered, so that a late bar opens none again."""
MISSING_MAX: Final = 50
"""So many missing series are named."""


@dataclass(frozen=True, slots=True)
class Member:
    """A live series as a barrier sees it."""

    series: Series
    hours: TradingHours
    newest_open_ms: int
    """Open time of the newest closed bar in its stream."""
    late: bool
    """True where its data does not come in real time: nobody waits for it."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A barrier that is decided."""

    interval: str
    end_time_ms: int
    published: int
    """How many series published their bar."""
    missing: tuple[Series, ...]
    """Who did not before the time-out; the first `MISSING_MAX` of them."""
    missing_count: int


@dataclass(slots=True)
class Barriers:
    """The barriers that stand; times are TradingView's clock, ms UTC."""

    settle_ms: int
    _standing: dict[tuple[str, int], set[Series]] = field(default_factory=dict)
    _decided: dict[tuple[str, int], None] = field(default_factory=dict)

    def note(self, series: Series, end_time_ms: int) -> None:
        """Take note that a bar that ended then stands in its stream."""
        place = (series.interval, end_time_ms)
        if place not in self._decided:
            self._standing.setdefault(place, set()).add(series)

    @property
    def standing(self) -> bool:
        """True while any barrier stands."""
        return bool(self._standing)

    def check(self, members: Iterable[Member], now_ms: int) -> list[Completed]:
        """Return the barriers that are decided by now, oldest end first."""
        everybody = list(members)
        decided = []
        for place in sorted(self._standing, key=lambda place: place[1]):
            interval, end_time_ms = place
            published = self._standing[place]
            awaited = [x for x in everybody if _belongs(x, interval, end_time_ms)]
            # Some come with history, after a check.
            published |= {x.series for x in awaited if _has_bar(x, end_time_ms)}
            missing = [x.series for x in awaited if x.series not in published]
            late = now_ms >= end_time_ms + self.settle_ms + TIMEOUT_MS
            if missing and not late and len(self._standing) <= BARRIERS_MAX:
                continue
            named = tuple(sorted(missing)[:MISSING_MAX])
            decided.append(Completed(interval, end_time_ms, len(published), named, len(missing)))
            self._forget(place)
        return decided

    def _forget(self, place: tuple[str, int]) -> None:
        del self._standing[place]
        self._decided[place] = None
        while len(self._decided) > REMEMBERED_MAX:
            del self._decided[next(iter(self._decided))]


def _has_bar(member: Member, end_time_ms: int) -> bool:
    return end_time_ms - member.newest_open_ms <= member.series.interval_ms


def _belongs(member: Member, interval: str, end_time_ms: int) -> bool:
    """Tell whether a series must have a bar that ends then.

    Nobody waits for a bar of a week or a month: when it ends depends on holidays.
    """
    series, hours = member.series, member.hours
    if member.newest_open_ms >= end_time_ms:
        return False  # it is past that, with or without a bar
    if series.interval != interval or member.late or series.interval_ms > DAY_MS:
        return False
    if hours.open_ms(end_time_ms - series.interval_ms, end_time_ms) == 0:
        return False
    ends_session = hours.is_open(end_time_ms - 1) and not hours.is_open(end_time_ms)
    if ends_session:
        return True
    if series.interval_ms == DAY_MS and not hours.always:
        return False
    return (end_time_ms - member.newest_open_ms) % series.interval_ms == 0
