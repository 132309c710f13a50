"""Run the simulation: `python -m tests.simulation --seeds 1000`, or one seed with its trace."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests.simulation import batch
from tests.simulation.bugs import BUGS
from tests.simulation.plan import Plan, draw
from tests.simulation.world import simulate


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for; 0 where nothing was found that should not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many, from 0 on")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, help="processes; as many as processors by default")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--trace", action="store_true", help="show all that happens in it")
    parser.add_argument("--bugs", action="store_true", help="plant each bug and find it")
    asked = parser.parse_args(arguments)
    if asked.bugs:
        return _find_bugs()
    if asked.seed is not None:
        return _run_one(draw(asked.seed), trace=asked.trace)
    return _run_many(range(asked.first, asked.first + asked.seeds), asked.jobs)


def _run_many(seeds: Sequence[int], jobs: int | None) -> int:
    figures = batch.run(seeds, jobs)
    for line in figures.lines():
        print(line)
    return 1 if figures.violations or figures.never() else 0


def _run_one(plan: Plan, *, trace: bool) -> int:
    outcome = simulate(plan, trace=trace)
    for line in outcome.lines:
        print(line)
    print(plan)
    if outcome.violation:
        print(batch.failure(plan.seed, outcome.violation))
        return 1
    minutes = outcome.virtual_ms // 60_000
    print(f"seed {plan.seed}: {minutes} virtual minutes, {outcome.bars} bars checked, all is well")
    return 0


def _find_bugs() -> int:
    missed = 0
    for bug in BUGS:
        found = bug.hunt()
        missed += found is None
        print(f"{bug.name}: {f'seed {found.seed}: {found.violation}' if found else 'NOT FOUND'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
