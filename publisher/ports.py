"""What the engine needs of the outside world."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from publisher.core.decisions import StreamEnd
from publisher.core.search import Query, Results
from publisher.core.tokens import Token
from publisher.errors import PublisherError, StoreError
from publisher.wire import Bar, Series, Summary
from publisher.wire.answers import Reply
from publisher.wire.commands import Command

RENEW_MS: Final = 1_000
"""How often the holder of a lease renews it."""
ACQUIRE_MS: Final = 500
"""How often others ask for it: within five seconds after its holder vanished, one has it."""


class Clock(Protocol):
    """The machine's clocks."""

    def wall_ms(self) -> int:
        """Return ms since the epoch, UTC; may jump."""
        ...

    def monotonic_ms(self) -> int:
        """Return ms since some moment; never jumps."""
        ...


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection stands."""

    connection: int


@dataclass(frozen=True, slots=True)
class Received:
    """Payloads of one message, heartbeats answered already."""

    connection: int
    payloads: tuple[str, ...]
    wall_ms: int
    monotonic_ms: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A connection ended or was never made."""

    connection: int
    error: PublisherError


@dataclass(frozen=True, slots=True)
class Commanded:
    """Somebody asks something; `entry_id` is where to go on reading."""

    command: Command
    entry_id: str


@dataclass(frozen=True, slots=True)
class CommandRefused:
    """Somebody asks something that cannot be understood."""

    request: str | None
    """Where to answer, if that can be read."""
    reason: str
    entry_id: str


@dataclass(frozen=True, slots=True)
class TokenGranted:
    """TradingView lets us in with this token."""

    token: Token
    monotonic_ms: int


@dataclass(frozen=True, slots=True)
class TokenDenied:
    """No token could be had."""

    error: PublisherError


@dataclass(frozen=True, slots=True)
class SearchEnded:
    """A search found something, or nothing, or could not be made."""

    request: str
    outcome: Results | PublisherError


Fact = (
    Connected
    | Received
    | Disconnected
    | Commanded
    | CommandRefused
    | TokenGranted
    | TokenDenied
    | SearchEnded
)


class TokenSource(Protocol):
    """The way to a token; facts of it come through the engine's inbox."""

    def ask(self, rejected: Token | None = None) -> None:
        """Begin to obtain a token, another than the rejected one; never blocks.

        TokenGranted or TokenDenied follows. Asked again meanwhile, it does nothing.
        """
        ...

    def changed(self) -> bool:
        """Tell whether a person signed in, or out, since a token was obtained last."""
        ...


class Searcher(Protocol):
    """The way to TradingView's symbol search; facts of it come through the engine's inbox."""

    def search(self, request: str, query: Query) -> None:
        """Begin to search, after those that wait; SearchEnded follows. Never blocks."""
        ...


class Transport(Protocol):
    """The way to TradingView, connection by connection; facts come through the inbox."""

    def drained_ms(self, connection: int) -> int:
        """Monotonic time up to which everything that arrived is in the inbox."""
        ...

    def open(self, connection: int) -> None:
        """Begin to connect; Connected or Disconnected follows. Never blocks."""
        ...

    def send(self, connection: int, frames: Sequence[str]) -> None:
        """Send frames in order. A failure shows as Disconnected."""
        ...

    def close(self, connection: int) -> None:
        """End a connection; nothing of it follows. Of one that is not there, do nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Closed bars of one series, each the successor of the one before."""

    series: Series
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Appended:
    """All bars of a batch stand in the stream now."""

    new: int
    present: int
    """How many stood there already: the reply to an earlier attempt was lost."""


class Store(Protocol):
    """The bus. Every write carries the fencing token; each raises or returns StoreError."""

    def stream_end(self, series: Series) -> StreamEnd:
        """Read the end of a series' stream."""
        ...

    def append(self, token: int, batches: Sequence[Batch]) -> list[Appended | StoreError]:
        """Append batches; one outcome each."""
        ...

    def put_forming(self, token: int, bars: Sequence[Bar]) -> list[StoreError | None]:
        """Put the newest states of forming bars; one outcome each."""
        ...

    def put_correction(self, token: int, bar: Bar, entry_ms: int) -> None:
        """Put a corrected bar under an ID that makes a second attempt harmless."""
        ...

    def describe(self, token: int, series: Series, fields: dict[str, str]) -> None:
        """Set fields of a series' hash."""
        ...

    def catalogue(self) -> list[Summary]:
        """Read the catalogue."""
        ...

    def list_series(self, summaries: Sequence[Summary]) -> None:
        """Set lines of the catalogue."""
        ...

    def emit(self, events: Sequence[bytes]) -> None:
        """Put events, JSON each."""
        ...

    def answer(self, request: str, answers: Sequence[Reply]) -> None:
        """Answer a request."""
        ...

    def put_session(self, session: bytes) -> None:
        """Say as whom TradingView is read, JSON, beside the lease."""
        ...

    def note_commands_read(self, entry_id: str) -> None:
        """Remember up to where requests are done."""
        ...


class Lease(Protocol):
    """Who may publish."""

    def acquire(self) -> int | None:
        """Return a fencing token higher than any before, None while another holds the lease."""
        ...

    def renew(self, token: int) -> bool:
        """Hold the lease for longer; False where it is lost."""
        ...

    def release(self, token: int) -> None:
        """Let others have the lease at once."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """The outside world, as the engine sees it."""

    clock: Clock
    tokens: TokenSource
    transport: Transport
    store: Store
    lease: Lease
    searcher: Searcher
    rng: random.Random
