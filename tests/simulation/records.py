"""What the checker knows of each stream, by its own reading."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.simulation.truth import Truth, Values


@dataclass(frozen=True)
class Entry:
    """One entry of a stream."""

    open_time_ms: int
    values: Values | None
    """None where it is no bar: somebody else wrote it."""
    fields: dict[bytes, bytes]
    seen_ms: int
    gap: bool = False


@dataclass
class Stream:
    """What stands in one series' streams since the server last lost something."""

    truth: Truth
    entries: dict[int, Entry] = field(default_factory=dict)
    last_id: tuple[int, int] = (0, 0)
    newest: Entry | None = None
    """The newest bar."""
    corrections: dict[int, tuple[int, Values]] = field(default_factory=dict)
    """The newest correction of a bar: revision and values."""
    correction_id: str = "0-0"
    token: int = 0
    """The highest fencing token that wrote."""
    forming_ms: int = 0
    """Open time of the newest bar that was told to form."""
    forming_token: int = 0
