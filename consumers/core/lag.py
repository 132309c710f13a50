"""How far a group is behind: numbers that are never null, and how good they are.

The server's own `lag` is null after a group began in the middle of a stream or
an entry was deleted, missing before Redis 7.0, and wrong after a trim on many
versions. So what is unread follows from the ends of the stream where it can, else
it is counted, and only beyond the count's limit the server's number, or else
the time that is left, tells the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from consumers.core.ids import EntryId


class Quality(IntEnum):
    """How good the number of unread entries is, the best first."""

    EXACT = 0
    """It follows from where the stream begins and ends."""
    COUNTED = 1
    """The entries were counted."""
    ESTIMATED = 2
    """More than are counted: the server's number, or by the time that is left."""
    AT_LEAST = 3
    """Not all series of the group were looked at."""

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Ends:
    """What a stream holds."""

    length: int
    first: EntryId
    """The oldest entry; of an empty stream any ID."""
    newest: EntryId


@dataclass(frozen=True, slots=True)
class Progress:
    """What the server says of a group in a stream."""

    delivered: EntryId
    """Entries up to here were handed to the group."""
    pending: int
    """Of these, so many are not acknowledged."""
    lag: int | None
    """The server's own number of unread entries, where it has one."""


@dataclass(frozen=True, slots=True)
class Count:
    """What came of counting the entries after the last one delivered."""

    limit: int
    """So many were asked for."""
    number: int
    newest: EntryId | None
    """The last one counted."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a group is behind in one series; all times in ms."""

    unread: int
    """Entries not yet handed to the group."""
    pending: int
    """Entries handed out and not acknowledged."""
    oldest_pending_ms: int
    """How long ago the oldest of these was last handed out; 0 where there is none."""
    time_lag_ms: int
    """Between the opening of the newest bar and of the last one acknowledged."""
    quality: Quality


@dataclass(frozen=True, slots=True)
class GroupTotals:
    """The same of all series of a group: sums, the greatest ages, the worst quality."""

    series: int
    unread: int
    pending: int
    oldest_pending_ms: int
    time_lag_ms: int
    quality: Quality


NOTHING: Final = Count(0, 0, None)


def must_count(ends: Ends, progress: Progress) -> bool:
    """Tell whether the stream's ends alone do not say how many entries are unread."""
    return bool(ends.length) and ends.first <= progress.delivered < ends.newest


def unread(ends: Ends, progress: Progress, count: Count = NOTHING) -> tuple[int, Quality]:
    """Return how many entries are unread, and how good that is.

    `count` is needed where `must_count` says so.
    """
    if not ends.length or progress.delivered >= ends.newest:
        return 0, Quality.EXACT
    if progress.delivered < ends.first:
        return ends.length, Quality.EXACT
    if count.number < count.limit or (count.newest is not None and count.newest >= ends.newest):
        return count.number, Quality.COUNTED
    return _estimated(ends, progress, count), Quality.ESTIMATED


def _estimated(ends: Ends, progress: Progress, count: Count) -> int:
    # The first entry was read, so at least that one is not unread.
    least, most = max(1, count.number), max(1, ends.length - 1)
    if progress.lag is not None and least <= progress.lag <= most:
        return progress.lag
    last = progress.delivered if count.newest is None else count.newest
    span_ms = ends.newest.ms - ends.first.ms
    left_ms = ends.newest.ms - last.ms
    rest = most * left_ms // span_ms if span_ms else 0
    return max(least, min(most, count.number + rest))


def time_lag_ms(ends: Ends, acknowledged: EntryId | None, interval_ms: int) -> int:
    """Return how long before the newest entry the last acknowledged one is.

    Where nothing of what the stream holds was acknowledged, that is taken to be one
    interval before its first entry.
    """
    if not ends.length:
        return 0
    before_ms = ends.first.ms - interval_ms
    position_ms = before_ms if acknowledged is None else max(before_ms, acknowledged.ms)
    return max(0, ends.newest.ms - position_ms)


def totals(lags: Iterable[Lag], *, complete: bool) -> GroupTotals:
    """Sum up the series of a group; `complete` says whether these are all."""
    rows = list(lags)
    worst = max((x.quality for x in rows), default=Quality.EXACT)
    return GroupTotals(
        series=len(rows),
        unread=sum(x.unread for x in rows),
        pending=sum(x.pending for x in rows),
        oldest_pending_ms=max((x.oldest_pending_ms for x in rows), default=0),
        time_lag_ms=max((x.time_lag_ms for x in rows), default=0),
        quality=worst if complete else Quality.AT_LEAST,
    )
