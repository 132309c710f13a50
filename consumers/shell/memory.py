"""A bus in memory, for tests: what reads streams and hashes reads these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from bus.connection import Client
from consumers.core.ids import EntryId
from consumers.errors import UsageError
from consumers.shell.bus import Bus
from consumers.shell.streams import Fields

Raw = tuple[bytes, Fields]


@dataclass(slots=True)
class Memory:
    """Streams and hashes, with those of a client's commands that consumers read by."""

    streams: dict[str, dict[EntryId, Fields]] = field(default_factory=dict)
    """Entries in ascending order."""
    hashes: dict[str, dict[bytes, bytes]] = field(default_factory=dict)

    def append(self, key: str, entry: EntryId, fields: Fields) -> None:
        """Put an entry behind those that are there."""
        self.streams.setdefault(key, {})[entry] = fields

    def xrange(
        self, name: str, low: str = "-", high: str = "+", count: int | None = None
    ) -> list[Raw]:
        """Return entries of a stream, oldest first."""
        found = [
            (str(entry).encode(), fields)
            for entry, fields in self.streams.get(name, {}).items()
            if _above(entry, low) and _below(entry, high)
        ]
        return found[:count]

    def xrevrange(
        self, name: str, high: str = "+", low: str = "-", count: int | None = None
    ) -> list[Raw]:
        """Return entries of a stream, newest first."""
        return self.xrange(name, low, high)[::-1][:count]

    def hgetall(self, name: str) -> Mapping[bytes, bytes]:
        """Return a hash."""
        return dict(self.hashes.get(name, {}))

    def ping(self) -> bool:
        """Say that it is there."""
        return True

    def close(self) -> None:
        """Do nothing: what was told stays."""

    def pipeline(self, *, transaction: bool) -> Pipeline:
        """Return what gathers commands."""
        assert not transaction
        return Pipeline(self)

    def __getattr__(self, name: str) -> Any:
        raise UsageError(f"TestBus does not know {name!r}; test this with a real bus")


@dataclass(slots=True)
class Pipeline:
    """Commands whose replies come together."""

    memory: Memory
    replies: list[Any] = field(default_factory=list)

    def xrange(self, *args: Any, **options: Any) -> None:
        """Read entries, oldest first."""
        self.replies.append(self.memory.xrange(*args, **options))

    def xrevrange(self, *args: Any, **options: Any) -> None:
        """Read entries, newest first."""
        self.replies.append(self.memory.xrevrange(*args, **options))

    def execute(self) -> list[Any]:
        """Return the replies."""
        return self.replies


@dataclass(frozen=True, slots=True)
class MemoryBus(Bus):
    """Stands in for the bus of the settings while a test runs."""

    memory: Memory = field(default_factory=Memory)

    def url(self) -> str:
        """Raise UsageError: nothing can be connected to."""
        raise UsageError("TestBus has no address: what follows streams needs a real bus to test")

    def open(self) -> Client:
        """Return what reads the memory."""
        return cast(Client, self.memory)


def _above(entry: EntryId, bound: str) -> bool:
    if bound == "-":
        return True
    if bound.startswith("("):
        return entry > EntryId.parse(bound[1:])
    return entry >= EntryId.parse(bound)


def _below(entry: EntryId, bound: str) -> bool:
    if bound == "+":
        return True
    if bound.startswith("("):
        return entry < EntryId.parse(bound[1:])
    return entry <= EntryId.parse(bound)
