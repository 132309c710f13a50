"""The one way in which tests wait: for a condition, with a deadline, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

DEADLINE_S: Final = 40.0
POLL_S: Final = 0.01


def eventually(
    holds: Callable[[], object],
    what: str | Callable[[], str] = "the condition",
    deadline_s: float = DEADLINE_S,
) -> None:
    """Return once the condition holds; fail with its name at the deadline."""
    end = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() >= end:
            raise AssertionError(f"never came true: {what if isinstance(what, str) else what()}")
        time.sleep(POLL_S)
