"""The time axis that comes with bars: ticks and the weight of their labels."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import islice
from typing import Any, Final

from publisher.simulator.calendar import DAY_MS, utc_day, utc_offset_s
from publisher.simulator.periods import CALENDAR_INTERVALS, Instrument, periods_from

_WEIGHTS: Final = ((43200, 33), (21600, 32), (10800, 31), (3600, 30), (1800, 22), (300, 21))
"""Boundaries in seconds and the weight of a tick that crosses them, largest first."""

_DAY_S: Final = DAY_MS // 1000


class Axis:
    """Makes the ticks of one series; times are ms, UTC, marks are in the chart's zone."""

    def __init__(self, instrument: Instrument, interval: str, timezone: str | None) -> None:
        self._instrument = instrument
        self._interval = interval
        self._timezone = timezone or instrument.symbol.venue.timezone
        self._daily = interval in CALENDAR_INTERVALS

    def marks(self, starts_ms: Sequence[int], first_index: int) -> list[list[int]]:
        """Return `[weight, local time, index]` for each bar."""
        marks: list[list[int]] = []
        before: int | None = None
        for index, start in enumerate(starts_ms, first_index):
            local = self._local(start)
            marks.append([10 if before is None else _weight(before, local), local, index])
            before = local
        return marks

    def past(self, series_id: str, starts_ms: Sequence[int], switch: int | None) -> dict[str, Any]:
        """Return the axis of a message that carries these bars, from index 0."""
        axis: dict[str, Any] = {
            "index": 0,
            "zoffset": 0,
            "changes": [start / 1000 for start in starts_ms],
            "marks": self.marks(starts_ms, 0),
            "index_diff": [],
        }
        if switch is not None:
            axis["last_session_switches"] = {series_id: {"market": switch}}
        return axis

    def future(self, after_ms: int, first_index: int, count: int) -> dict[str, Any]:
        """Return the axis that announces the bars to come after a period's end."""
        periods = islice(periods_from(self._instrument, self._interval, after_ms), count)
        starts = [period.start_ms for period in periods]
        return {
            "index": first_index,
            "zoffset": 0,
            "changes": [start / 1000 for start in starts],
            "marks": self.marks(starts, first_index),
            "index_diff": [],
        }

    def session_of(self, start_ms: int) -> date:
        """Return the trading date of a bar."""
        venue = self._instrument.symbol.venue
        local = start_ms // 1000 + utc_offset_s(venue.timezone, start_ms // 1000)
        # An overnight session belongs to the date on which it ends.
        return utc_day((local - min(0, venue.open) * 60) * 1000)

    def _local(self, start_ms: int) -> int:
        if self._daily:
            return (self.session_of(start_ms) - date(1970, 1, 1)).days * _DAY_S
        seconds = start_ms // 1000
        return seconds + utc_offset_s(self._timezone, seconds)


def _weight(before: int, now: int) -> int:
    if before // _DAY_S != now // _DAY_S:
        old, new = (utc_day(seconds * 1000) for seconds in (before, now))
        if old.year != new.year:
            return 70
        if old.month != new.month:
            return 60
        return 40 if old.isocalendar()[1] == new.isocalendar()[1] else 50
    for boundary, weight in _WEIGHTS:
        if before // boundary != now // boundary:
            return weight
    return 20
