"""All planted bugs, and the hunt for them: the checker must find every one."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.simulation import consumer_bugs, publisher_bugs
from tests.simulation.plan import Plan, draw
from tests.simulation.planting import Bug
from tests.simulation.world import Outcome, simulate

SEEDS: Final = 200
"""Within so many seeds every bug must be found."""
BUGS: Final = {bug.name: bug for bug in (*publisher_bugs.BUGS, *consumer_bugs.BUGS)}


def hunt(name: str, *, known_first: bool = False) -> Outcome | None:
    """Plant a bug and return the first run in which the checker finds something."""
    bug = BUGS[name]
    seeds = (*([bug.seed] if known_first else ()), *range(SEEDS))
    for seed in dict.fromkeys(seeds if bug.scenario is None else (0,)):
        plan = plan_of(bug, seed)
        if bug.needs and not bug.needs & plan.mix:
            continue
        outcome = simulate(plan, bug=bug.plant())
        if outcome.violation:
            return outcome
    return None


def plan_of(bug: Bug, seed: int) -> Plan:
    """Return what a seed means where a bug is planted."""
    if bug.scenario is not None:
        return bug.scenario()
    plan = draw(seed)
    if bug in publisher_bugs.BUGS:
        # Nobody needs to read what they publish.
        plan = replace(plan, members=0)
    return replace(plan, mix=bug.only, strikes=()) if bug.only else plan
