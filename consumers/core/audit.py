"""Whether a stream keeps what the contract promises, judged by the stream alone.

What the contract does not promise is no fault: that bars are equally far apart, that
the first one names none before it (retention may have trimmed it), or that a correction
has a bar in the stream (a bar that came too late stands among the corrections alone).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from consumers.core.ids import EntryId
from consumers.core.times import utc_text
from publisher.wire import DAY_MS, HOUR_MS, MINUTE_MS, Bar, Series

DIFFERENCES_SHOWN_MAX: Final = 20
"""How many differences of one series are kept to be shown; all are counted."""
BARS_KEPT_MAX: Final = 40_000
"""How many of the newest bars are kept to be compared; all are audited."""
NO_VALUE: Final = 1e100
"""What TradingView sends where it has no value; never a price."""

Kind = Literal[
    "malformed",
    "misplaced",
    "disordered",
    "discontinuous",
    "unsound",
    "gap",
    "future",
    "correction",
    "missing",
    "extra",
    "different",
]
"""The last three come from the comparison with history."""

Values = tuple[float, float, float, float, float | None]
"""Open, high, low, close, volume."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it must be."""

    kind: Kind
    open_time_ms: int
    """Of the bar; of a malformed entry the first part of its ID."""
    what: str

    def __str__(self) -> str:
        """Return it as one line for people."""
        return f"{self.kind:<13}  {utc_text(self.open_time_ms)}  {self.what}"


@dataclass(slots=True)
class Differences:
    """All that was found: counted by kind, the first ones kept."""

    shown: list[Difference] = field(default_factory=list)
    counts: Counter[Kind] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """How many there are."""
        return self.counts.total()

    def add(self, kind: Kind, open_time_ms: int, what: str) -> None:
        """Count one, and keep it while there is room."""
        self.counts[kind] += 1
        if len(self.shown) < DIFFERENCES_SHOWN_MAX:
            self.shown.append(Difference(kind, open_time_ms, what))

    def extend(self, others: Differences) -> None:
        """Take over what another check found."""
        self.counts += others.counts
        self.shown += others.shown[: DIFFERENCES_SHOWN_MAX - len(self.shown)]


def values_of(bar: Bar) -> Values:
    """Return what is compared of a bar."""
    return bar.open, bar.high, bar.low, bar.close, bar.volume


def longest_ms(series: Series) -> int:
    """Return how long a bar can last: where clocks are put back, a day has an hour more."""
    return series.interval_ms + (HOUR_MS if series.interval_ms >= DAY_MS else 0)


class StreamAudit:
    """Takes the entries of one `bars` stream in their order."""

    def __init__(self, found: Differences) -> None:
        self._found = found
        self._before: EntryId | None = None
        self._newest_ms = -1
        self.entries = 0
        self.gaps = 0
        """Bars that say that others before them are missing for good."""
        self.first_ms: int | None = None
        """First part of the oldest entry's ID."""
        self.kept: deque[Bar] = deque(maxlen=BARS_KEPT_MAX)
        """The newest bars that could be read."""

    @property
    def last_ms(self) -> int | None:
        """First part of the newest entry's ID."""
        return None if self._before is None else self._before.ms

    def take(self, entry: EntryId, bar: Bar) -> None:
        """Judge the next entry."""
        opened_ms = bar.open_time_ms
        if entry != EntryId(opened_ms):
            what = f"entry {entry} must have the ID of its t, {opened_ms}-0"
            self._found.add("misplaced", opened_ms, what)
        if opened_ms <= self._newest_ms:
            what = f"it stands after {utc_text(self._newest_ms)}"
            self._found.add("disordered", opened_ms, what)
        if reason := self._break(bar):
            self._found.add("discontinuous", opened_ms, reason)
        if reason := unsound(bar):
            self._found.add("unsound", opened_ms, reason)
        if bar.gap and (reason := _unfounded_gap(bar)):
            self._found.add("gap", opened_ms, reason)
        self.gaps += bar.gap
        self._newest_ms = max(self._newest_ms, opened_ms)
        self.kept.append(bar)
        self._pass(entry)

    def take_malformed(self, entry: EntryId, reason: str) -> None:
        """Judge an entry that cannot be read."""
        self._found.add("malformed", entry.ms, f"entry {entry}: {reason}")
        self._pass(entry)

    def _pass(self, entry: EntryId) -> None:
        self.entries += 1
        if self.first_ms is None:
            self.first_ms = entry.ms
        self._before = entry

    def _break(self, bar: Bar) -> str:
        """Return how the bar does not follow the entry before it; empty where it does."""
        named_ms = bar.previous_open_time_ms
        if self._before is None:
            is_late = named_ms is not None and named_ms >= bar.open_time_ms
            return f"it names {utc_text(named_ms)} before it" if is_late else ""
        if named_ms == self._before.ms:
            return ""
        return f"it names {utc_text(named_ms)} before it, there stands {utc_text(self._before.ms)}"


def unsound(bar: Bar) -> str:
    """Return why the values cannot be a closed bar; empty where they can."""
    prices = (bar.open, bar.high, bar.low, bar.close)
    if not 0 <= min(prices) <= max(prices) < NO_VALUE:
        return f"prices must be numbers from 0, were {prices}"
    if bar.high != max(prices) or bar.low != min(prices):
        return f"high and low must enclose open and close, was {prices}"
    if bar.volume is not None and not 0 <= bar.volume < NO_VALUE:
        return f"volume must be a number from 0, was {bar.volume}"
    if bar.end_time_ms is not None and bar.end_time_ms <= bar.open_time_ms:
        return f"it must end after it opened, e was {bar.end_time_ms}"
    return "s must say how it was closed, was 'forming'" if bar.closed_by == "forming" else ""


def _unfounded_gap(bar: Bar) -> str:
    if bar.previous_open_time_ms is None:
        return "it has the gap flag and names no bar before it"
    # Every bar opens on a whole minute.
    if bar.open_time_ms - bar.previous_open_time_ms <= MINUTE_MS:
        return "it has the gap flag, and no bar fits between it and the one before"
    return ""


def check_times(times: Iterable[int], latest_ms: int, found: Differences) -> None:
    """Find open times later than `latest_ms`, the latest that can be true."""
    for open_time_ms in times:
        if open_time_ms > latest_ms:
            what = f"it opens later than {utc_text(latest_ms)}, the latest that can be"
            found.add("future", open_time_ms, what)


class CorrectionsAudit:
    """Takes the entries of one `corrections` stream in their order."""

    def __init__(self, stream: StreamAudit, found: Differences) -> None:
        """The stream has been audited already."""
        self._found = found
        self._times = {bar.open_time_ms for bar in stream.kept}
        self._first_ms = min(self._times, default=0)
        self._last_ms = stream.last_ms or 0
        self._revisions: dict[int, int] = {}
        self.entries = 0
        self.newest: dict[int, Bar] = {}
        """By open time the newest revision of bars not older than those kept."""

    @property
    def late(self) -> int:
        """How many bars stand here alone."""
        return len(self.newest.keys() - self._times)

    def take(self, bar: Bar) -> None:
        """Judge the next entry."""
        self.entries += 1
        if reason := self._stray(bar) or unsound(bar):
            self._found.add("correction", bar.open_time_ms, reason)
        known = self._revisions.get(bar.open_time_ms, 0)
        self._revisions[bar.open_time_ms] = max(known, bar.revision)
        if bar.revision >= known and self._first_ms <= bar.open_time_ms <= self._last_ms:
            self.newest[bar.open_time_ms] = bar

    def take_malformed(self, entry: EntryId, reason: str) -> None:
        """Judge an entry that cannot be read."""
        self.entries += 1
        self._found.add("malformed", entry.ms, f"correction {entry}: {reason}")

    def _stray(self, bar: Bar) -> str:
        opened_ms = bar.open_time_ms
        known = self._revisions.get(opened_ms)
        if bar.revision <= (known or 0):
            return f"n must rise, was {bar.revision} after {known or 0}"
        is_newer = opened_ms > self._last_ms
        is_absent = opened_ms >= self._first_ms and opened_ms not in self._times
        # One that came late stands here alone, as revision 1 at first.
        if is_newer or (is_absent and known is None and bar.revision > 1):
            return "it corrects a bar that the stream does not have"
        return ""
