"""Run the simulation: many seeds, one seed with its trace, or the hunt for planted bugs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests.simulation import batch, bugs
from tests.simulation.plan import draw
from tests.simulation.world import simulate


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for; 0 where nothing was found that should not be."""
    asked = _parser().parse_args(arguments)
    if asked.seed is not None:
        return _run_one(asked.seed, asked.bug, trace=asked.trace)
    failed = False
    if asked.seeds:
        failed = _run_many(range(asked.first, asked.first + asked.seeds), asked.jobs)
    if asked.bugs:
        failed = _find_bugs(asked.jobs, known_first=asked.known_first) or failed
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=0, help="run so many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, help="processes; as many as processors by default")
    parser.add_argument("--bugs", action="store_true", help="plant each bug and hunt it")
    known = "begin with the seed that found a bug before, rather than with 0"
    parser.add_argument("--known-first", action="store_true", help=known)
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="show all that happens in it")
    parser.add_argument("--bug", choices=bugs.BUGS, metavar="NAME", help="plant this bug in it")
    return parser


def _run_many(seeds: Sequence[int], jobs: int | None) -> bool:
    figures = batch.run(seeds, jobs, tell=lambda line: print(line, flush=True))
    for line in figures.lines():
        print(line)
    return bool(figures.violations or figures.never())


def _run_one(seed: int, bug: str | None, *, trace: bool) -> int:
    plan = draw(seed) if bug is None else bugs.plan_of(bugs.BUGS[bug], seed)
    outcome = simulate(plan, trace=trace, bug=None if bug is None else bugs.BUGS[bug].plant())
    for line in outcome.lines:
        print(line)
    print(plan)
    if outcome.violation:
        print(batch.failure(seed, outcome.violation, bug))
        return 1
    minutes = outcome.virtual_ms // 60_000
    print(f"seed {seed}: {minutes} virtual minutes, {outcome.bars} bars checked, all is well")
    return 0


def _find_bugs(jobs: int | None, *, known_first: bool) -> bool:
    missed = []
    print("planted bugs, and the seed that found each:", flush=True)
    for name, found in batch.find_bugs(jobs, known_first=known_first):
        if found is None:
            missed.append(name)
        seed, violation = (found.seed, found.violation) if found else (None, "NOT FOUND")
        last_line = violation.strip().splitlines()[-1]
        print(f"{'' if seed is None else seed:>9} {name}: {last_line[:160]}", flush=True)
    print(f"{len(bugs.BUGS) - len(missed)} of {len(bugs.BUGS)} bugs found")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
