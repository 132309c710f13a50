"""Where a group begins in a series that it sees for the first time.

A group's position is exclusive: it receives what comes *after* it. So every
rule ends as the ID just before the first bar that is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from consumers.core.ids import ZERO, EntryId
from consumers.core.times import parse_time_ms
from consumers.errors import StartInvalid

START_FORMS: Final = "oldest, newest, time:2026-11-01T00:00:00Z or last:N"
LAST_MAX: Final = 1_000_000
"""Most bars that `last:N` may ask for."""


@dataclass(frozen=True, slots=True)
class Start:
    """A start position that somebody chose."""

    kind: Literal["oldest", "newest", "time", "last"]
    value: int = 0
    """The open time in ms for `time`, the number of bars for `last`."""

    @classmethod
    def parse(cls, text: str) -> Start:
        """Read one of the four forms. Raises StartInvalid, which names them."""
        word = text.strip()
        if word in {"oldest", "newest"}:
            return cls("oldest" if word == "oldest" else "newest")
        kind, _, value = word.partition(":")
        if kind == "time":
            try:
                return cls("time", parse_time_ms(value))
            except ValueError as error:
                raise StartInvalid(f"start {text!r}: {error}") from None
        if kind == "last" and value.isascii() and value.isdigit():
            if not 1 <= int(value) <= LAST_MAX:
                raise StartInvalid(f"start last:N takes 1 to {LAST_MAX} bars, was {text!r}")
            return cls("last", int(value))
        raise StartInvalid(f"start must be one of {START_FORMS}, was {text!r}")

    def position(self, newest: EntryId, before_last: EntryId | None) -> EntryId:
        """Return the ID after which the group reads.

        `newest` is the last ID of the stream, `before_last` the entry before the
        N wanted ones, None where the stream holds no more than those.
        """
        if self.kind == "time":
            return EntryId(self.value).before()
        if self.kind == "newest":
            return newest
        if self.kind == "last" and before_last is not None:
            return before_last
        return ZERO
