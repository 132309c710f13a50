"""What the records of all members prove, against what stood in the streams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Published = Mapping[str, Mapping[int, float]]
"""By series and open time, ms: when the bar was seen in its stream, monotonic s."""


@dataclass(frozen=True, slots=True)
class Record:
    """A bar at a handler."""

    series: str
    open_time_ms: int
    pid: int
    at_s: float
    """By the monotonic clock."""


@dataclass(slots=True)
class Verdict:
    """What became of the bars."""

    published: int = 0
    handled: int = 0
    """Bars handled at least once."""
    again: int = 0
    """Times that a bar was handled once more, all of them at take-overs."""
    longest_stop_s: float = 0.0
    """The longest time from a bar's standing in its stream to its first handling."""
    stopped_series: str = ""
    faults: list[str] = field(default_factory=list)


def judge(published: Published, records: Iterable[Record]) -> Verdict:
    """Hold the records against the streams.

    Wrong is a bar that no member handled, a first handling out of order, one that
    is in no stream, and a repeat where the series did not change hands.
    """
    verdict = Verdict()
    by_series: dict[str, list[Record]] = {series: [] for series in published}
    for one in sorted(records, key=lambda record: record.at_s):
        if one.open_time_ms in published.get(one.series, {}):
            by_series[one.series].append(one)
        else:
            verdict.faults.append(f"{one.series} {one.open_time_ms}: handled, in no stream")
    for series, handled in by_series.items():
        _judge_series(verdict, series, published[series], handled)
    return verdict


def _judge_series(
    verdict: Verdict, series: str, published: Mapping[int, float], handled: list[Record]
) -> None:
    first: dict[int, float] = {}
    newest_ms = previous_pid = newest_first_ms = 0
    for one in handled:
        if one.pid != previous_pid:
            newest_ms, previous_pid = 0, one.pid
        if one.open_time_ms in first:
            verdict.again += 1
        elif one.open_time_ms < newest_first_ms:
            verdict.faults.append(f"{series} {one.open_time_ms}: first handled after a later bar")
        if one.open_time_ms <= newest_ms:
            verdict.faults.append(f"{series} {one.open_time_ms}: again in process {one.pid}")
        newest_ms = max(newest_ms, one.open_time_ms)
        newest_first_ms = max(newest_first_ms, one.open_time_ms)
        first.setdefault(one.open_time_ms, one.at_s)
    verdict.published += len(published)
    verdict.handled += len(first)
    for open_time_ms, seen_s in published.items():
        if open_time_ms not in first:
            verdict.faults.append(f"{series} {open_time_ms}: never handled")
        elif first[open_time_ms] - seen_s > verdict.longest_stop_s:
            verdict.longest_stop_s = first[open_time_ms] - seen_s
            verdict.stopped_series = series
