"""Whether a stream is what TradingView's history says."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from consumers.core.audit import Differences, Values, values_of
from consumers.core.times import utc_text
from publisher.wire import Bar


@dataclass(slots=True)
class Known:
    """What the stream says of its newest bars, corrections applied.

    Only bars from the oldest kept to the newest one of the stream count: older ones may
    be trimmed away, newer ones were not there yet.
    """

    times: list[int] = field(default_factory=list)
    """Open times of the stream's own entries, ascending."""
    values: dict[int, list[Values]] = field(default_factory=dict)
    """By open time the values that count, then those of revisions that came meanwhile."""
    flagged: set[int] = field(default_factory=set)
    """Open times of bars with the gap flag."""

    @classmethod
    def of(cls, bars: Iterable[Bar], newest: Mapping[int, Bar]) -> Known:
        """Return what is known by the bars and the newest revisions."""
        kept = {bar.open_time_ms: bar for bar in bars}
        values = {time_ms: [values_of(bar)] for time_ms, bar in (kept | dict(newest)).items()}
        flagged = {time_ms for time_ms, bar in kept.items() if bar.gap}
        return cls(sorted(kept), values, flagged)

    def revise(self, bar: Bar) -> None:
        """Take a correction that came while history was fetched: before or after it counts."""
        if self.times and self.times[0] <= bar.open_time_ms <= self.times[-1]:
            self.values.setdefault(bar.open_time_ms, []).append(values_of(bar))


@dataclass(frozen=True, slots=True)
class Comparison:
    """What could be compared."""

    compared: int = 0
    """Bars that both have."""
    reach_ms: int | None = None
    """Open time of history's oldest bar: so far back it reached."""
    unreached: int = 0
    """Bars older than that."""
    newer: int = 0
    """Bars of history that opened after the stream's newest one."""


def compare(known: Known, history: Mapping[int, Values], found: Differences) -> Comparison:
    """Compare value for value; both by open time.

    A bar that only history has counts between the stream's first and last one, a bar
    that only the stream has within history's reach. The stream's newest may be closed
    while history still waits for it to settle.
    """
    if not known.times or not history:
        return Comparison(unreached=len(known.values))
    first_ms, last_ms = known.times[0], known.times[-1]
    reach_ms, until_ms = min(history), max(history)
    for time_ms in sorted(history.keys() | known.values.keys()):
        ours, theirs = known.values.get(time_ms), history.get(time_ms)
        if ours is None:
            if first_ms < time_ms < last_ms:
                found.add("missing", time_ms, _missing(known, time_ms))
        elif theirs is None:
            if time_ms >= reach_ms and not time_ms == last_ms > until_ms:
                found.add("extra", time_ms, f"history has no such bar, the stream {ours[0]}")
        elif theirs not in ours:
            found.add("different", time_ms, f"history has {theirs}, the stream {ours[-1]}")
    return Comparison(
        compared=len(history.keys() & known.values.keys()),
        reach_ms=reach_ms,
        unreached=sum(time_ms < reach_ms for time_ms in known.values),
        newer=sum(time_ms > last_ms for time_ms in history),
    )


def _missing(known: Known, time_ms: int) -> str:
    place = bisect(known.times, time_ms)
    told = known.times[place] in known.flagged
    announced = ", announced by the next one's gap flag" if told else ""
    return f"history has it, the stream not, after {utc_text(known.times[place - 1])}{announced}"
