"""What happens to the members, and when; drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

MEMBERS_MAX: Final = 4
MEMBERS_LAST: Final = 2
FIRST_S: Final = 8.0
"""One member alone, before three more come at once."""
EVERY_S: Final = (4.0, 9.0)
"""Time between two changes: some strike before the shares are even again, some after."""
PAUSE_S: Final = (1.0, 12.0)
"""How long a member sleeps: some shorter than the lease, some longer."""
LAST_SHARE: Final = 0.2
"""The last part of the run, in which two members remain."""

Action = Literal["add", "kill", "pause", "leave"]


@dataclass(frozen=True, slots=True)
class Step:
    """One change to the members."""

    at_s: float
    action: Action
    pause_s: float = 0.0


def draw(seed: int, length_s: float) -> list[Step]:
    """Return the changes of a run: 1, then 4, random ones, at last 2 members."""
    rng = random.Random(seed)
    steps = [Step(0.0, "add"), *(Step(FIRST_S, "add") for _ in range(MEMBERS_MAX - 1))]
    last_s = length_s * (1 - LAST_SHARE)
    members = MEMBERS_MAX
    for at_s in _moments(rng, FIRST_S, last_s):
        action = _choose(rng, members)
        members += {"add": 1, "pause": 0, "kill": -1, "leave": -1}[action]
        steps.append(Step(at_s, action, rng.uniform(*PAUSE_S) if action == "pause" else 0.0))
    while members > MEMBERS_LAST:
        steps.append(Step(last_s, rng.choice(("kill", "leave"))))
        members -= 1
    steps += [Step(last_s, "add")] * (MEMBERS_LAST - members)
    return steps


def _moments(rng: random.Random, first_s: float, last_s: float) -> Iterator[float]:
    at_s = first_s + rng.uniform(*EVERY_S)
    while at_s < last_s:
        yield at_s
        at_s += rng.uniform(*EVERY_S)


def _choose(rng: random.Random, members: int) -> Action:
    if members <= MEMBERS_LAST:
        return "add"
    if members >= MEMBERS_MAX:
        return rng.choice(("kill", "pause", "pause", "leave"))
    return rng.choice(("add", "add", "kill", "pause", "leave"))
