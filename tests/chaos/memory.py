"""How much memory each publisher holds, the same process compared with itself.

Another process may be younger, or have published less, so only a process that lived
long enough says whether its memory grows. A figure is the middle of one minute's
samples: a history on its way takes more for a moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median_low
from typing import Final

WARM_S: Final = 600.0
"""After so much of its life a process holds what its work needs."""
FIGURE_S: Final = 60.0
"""The samples of so many seconds make one figure."""
GROWTH_MAX: Final = 0.05
"""By how much it may hold more at its end than once it was warm."""


@dataclass(slots=True)
class Life:
    """One process from its start to its end, or to the run's."""

    name: str
    started_s: float
    samples: list[tuple[float, int]] = field(default_factory=list)
    """Age of the process in seconds, and KiB."""

    @property
    def age_s(self) -> float:
        """How old it was when it was looked at last."""
        return self.samples[-1][0]

    def kib_at(self, age_s: float) -> int:
        """Return the figure of the minute before an age, 0 where there is none."""
        return median_low(
            [kib for at_s, kib in self.samples if age_s - FIGURE_S < at_s <= age_s] or [0]
        )

    @property
    def warm_kib(self) -> int:
        """The figure of its tenth minute, 0 where it did not live longer than that."""
        return self.kib_at(WARM_S) if self.age_s >= WARM_S + FIGURE_S else 0

    @property
    def end_kib(self) -> int:
        """The figure of its last minute."""
        return self.kib_at(self.age_s)

    @property
    def grows(self) -> bool:
        """Whether the latter figure is too high; never where it was too young."""
        return 0 < self.warm_kib * (1 + GROWTH_MAX) < self.end_kib

    def __str__(self) -> str:
        """Return it for a sentence."""
        end = f"{self.name} {self.end_kib} KiB after {self.age_s:.0f} s of its life"
        if not self.warm_kib:
            return f"{end}: too young to be compared"
        growth = self.end_kib / self.warm_kib - 1
        return f"{end}, {self.warm_kib} KiB after {WARM_S:.0f} s: {growth:+.1%}"


class Memory:
    """What was seen of all processes of a run."""

    def __init__(self) -> None:
        self._lives: dict[str, list[Life]] = {}

    def note(self, name: str, started_s: float, now_s: float, kib: int) -> None:
        """Take a sample of the process that was started then under this name."""
        lives = self._lives.setdefault(name, [])
        if not lives or lives[-1].started_s != started_s:
            lives.append(Life(name, started_s))
        lives[-1].samples.append((now_s - started_s, kib))

    def shown(self) -> Iterator[Life]:
        """Return the processes that lived long enough, and the newest of each name."""
        for lives in self._lives.values():
            yield from (life for life in lives if life.warm_kib or life is lives[-1])

    def faults(self) -> Sequence[str]:
        """Tell of those that hold more and more."""
        return [f"memory grew: {life}" for life in self.shown() if life.grows]
