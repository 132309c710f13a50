"""Commands run in the process of the test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[list[str]]:
        """The words of each line that was printed."""
        return [line.split() for line in self.out.splitlines()]


Run = Callable[..., Ended]
"""`run("search", "AAPL", TVBUS_SEARCH_URL=…)`: arguments, and all the settings there are."""
