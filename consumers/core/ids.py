"""Entry IDs as values that can be compared."""

from __future__ import annotations

from typing import Final, NamedTuple

SEQUENCE_MAX: Final = 2**64 - 1


class EntryId(NamedTuple):
    """The ID of a stream's entry; on the bus `ms` is the bar's open time."""

    ms: int
    sequence: int = 0

    @classmethod
    def parse(cls, text: bytes | str) -> EntryId:
        """Read an ID as the server writes it."""
        words = text.decode() if isinstance(text, bytes) else text
        ms, _, sequence = words.partition("-")
        return cls(int(ms), int(sequence or 0))

    def before(self) -> EntryId:
        """Return the greatest ID below this one; the lowest ID has none and returns itself."""
        if self.sequence:
            return EntryId(self.ms, self.sequence - 1)
        return EntryId(self.ms - 1, SEQUENCE_MAX) if self.ms else self

    def __str__(self) -> str:
        return f"{self.ms}-{self.sequence}"


ZERO: Final = EntryId(0, 0)
"""Before every entry: no entry can have it."""
