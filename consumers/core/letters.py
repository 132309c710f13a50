"""A dead letter: an entry given up on, as it stands in its group's stream.

Its fields are text and never all there: what an older version wrote has no
`kind`, `series`, `attempts` or `traceback`, and what another program wrote may
have anything. So reading a letter never fails.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from consumers.core.ids import EntryId
from consumers.core.standing import EVENTS_NAME
from publisher.wire import Bar, EntryMalformed, Series, SeriesInvalid, decode_bar

ORIGINAL: Final = b"original."
"""The entry's own fields carry this before their names."""

_OF_SERIES: Final = re.compile(r":(bars|corrections):\{([^{}]+)\}")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Letter:
    """An entry given up on; None is what its fields do not tell."""

    id: EntryId
    """Its own ID, among the dead letters."""
    reason: str
    traceback: str
    """The handler's, empty where it was no handler that failed."""
    key: str
    entry: str
    """ID that the entry had in the stream `key`."""
    kind: str
    """What it is: `bars`, `corrections` or `events`; empty where nothing tells."""
    name: str
    """The series' text, or EVENTS_NAME; empty where nothing tells."""
    consumer: str
    buried_ms: int | None
    """When it was given up on, by the clock of the consumer's machine."""
    attempts: int | None
    """How often it was handed over, as the server counted."""
    fields: Mapping[bytes, bytes]
    """The entry's own fields; empty where it was trimmed before it was read."""

    @classmethod
    def read(cls, entry: EntryId, fields: Mapping[bytes, bytes]) -> Letter:
        """Read a letter from an entry of the dead letters."""
        known = {name: value.decode(errors="replace") for name, value in fields.items()}
        kind, name = _origin(known.get(b"key", ""))
        return cls(
            id=entry,
            reason=known.get(b"reason", ""),
            traceback=known.get(b"traceback", ""),
            key=known.get(b"key", ""),
            entry=known.get(b"id", ""),
            kind=known.get(b"kind", kind),
            name=known.get(b"series", name),
            consumer=known.get(b"consumer", ""),
            buried_ms=_number(known.get(b"buried_ms", "")),
            attempts=_number(known.get(b"attempts", "")),
            fields={
                name.removeprefix(ORIGINAL): value
                for name, value in fields.items()
                if name.startswith(ORIGINAL)
            },
        )

    def bar(self) -> Bar | None:
        """Return the bar that the entry holds, None where it is an event's or was trimmed.

        Raises EntryMalformed where it cannot be decoded, which may be why it is here.
        """
        if self.kind == "events" or not self.fields:
            return None
        try:
            series = Series.parse(self.name)
        except SeriesInvalid as error:
            raise EntryMalformed(str(error)) from None
        return decode_bar(series, self.fields)

    def event(self) -> dict[str, Any] | None:
        """Return the event that the entry holds, None where it is a bar's or was trimmed.

        Raises EntryMalformed where it cannot be decoded.
        """
        if self.kind != "events" or not self.fields:
            return None
        try:
            event = orjson.loads(self.fields[b"event"])
        except (KeyError, ValueError) as error:
            raise EntryMalformed(f"event cannot be decoded: {error!r}") from None
        if not isinstance(event, dict):
            raise EntryMalformed(f"an event must be a map, was {type(event).__name__}")
        return event


def _origin(key: str) -> tuple[str, str]:
    """Return the kind and the name that a stream's key tells."""
    if found := _OF_SERIES.search(key):
        return found[1], found[2]
    return ("events", EVENTS_NAME) if key.endswith(":events") else ("", "")


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None
