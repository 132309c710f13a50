"""Whole runs under faults: what must be true is true at every step, and all comes right after."""

from __future__ import annotations

import pytest

from tests.simulation.batch import failure
from tests.simulation.plan import draw
from tests.simulation.world import simulate

SEEDS = range(6)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_runs_without_a_violation(seed: int) -> None:
    outcome = simulate(draw(seed))
    assert not outcome.violation, failure(seed, outcome.violation)
    assert outcome.bars > 0
