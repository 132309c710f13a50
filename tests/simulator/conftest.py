"""Fixtures: a running simulator and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from simulator_world import TUESDAY_MS, Client

from publisher.simulator import Simulator


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A simulator that starts on a Tuesday afternoon and runs in real time."""
    with Simulator(seed=7, start_ms=TUESDAY_MS) as running:
        yield running


@pytest.fixture
def fast() -> Iterator[Simulator]:
    """A simulator sixty times as fast."""
    with Simulator(seed=7, speed=60, start_ms=TUESDAY_MS) as running:
        yield running


@pytest.fixture
def client(simulator: Simulator) -> Iterator[Client]:
    """A client of the simulator that runs in real time."""
    with Client(simulator.url) as connected:
        yield connected
