"""What is wrong with a stream, judged against the truth. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

Values = tuple[float, ...]
"""Open time in seconds, open, high, low, close, and volume where there is one."""

SHOWN_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it was read, decoded without the project's own code."""

    entry_id: str
    open_time_ms: int
    values: Values
    previous_ms: int | None
    gap: bool = False
    revision: int = 0


@dataclass(slots=True)
class Verdict:
    """What was found; open times, ms."""

    compared: int = 0
    lost: list[int] = field(default_factory=list)
    """The truth has them, neither stream nor corrections do, and nobody said so."""
    announced: list[int] = field(default_factory=list)
    """Missing too, but between `after_ms` and `before_ms` of a gap that was announced."""
    late: list[int] = field(default_factory=list)
    """They stand on the corrections stream alone."""
    premature: list[int] = field(default_factory=list)
    """Published with other values first; a correction has the right ones."""
    wrong: list[int] = field(default_factory=list)
    invented: list[int] = field(default_factory=list)
    duplicated: list[int] = field(default_factory=list)
    disordered: list[int] = field(default_factory=list)
    """Entries whose ID is not their time, does not rise, or whose `p` is not the one before."""

    @property
    def faults(self) -> dict[str, list[int]]:
        """What must never be; announced gaps, late and premature bars are told besides."""
        found = {
            "lost": self.lost,
            "wrong": self.wrong,
            "invented": self.invented,
            "duplicated": self.duplicated,
            "disordered": self.disordered,
        }
        return {name: times for name, times in found.items() if times}

    def __str__(self) -> str:
        return "; ".join(
            f"{len(times)} {name}: {', '.join(map(str, times[:SHOWN_MAX]))}"
            for name, times in self.faults.items()
        )


def judge(
    entries: Sequence[Entry],
    corrections: Iterable[Entry],
    truth: Sequence[Values],
    abandoned: Iterable[tuple[int, int]] = (),
) -> Verdict:
    """Compare a stream, corrections applied, with the bars that must stand in it.

    `truth` ends where the comparison ends; entries beyond are not looked at.
    """
    until_ms = _open_ms(truth[-1]) if truth else 0
    entries = [entry for entry in entries if entry.open_time_ms <= until_ms]
    verdict = Verdict(compared=len(truth))
    _check_order(entries, verdict)
    standing = {entry.open_time_ms: entry.values for entry in entries}
    gaps = _announced_gaps(entries, abandoned)
    corrected = standing | _newest(corrections, until_ms)
    wanted = {_open_ms(values): values for values in truth}
    for time_ms, values in wanted.items():
        if time_ms not in corrected:
            is_announced = any(after < time_ms < before for after, before in gaps)
            (verdict.announced if is_announced else verdict.lost).append(time_ms)
        elif corrected[time_ms] != values:
            verdict.wrong.append(time_ms)
        elif standing.get(time_ms, values) != values:
            verdict.premature.append(time_ms)
        if time_ms in corrected and time_ms not in standing:
            verdict.late.append(time_ms)
    first_ms = min(wanted, default=0)
    verdict.invented += [t for t in corrected if t not in wanted and t >= first_ms]
    return verdict


def _check_order(entries: Sequence[Entry], verdict: Verdict) -> None:
    seen: set[int] = set()
    before_ms: int | None = None
    for entry in entries:
        time_ms = entry.open_time_ms
        if time_ms in seen:
            verdict.duplicated.append(time_ms)
        elif (
            (before_ms is not None and time_ms < before_ms)
            or entry.entry_id != f"{time_ms}-0"
            or entry.previous_ms != before_ms
        ):
            verdict.disordered.append(time_ms)
        seen.add(time_ms)
        before_ms = time_ms


def _announced_gaps(
    entries: Sequence[Entry], abandoned: Iterable[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return the gaps that an event and the next entry's `gap` both announce."""
    flagged = {entry.open_time_ms for entry in entries if entry.gap}
    return [(after, before) for after, before in abandoned if before in flagged]


def _newest(corrections: Iterable[Entry], until_ms: int) -> dict[int, Values]:
    newest: dict[int, Entry] = {}
    for entry in corrections:
        known = newest.get(entry.open_time_ms)
        if entry.open_time_ms <= until_ms and (known is None or entry.revision >= known.revision):
            newest[entry.open_time_ms] = entry
    return {time_ms: entry.values for time_ms, entry in newest.items()}


def _open_ms(values: Values) -> int:
    return round(values[0] * 1000)
