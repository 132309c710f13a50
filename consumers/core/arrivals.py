"""What the server gave of one stream: which of it is work, and what is missing before it.

A bar names the one before it in the stream (`p`), and an entry's ID is the bar's open
time, so continuity is known across restarts: the group's position says what came
last. Where a bar does not name it, the reader looks at the stream and `judge`s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from consumers.core.ids import EntryId
from consumers.core.lane import Source
from consumers.core.lanes import Letter
from consumers.core.work import Failure, Gap, Kind, Work
from publisher.wire import Bar


@dataclass(frozen=True, slots=True)
class Arrival:
    """An entry as it was given; without bar and event it cannot be read, or was trimmed."""

    entry: EntryId
    attempt: int = 1
    bar: Bar | None = None
    event: Mapping[str, Any] | None = None
    fault: str = ""
    """Why it cannot be read; empty where it can, or was trimmed."""
    fields: Mapping[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Doubt:
    """A bar that does not name the one that came before it."""

    work: Work
    last_ms: int
    previous_ms: int
    proven: bool
    """The one before it arrived here, so what stands between was never given to us."""


@dataclass(slots=True)
class Sifted:
    """What came of an arrival of entries."""

    works: list[Work] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)
    repeated: list[EntryId] = field(default_factory=list)
    """Handled before, so only acknowledged."""
    gone: list[EntryId] = field(default_factory=list)
    """Trimmed, and no gap to tell of."""
    trimmed: int = 0


def sift(source: Source, arrivals: Iterable[Arrival]) -> Sifted:
    """Note what arrived, in ascending order, and sort it; each entry counts once."""
    found, run = Sifted(), list[EntryId]()
    for arrival in arrivals:
        entry = arrival.entry
        source.arrived(entry)
        if entry in source.unacked:
            continue
        source.unacked.add(entry)
        if source.ordered and entry <= source.processed:
            found.repeated.append(entry)
        elif not arrival.fault and arrival.bar is None and arrival.event is None:
            run.append(entry)
        else:
            _close(source, run, found)
            _place(source, arrival, found)
    _close(source, run, found)
    return found


def skips(source: Source, arrival: Arrival) -> bool:
    """Tell whether what is new names a bar before it that was not given to us.

    Where all before it came here, the server may have given that to a call of ours
    whose answer was lost, and that it ran late: it is an own pending entry then.
    """
    bar, last_ms = arrival.bar, source.opened_ms
    if not _is_continuous(source) or not source.proven or bar is None or last_ms is None:
        return False
    return bar.previous_open_time_ms is not None and bar.previous_open_time_ms > last_ms


def _is_continuous(source: Source) -> bool:
    """Tell whether each entry names the one before, and all come here."""
    return source.kind is Kind.BARS and source.ordered


def _close(source: Source, run: list[EntryId], found: Sifted) -> None:
    """Make one gap of the trimmed entries side by side."""
    if not run:
        return
    *also, last = run
    found.trimmed += len(run)
    series, known = source.lane.series, source.opened_ms
    if series is None or not _is_continuous(source) or (known or 0) >= last.ms:
        found.gone += run
    else:
        from_ms = run[0].ms - 1 if known is None else known
        gap = Gap(series, from_ms, last.ms, "trimmed")
        found.works.append(Work(source.lane, last, gap=gap, also=tuple(also)))
        source.opened_ms = last.ms
    run.clear()


def _place(source: Source, arrival: Arrival, found: Sifted) -> None:
    if arrival.fault:
        failure = Failure(arrival.fault)
        found.letters.append(
            Letter(source, arrival.entry, failure, arrival.attempt, arrival.fields)
        )
        if _is_continuous(source):
            source.opened_ms = max(source.opened_ms or 0, arrival.entry.ms)
        return
    work = Work(
        source.lane,
        arrival.entry,
        source.kind,
        arrival.bar,
        arrival.event,
        fields=arrival.fields,
        attempt=arrival.attempt,
    )
    found.works.append(work)
    if _is_continuous(source):
        _check_continuity(source, work, found)


def _check_continuity(source: Source, work: Work, found: Sifted) -> None:
    bar, last_ms, proven = work.bar, source.opened_ms, source.proven
    assert bar is not None
    if last_ms is not None and bar.open_time_ms <= last_ms:
        return
    source.opened_ms, source.proven = bar.open_time_ms, True
    previous_ms = bar.previous_open_time_ms
    from_ms = previous_ms if last_ms is None else last_ms
    if from_ms is None:
        return
    if bar.gap:
        work.gap = Gap(bar.series, from_ms, bar.open_time_ms - 1, "abandoned")
    elif previous_ms is None and bar.open_time_ms - from_ms > bar.series.interval_ms:
        # A stream that was begun anew cannot say what it does not have.
        work.gap = Gap(bar.series, from_ms, bar.open_time_ms - 1)
    if last_ms is not None and previous_ms is not None and previous_ms > last_ms:
        found.doubts.append(Doubt(work, last_ms, previous_ms, proven))


def judge(doubt: Doubt, has_previous: bool, oldest: EntryId | None) -> Gap | None:
    """Say what is missing before a bar, by what the stream holds now.

    `has_previous` is whether the bar that it names is there, `oldest` its first entry.
    A bar that is there was given to whoever held the series before, unless we did.
    """
    bar, last_ms = doubt.work.bar, doubt.last_ms
    assert bar is not None
    if has_previous and not doubt.proven:
        return doubt.work.gap
    to_ms = bar.open_time_ms - 1 if bar.gap else doubt.previous_ms
    if not has_previous and (oldest is None or oldest.ms > last_ms):
        return Gap(bar.series, last_ms, to_ms, "trimmed")
    return Gap(bar.series, last_ms, to_ms, "abandoned" if bar.gap else "missing")
