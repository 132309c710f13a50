"""Many seeds, on all processors, and what they came to."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from tests.simulation import bugs, consuming
from tests.simulation.plan import IN_CALL, IN_HANDLER, STRIKES, draw
from tests.simulation.world import Outcome, simulate

FAULTS: Final = (*STRIKES, *IN_CALL, *IN_HANDLER)
GUARDS: Final = (
    # Of the bus' scripts, and of who calls them.
    "script fenced",
    "script present",
    "script diverged",
    "script unknown",
    "fenced",
    "again: the bus has lost the stream's newest entries",
    # Of the way to TradingView, and of what it says.
    "asked request_more_data",
    "inbox_full",
    "unechoed",
    "series.checked",
    "bar.corrected",
    "bar.refused",
    "message.malformed",
    "again: the last values of a bar were refused",
    "again: no answer",
    *consuming.GUARDS,
)
"""What must have stood at least once in any batch."""
RARE: Final = (
    "gap.abandoned",
    "again: too many bars wait for the bus",
    "token_ended",
    "token_ended_mute",
    "correction.dropped",
)
"""What must have stood at least once in a large batch."""
LARGE: Final = 500
TOLD_SEEDS: Final = 100
"""After so many it is told how far a batch is."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Figures:
    """What many runs came to."""

    seeds: int = 0
    virtual_ms: int = 0
    recovery_ms_max: int = 0
    bars: int = 0
    events: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    violations: dict[int, str] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Count one run."""
        self.seeds += 1
        self.virtual_ms += outcome.virtual_ms
        self.recovery_ms_max = max(self.recovery_ms_max, outcome.recovery_ms)
        self.bars += outcome.bars
        self.events += outcome.events
        self.counts.update(outcome.counts)
        if outcome.violation:
            self.violations[outcome.seed] = outcome.violation

    def never(self) -> list[str]:
        """Return the faults and guards that never were, and should have been."""
        wanted = [*FAULTS, *GUARDS, *(RARE if self.seeds >= LARGE else ())]
        return [kind for kind in wanted if not self.counts[kind]]

    def lines(self) -> Iterator[str]:
        """Yield the figures for people."""
        hours = self.virtual_ms / 3_600_000
        yield f"{self.seeds} seeds, {hours:.0f} virtual hours, {self.events} events"
        yield f"{self.bars} bars checked, {self.counts['consumer.handled']} handled"
        yield f"longest recovery after the last fault: {self.recovery_ms_max // 1000} s"
        for title, kinds in (("faults", FAULTS), ("guards", (*GUARDS, *RARE))):
            yield f"{title}:"
            yield from (f"{self.counts[kind]:9} {kind}" for kind in kinds)
        yield from (f"never happened: {kind}" for kind in self.never())
        yield f"{len(self.violations)} violations in {self.seconds:.0f} s"


def failure(seed: int, violation: str, bug: str | None = None) -> str:
    """Return what somebody needs to look into a violation."""
    replay = f"python -m tests.simulation --seed {seed} --trace"
    replay += f" --bug {bug!r}" if bug else ""
    return f"seed {seed} at {commit()}: {violation}\n    replay: {replay}"


def commit() -> str:
    """Return the commit that is checked out, and whether it was changed since."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "an unknown commit"
    return found.stdout.strip()


def run_seed(seed: int) -> Outcome:
    """Run one seed."""
    return simulate(draw(seed))


def run(
    seeds: Sequence[int], jobs: int | None = None, tell: Callable[[str], None] | None = None
) -> Figures:
    """Run seeds, in as many processes as there are processors unless told otherwise.

    `tell` hears of each violation as soon as it is found.
    """
    figures = Figures()
    begun = time.monotonic()
    for outcome in _spread(run_seed, seeds, jobs):
        figures.add(outcome)
        if tell is not None and outcome.violation:
            tell(failure(outcome.seed, outcome.violation))
        if tell is not None and figures.seeds % TOLD_SEEDS == 0:
            tell(f"{figures.seeds} of {len(seeds)} seeds")
    figures.seconds = time.monotonic() - begun
    return figures


def find_bugs(
    jobs: int | None = None, *, known_first: bool = False
) -> Iterable[tuple[str, Outcome | None]]:
    """Hunt all planted bugs; yield each with the run that found it, None where none did."""
    return _spread(partial(_hunt, known_first=known_first), list(bugs.BUGS), jobs)


def _hunt(name: str, *, known_first: bool) -> tuple[str, Outcome | None]:
    return name, bugs.hunt(name, known_first=known_first)


def _spread(run: Callable[[T], R], tasks: Sequence[T], jobs: int | None) -> Iterator[R]:
    jobs = jobs or os.cpu_count() or 1
    if jobs == 1:
        yield from map(run, tasks)
        return
    # A fresh interpreter each: nothing of this one's threads comes along.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(run, tasks)
