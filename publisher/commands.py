"""What a person asks of the running publisher, and what it answers.

A request is an entry of `tv:commands` whose field `command` holds JSON; the
answers, one per series, are pushed to the list `tv:replies:ID`, which expires.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import orjson

from publisher.wire import EntryMalformed

COMMAND_FIELD: Final = b"command"
COMMANDS_MAX: Final = 1_000
"""How many requests the stream keeps, about."""
REPLIES_EXPIRE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Command:
    """A request to the publisher, answered on `Keys.replies(id)`."""

    id: str
    action: Literal["subscribe", "unsubscribe"]
    series: tuple[str, ...]
    """Texts as typed; the publisher parses them and answers each."""

    def encode(self) -> bytes:
        """Return the JSON for the entry's field `command`."""
        return orjson.dumps({"id": self.id, "action": self.action, "series": self.series})

    @classmethod
    def decode(cls, text: bytes) -> Command:
        """Read a request. Raises EntryMalformed."""
        try:
            values = orjson.loads(text)
            request, action, series = values["id"], values["action"], values["series"]
        except (ValueError, KeyError, TypeError) as error:
            raise EntryMalformed(f"command is malformed: {error!r}") from error
        if not isinstance(request, str) or not request:
            raise EntryMalformed(f"id must be text, was {request!r}")
        if action not in ("subscribe", "unsubscribe"):
            raise EntryMalformed(f"action must be subscribe or unsubscribe, was {action!r}")
        if not isinstance(series, list) or not all(isinstance(typed, str) for typed in series):
            raise EntryMalformed(f"series must be a list of texts, was {series!r}")
        return cls(request, action, tuple(series))


@dataclass(frozen=True, slots=True)
class Answer:
    """The publisher's answer about one series of a request."""

    series: str
    accepted: bool
    message: str

    def encode(self) -> bytes:
        """Return the JSON that stands in the replies list."""
        return orjson.dumps(
            {"series": self.series, "accepted": self.accepted, "message": self.message}
        )

    @classmethod
    def decode(cls, text: bytes) -> Answer:
        """Read an answer. Raises EntryMalformed."""
        try:
            values = orjson.loads(text)
            series, accepted, message = values["series"], values["accepted"], values["message"]
        except (ValueError, KeyError, TypeError) as error:
            raise EntryMalformed(f"answer is malformed: {error!r}") from error
        if not isinstance(series, str) or not isinstance(message, str):
            raise EntryMalformed(f"series and message must be texts, was {text!r}")
        if not isinstance(accepted, bool):
            raise EntryMalformed(f"accepted must be true or false, was {accepted!r}")
        return cls(series, accepted, message)
