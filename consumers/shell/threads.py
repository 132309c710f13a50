"""What the two threads of a consumer share."""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

from consumers.core.lanes import Lanes


class Clock(Protocol):
    """The machine's clocks."""

    def monotonic_ms(self) -> int:
        """Return ms since some moment; never jumps."""
        ...

    def wall_ms(self) -> int:
        """Return ms since the epoch, UTC; may jump."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def monotonic_ms(self) -> int:
        """Return the clock for waits."""
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        """Return the time of day."""
        return time.time_ns() // 1_000_000


class Bell:
    """Wakes one waiting thread. Safe to ring from a signal handler."""

    def __init__(self) -> None:
        # Unlike Event and Condition, SimpleQueue may be entered again by a signal.
        self._rings: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self) -> None:
        """Wake the waiting thread, or let its next wait return at once."""
        if self._rings.empty():
            self._rings.put(None)

    def wait(self, wait_ms: int) -> bool:
        """Wait for a ring, at most so long; tell whether it rang."""
        try:
            self._rings.get(timeout=max(0, wait_ms) / 1000)
        except queue.Empty:
            return False
        return True


@dataclass(slots=True)
class Counts:
    """What happened since the start; for people and tests."""

    handled: int = 0
    failed: int = 0
    claimed: int = 0
    skipped: int = 0
    trimmed: int = 0
    dead_lettered: int = 0
    gaps: int = 0
    groups_lost: int = 0
    bus_lost: int = 0


@dataclass(slots=True)
class Desk:
    """The bars between the reader's thread and the handlers' thread."""

    clock: Clock = field(default_factory=SystemClock)
    lanes: Lanes = field(default_factory=Lanes)
    lock: Lock = field(default_factory=Lock)
    reader_bell: Bell = field(default_factory=Bell)
    worker_bell: Bell = field(default_factory=Bell)
    counts: Counts = field(default_factory=Counts)
    stopping: bool = False
    """Set once; handlers take no further bar."""
    closing: bool = False
    """Set once no handler runs any more; the reader gives back what is left."""
    bus_trouble: str = "not connected to the bus yet"
    """Why nothing comes from the bus now; empty while all is well."""
    failure: BaseException | None = None
    """What ended the reader; raised by `run`."""

    def stop(self, failure: BaseException | None = None) -> None:
        """Ask the handlers' thread to end. Safe to call from a signal handler."""
        self.failure = self.failure or failure
        self.stopping = True
        self.worker_bell.ring()

    def close(self) -> None:
        """Ask the reader to end; no handler runs any more."""
        self.stopping = self.closing = True
        self.reader_bell.ring()


@dataclass(frozen=True, slots=True)
class Tuning:
    """Waits of a consumer; the defaults are what the documentation promises."""

    block_ms: int = 1_000
    """Longest wait for new bars in one call; also bounds how long a stop takes."""
    catalogue_ms: int = 1_000
    """How often the catalogue is read where patterns are used."""
    claim_idle_ms: int = 30_000
    """A member silent for so long about an entry has lost it to the others."""
    settle_ms: int = 500
    """How often a series looks whether what others held is done."""
    refused_ms: int = 30_000
    """How often a refused series is tried again."""
    repair_ms: int = 200
    """Least wait between two attempts to make a group again."""

    @property
    def tend_ms(self) -> int:
        """How often entries in hand are kept and abandoned ones are claimed."""
        return max(1, min(10_000, self.claim_idle_ms // 3))
