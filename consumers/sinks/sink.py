"""What every sink can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from publisher.wire import Bar

BATCH_BARS: Final = 500
"""How many bars a sink that stores rows likes to be handed at once."""

ATTEMPTS_OF_SINK: Final = 100
"""How often a bar is handed to a sink. Only a process that ends before it acknowledges costs
one: what a sink says itself is waited out, or final. A machine that is restarted again and
again must not fill the dead letters."""


class Sink(ABC):
    """A handler that keeps bars; every bar may come more than once and counts once.

    What a method returned from is kept, also by a process that is killed next. Each
    raises SinkUnavailable where the same bars may be handed over again later, and
    SinkRejected where that would never help.
    """

    batch: int | None = None
    """How many bars to hand to `write` at once, at most; None: one by one."""
    takes_corrections: bool = True
    """Whether `correct` is for bars of the corrections streams too."""

    def __call__(self, bar: Bar) -> None:
        """Keep one bar."""
        self.write([bar])

    @abstractmethod
    def write(self, bars: Sequence[Bar]) -> None:
        """Keep bars, of any series and in any order."""

    def correct(self, bar: Bar) -> None:
        """Let a bar take the place of the one with the same series and open time."""
        self.write([bar])

    def close(self) -> None:  # noqa: B027 - most sinks keep nothing open
        """Give up connections and files; nothing waits to be written."""
