"""What the two threads of a consumer share."""

from __future__ import annotations

import os
import queue
import select
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

from consumers.core.lanes import Lanes
from publisher.wire import Bar, Series


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


class WakingBell(Bell):
    """A bell whose ring also ends a wait for a socket. Safe to ring from a signal handler."""

    def __init__(self) -> None:
        self._ends = os.pipe()
        for end in self._ends:
            os.set_blocking(end, False)
        weakref.finalize(self, _close, *self._ends)

    def fileno(self) -> int:
        """Return the descriptor that can be read once the bell rang."""
        return self._ends[0]

    def ring(self) -> None:
        """Wake the waiting thread, or let its next wait return at once."""
        with suppress(BlockingIOError):  # full: it rang often enough
            os.write(self._ends[1], b"\0")

    def wait(self, wait_ms: int) -> bool:
        """Wait for a ring, at most so long; tell whether it rang."""
        poll = select.poll()  # select() knows no descriptor above 1023
        poll.register(self, select.POLLIN)
        rang = bool(poll.poll(max(0, wait_ms)))
        self.silence()
        return rang

    def silence(self) -> None:
        """Forget the rings until now."""
        with suppress(BlockingIOError):
            while os.read(self._ends[0], 4096):
                pass


def _close(*ends: int) -> None:
    for end in ends:
        os.close(end)


@dataclass(slots=True)
class Counts:
    """What happened since the start; for people and tests."""

    handled: int = 0
    failed: int = 0
    claimed: int = 0
    skipped: int = 0
    repeated: int = 0
    trimmed: int = 0
    dead_lettered: int = 0
    replayed: int = 0
    gaps: int = 0
    groups_lost: int = 0
    bus_lost: int = 0


@dataclass(slots=True)
class Desk:
    """The bars between the reader's thread and the handlers' thread."""

    clock: Clock = field(default_factory=SystemClock)
    lanes: Lanes = field(default_factory=Lanes)
    lock: Lock = field(default_factory=Lock)
    reader_bell: Bell = field(default_factory=WakingBell)
    worker_bell: Bell = field(default_factory=Bell)
    forming: dict[Series, Bar] = field(default_factory=dict)
    """The newest state of the bars in progress, until it is handed on."""
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
    """Longest wait for new bars in one call."""
    catalogue_ms: int = 1_000
    """How often the catalogue is read where patterns are used."""
    refused_ms: int = 30_000
    """How often a refused series, or a dead letter that is not taken, is tried again."""
    repair_ms: int = 200
    """Least wait between two attempts to make a group again."""
    checkpoint_ms: int = 1_000
    """How often positions are kept beside the streams."""
    check_ms: int = 10_000
    """How often it is looked whether quiet streams still have the group."""
