"""What a handler is told beside the bar."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from publisher.wire import Series


def _nothing(_series: Series) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Context:
    """The second argument of a handler that takes two.

    In a batch it is that of the last entry, with the highest `attempt` and the
    longest `lag_ms` of all; `series` is None where there are several.
    """

    group: str
    entry_id: str
    """The entry's ID on the bus; of a bar `<open time in ms>-0`."""
    attempt: int = 1
    """1 the first time; counted by the server, so over restarts and other members too."""
    lag_ms: int | None = None
    """How long ago the publisher received it, by the two machines' clocks; at least 0.

    None for a gap without a bar."""
    series: Series | None = None
    """None for an event."""
    replay_of: str | None = None
    """The ID of the dead letter, where a person had the entry handed over again."""
    _look_up: Callable[[Series], Mapping[str, str]] = field(default=_nothing, repr=False)

    @property
    def info(self) -> Mapping[str, str]:
        """What the bus knows of the series: description, timezone, session, state and more.

        Read from the bus and remembered for a minute; empty for an event and where
        nothing is known. Raises GroupUnavailable.
        """
        return {} if self.series is None else self._look_up(self.series)
