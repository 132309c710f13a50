"""Faults on command: what a network and TradingView do to a client on a bad day.

Tests and people inject them from any thread; the connections take them when
they next send. Each one that happened is counted and logged.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final


class Kind(StrEnum):
    """What can go wrong."""

    CLOSE = "close"
    """The connection is closed cleanly, code 1000."""
    RESET = "reset"
    """The TCP connection is aborted."""
    MUTE = "mute"
    """Heartbeats come, data does not; what was not sent is lost."""
    SILENCE = "silence"
    """Nothing comes at all; what was not sent is lost."""
    LATE = "late"
    """Data is held back, then comes in order."""
    REPEAT = "repeat"
    """Data comes twice."""
    CORRUPT = "corrupt"
    """A packet's header is damaged."""
    TRUNCATE = "truncate"
    """A message ends in the middle of a packet."""
    INVALID_UTF8 = "invalid_utf8"
    """A text message holds bytes that are not UTF-8."""
    HUGE = "huge"
    """A message of `size_bytes` comes."""
    NAN = "nan"
    """A bar with NaN prices comes before the right one."""
    PLACEHOLDER = "placeholder"
    """A bar with 1e+100 prices comes before the right one."""
    REVERSED = "reversed"
    """A bar whose high is below its low comes before the right one."""
    SKEW = "skew"
    """The server's stated time is off by `skew_ms`, until set to 0."""
    THROTTLE = "throttle"
    """The handshake is answered with HTTP 429."""
    FORBID = "forbid"
    """The handshake is answered with HTTP 403."""
    SESSION_RATE = "session_rate"
    """A new chart session is refused: `max sessions rate reached`."""
    BAD_TOKEN = "bad_token"  # noqa: S105 - the name of a fault
    """The next token is refused although it is right."""


HANDSHAKE: Final = frozenset({Kind.THROTTLE, Kind.FORBID})
LASTING: Final = frozenset({Kind.MUTE, Kind.SILENCE, Kind.LATE})

_LOG_MAX: Final = 1000
_PENDING_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault to happen."""

    kind: Kind
    connection: int | None = None
    """Number of the connection it befalls; None for all that are open, or the next one."""
    count: int = 1
    """How many messages or handshakes it befalls."""
    duration_s: float = 5.0
    """How long a lasting fault lasts, real seconds."""
    skew_ms: int = 0
    size_bytes: int = 8_000_000


class Faults:
    """The faults that are to happen and those that did. Safe in any thread."""

    def __init__(self) -> None:
        self.counts: Counter[Kind] = Counter()
        """How often each kind happened, to each connection separately."""
        self.log: deque[tuple[int, Fault]] = deque(maxlen=_LOG_MAX)
        """The newest ones: number of the connection (0 in a handshake) and the fault."""
        self.skew_ms = 0
        """How far the server's stated time is off at present."""
        self.wake: Callable[[], None] = _nothing
        """Called after each injection, so that it happens at once."""
        self._lock = threading.Lock()
        self._waiting: dict[int, deque[Fault]] = {}
        self._orphans: deque[Fault] = deque(maxlen=_PENDING_MAX)
        self._handshakes: deque[Fault] = deque(maxlen=_PENDING_MAX)
        self._schedule: deque[tuple[float, Fault]] = deque()

    def inject(
        self,
        kind: Kind | str,
        *,
        connection: int | None = None,
        count: int = 1,
        duration_s: float = 5.0,
        skew_ms: int = 0,
        size_bytes: int = 8_000_000,
    ) -> None:
        """Make a fault happen as soon as possible; the options are those of `Fault`."""
        fault = Fault(Kind(kind), connection, count, duration_s, skew_ms, size_bytes)
        with self._lock:
            self._admit(fault)
        self.wake()

    def play(self, schedule: Iterable[tuple[float, Fault]]) -> None:
        """Let faults happen later: each after so many real seconds from now."""
        now_s = time.monotonic()
        with self._lock:
            entries = [*self._schedule, *((now_s + after, fault) for after, fault in schedule)]
            self._schedule = deque(sorted(entries, key=lambda entry: entry[0]))

    def clear(self) -> None:
        """Drop all that has not happened yet and set the clock right."""
        with self._lock:
            self._schedule.clear()
            self._orphans.clear()
            self._handshakes.clear()
            for queue in self._waiting.values():
                queue.clear()
            self.skew_ms = 0

    def opened(self, connection: int) -> None:
        """Tell that a connection opened; faults without a victim befall it."""
        with self._lock:
            self._waiting[connection] = deque(self._orphans, maxlen=_PENDING_MAX)
            self._orphans.clear()

    def closed(self, connection: int) -> None:
        """Tell that a connection ended."""
        with self._lock:
            self._waiting.pop(connection, None)

    def take(self, connection: int) -> list[Fault]:
        """Return the faults that befall a connection now."""
        with self._lock:
            now_s = time.monotonic()
            while self._schedule and self._schedule[0][0] <= now_s:
                self._admit(self._schedule.popleft()[1])
            queue = self._waiting.get(connection)
            if not queue:
                return []
            faults = list(queue)
            queue.clear()
            return faults

    def take_handshake(self) -> Fault | None:
        """Return the fault that befalls a handshake, None if it goes well."""
        with self._lock:
            if not self._handshakes:
                return None
            fault = self._handshakes.popleft()
        self.happened(0, fault)
        return fault

    def happened(self, connection: int, fault: Fault) -> None:
        """Record that a fault happened to a connection."""
        with self._lock:
            self.counts[fault.kind] += 1
            self.log.append((connection, fault))

    def _admit(self, fault: Fault) -> None:
        if fault.kind in HANDSHAKE:
            self._handshakes.extend([fault] * fault.count)
            return
        if fault.kind is Kind.SKEW:
            self.skew_ms = fault.skew_ms
            self.counts[fault.kind] += 1
            self.log.append((0, fault))
            return
        victims = [fault.connection] if fault.connection is not None else list(self._waiting)
        if not victims:
            self._orphans.append(fault)
        for victim in victims:
            if victim in self._waiting:
                self._waiting[victim].append(fault)


def schedule(
    seed: int,
    length_s: float,
    mean_s: float,
    kinds: Iterable[Kind] = tuple(Kind),
) -> list[tuple[float, Fault]]:
    """Draw faults from a seed: one every `mean_s` on average, for `length_s`, real seconds."""
    rng = Random(seed)
    choices = list(kinds)
    drawn: list[tuple[float, Fault]] = []
    at_s = 0.0
    while (at_s := at_s + rng.random() * 2 * mean_s) < length_s:
        fault = Fault(
            rng.choice(choices),
            count=rng.randrange(1, 4),
            duration_s=0.5 + rng.random() * mean_s,
            skew_ms=rng.randrange(-120_000, 120_000),
        )
        drawn.append((at_s, fault))
    return drawn


def _nothing() -> None:
    """Stand in for a server that has not started."""
