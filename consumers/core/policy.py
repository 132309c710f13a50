"""What becomes of an entry whose handler failed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final, Literal, get_args

from consumers.core.backoff import HANDLER_BACKOFF, Backoff
from consumers.errors import UsageError

Ending = Literal["dead-letter", "skip", "stop"]
"""How a consumer gives up on an entry."""
FailurePolicy = Literal["dead-letter", "skip", "stop", "retry-forever"]
"""What a consumer does with an entry that failed as often as it may."""
FAILURE_POLICIES: Final = get_args(FailurePolicy)
ATTEMPTS_DEFAULT: Final = 5
ATTEMPTS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Retry:
    """Hand the entry over again after this wait."""

    wait_ms: int
    counted: bool = True
    """False where the fault is not the entry's, so that waiting it out costs no attempt."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Hand the entry over no more."""

    ending: Ending


@dataclass(frozen=True, slots=True)
class Policy:
    """When to try an entry again, and how to give up on it."""

    failure: FailurePolicy = "dead-letter"
    attempts: int = ATTEMPTS_DEFAULT
    """How often an entry is handed over before it is given up, by the server's count."""
    backoff: Backoff = HANDLER_BACKOFF

    def __post_init__(self) -> None:
        if self.failure not in FAILURE_POLICIES:
            raise UsageError(
                f"failure must be one of {', '.join(FAILURE_POLICIES)}, was {self.failure!r}"
            )
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int):
            raise UsageError(f"attempts must be a number, was {self.attempts!r}")
        if not 1 <= self.attempts <= ATTEMPTS_MAX:
            raise UsageError(f"attempts must be 1 to {ATTEMPTS_MAX}, was {self.attempts!r}")

    def overdue(self, attempt: int) -> GiveUp | None:
        """Say whether to give up before the handler is called.

        An entry that had all its attempts and is still there ended the process
        each time. Who wants to stop, or to go on forever, wants to see it again.
        """
        if self.failure in {"stop", "retry-forever"} or attempt <= self.attempts:
            return None
        return GiveUp("dead-letter" if self.failure == "dead-letter" else "skip")

    def judge(
        self, error: BaseException, attempt: int, failures: int, rng: random.Random
    ) -> Retry | GiveUp:
        """Decide after a failure.

        `attempt` is the server's count, `failures` how often the entry failed in
        this process. An error that says `retryable = True` is the outside world's:
        it is waited out and never the entry's end. One that says
        `retryable = False` will not go away: there is no second attempt.
        """
        retryable = getattr(error, "retryable", None)
        wait_ms = self.backoff.wait_ms(failures, rng)
        if self.failure == "retry-forever":
            return Retry(wait_ms)
        if retryable is True:
            return Retry(wait_ms, counted=False)
        if retryable is not False and attempt < self.attempts:
            return Retry(wait_ms)
        return GiveUp(self.failure)
