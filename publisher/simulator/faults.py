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
    BANNED = "banned"
    """The next token is answered with `banned`, and the connection is closed."""
    CAPTCHA = "captcha"
    """A sign-in is answered with `recaptcha_required`."""
    RATE_LIMIT = "rate_limit"
    """A sign-in is answered with `rate_limit`."""
    SMS_NOT_SENT = "sms_not_sent"
    """A sign-in that would send a code is answered with `2FA_challenge_not_generated`."""
    HTML_FACTOR = "html_factor"
    """A right code is answered with a page of HTML; the cookies come all the same."""
    NO_TOKEN = "no_token"  # noqa: S105 - the name of a fault
    """The home page holds no token although somebody is signed in."""
    SEARCH_V3_GONE = "search_v3_gone"
    """A search v3 is answered with HTTP 404."""
    WEB_ERROR = "web_error"
    """A web request is answered with HTTP 503 and HTML."""
    WEB_FORBID = "web_forbid"
    """A web request is answered with HTTP 403 and HTML."""
    WEB_THROTTLE = "web_throttle"
    """A web request is answered with HTTP 429 and HTML."""
    SLOW_WEB = "slow_web"
    """A web request is answered only after `duration_s`."""


HANDSHAKE: Final = frozenset({Kind.THROTTLE, Kind.FORBID})
LASTING: Final = frozenset({Kind.MUTE, Kind.SILENCE, Kind.LATE})
ON_REQUEST: Final = frozenset(
    (
        *(Kind.BANNED, Kind.CAPTCHA, Kind.RATE_LIMIT, Kind.SMS_NOT_SENT, Kind.HTML_FACTOR),
        *(Kind.NO_TOKEN, Kind.SEARCH_V3_GONE),
        *(Kind.WEB_ERROR, Kind.WEB_FORBID, Kind.WEB_THROTTLE, Kind.SLOW_WEB),
    )
)
"""They wait for the next request of their sort, whoever makes it."""

SOCKET_KINDS: Final = tuple(kind for kind in Kind if kind not in ON_REQUEST)
"""What befalls a WebSocket connection or its handshake."""

_LOG_MAX: Final = 1000
_PENDING_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault to happen."""

    kind: Kind
    connection: int | None = None
    """Number of the connection it befalls; None for all that are open, or the next one."""
    count: int = 1
    """How many messages, handshakes or requests it befalls."""
    duration_s: float = 5.0
    """How long a lasting fault or a slow answer lasts, real seconds."""
    skew_ms: int = 0
    size_bytes: int = 8_000_000


class Faults:
    """The faults that are to happen and those that did. Safe in any thread."""

    def __init__(self) -> None:
        self.counts: Counter[Kind] = Counter()
        """How often each kind happened, to each connection separately."""
        self.log: deque[tuple[int, Fault]] = deque(maxlen=_LOG_MAX)
        """The newest ones: number of the connection, 0 where there is none, and the fault."""
        self.skew_ms = 0
        """How far the server's stated time is off at present."""
        self.wake: Callable[[], None] = _nothing
        """Called after each injection, so that it happens at once."""
        self._lock = threading.Lock()
        self._waiting: dict[int, deque[Fault]] = {}
        self._orphans: deque[Fault] = deque(maxlen=_PENDING_MAX)
        self._handshakes: deque[Fault] = deque(maxlen=_PENDING_MAX)
        self._requests: deque[Fault] = deque(maxlen=_PENDING_MAX)
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
            self._requests.clear()
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
            self._admit_due()
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

    def take_request(self, *kinds: Kind, connection: int = 0) -> Fault | None:
        """Return the first fault of these kinds that waits for a request, and use it up."""
        with self._lock:
            self._admit_due()
            fault = next((fault for fault in self._requests if fault.kind in kinds), None)
            if fault is None:
                return None
            self._requests.remove(fault)
        self.happened(connection, fault)
        return fault

    def happened(self, connection: int, fault: Fault) -> None:
        """Record that a fault happened to a connection."""
        with self._lock:
            self.counts[fault.kind] += 1
            self.log.append((connection, fault))

    def _admit_due(self) -> None:
        now_s = time.monotonic()
        while self._schedule and self._schedule[0][0] <= now_s:
            self._admit(self._schedule.popleft()[1])

    def _admit(self, fault: Fault) -> None:
        if fault.kind in HANDSHAKE | ON_REQUEST:
            waiting = self._handshakes if fault.kind in HANDSHAKE else self._requests
            waiting.extend([fault] * fault.count)
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
    kinds: Iterable[Kind] = SOCKET_KINDS,
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
