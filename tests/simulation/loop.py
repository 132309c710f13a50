"""Virtual time: one heap of events, and the machines whose time it is.

Nothing here waits. Time moves when the loop takes the next event, and also inside
a call of a process that is stalled there: then everything else goes on happening
before the call returns.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any, Final

EVENTS_MAX: Final = 400_000
"""More events than any seed needs: somebody goes round in circles."""
TRACE_MAX: Final = 200_000
"""Lines of a trace; beyond, the oldest go."""


class Livelock(AssertionError):
    """Virtual time stands still, or too much happens in it."""


class Killed(BaseException):
    """The process in whose call this is raised was killed meanwhile."""


class Trace:
    """What happened, line by line, if anybody wants to know."""

    def __init__(self, *, wanted: bool = False) -> None:
        self.wanted = wanted
        self.lines: list[str] = []
        self.counts: Counter[str] = Counter()
        """How often each fault struck and each guard stood."""

    def say(self, now_ms: int, who: str, what: str) -> None:
        """Note a line."""
        if self.wanted:
            self.lines.append(f"{now_ms} {who}: {what}")
            del self.lines[:-TRACE_MAX]


class Loop:
    """The heap of virtual events."""

    def __init__(self, now_ms: int, trace: Trace) -> None:
        self.now_ms = now_ms
        self.trace = trace
        self.events = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._serial = count()

    def at(self, when_ms: int, action: Callable[[], None]) -> None:
        """Let something happen at a time, or now where that has passed."""
        heapq.heappush(self._heap, (max(when_ms, self.now_ms), next(self._serial), action))

    def after(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Let something happen later."""
        self.at(self.now_ms + delay_ms, action)

    def run_until(self, until_ms: int) -> None:
        """Let everything happen up to a time; may be called while something happens."""
        while self._heap and self._heap[0][0] <= until_ms:
            when_ms, _, action = heapq.heappop(self._heap)
            self.now_ms = max(self.now_ms, when_ms)
            self.events += 1
            if self.events > EVENTS_MAX:
                raise Livelock(f"more than {EVENTS_MAX} events by {self.now_ms}")
            action()
        self.now_ms = max(self.now_ms, until_ms)


class Process:
    """One process on a machine of its own; it is that machine's clock too."""

    def __init__(self, loop: Loop, name: str, rng: random.Random) -> None:
        self.loop = loop
        self.name = name
        self.rng = rng
        self.alive = True
        self.frozen_until_ms = 0
        self.skew_ms = 0
        """How far the machine's wall clock is ahead."""
        self._boot_ms = loop.now_ms - 1_000_000

    def monotonic_ms(self) -> int:
        """Return ms since the machine was started."""
        return self.loop.now_ms - self._boot_ms

    def wall_ms(self) -> int:
        """Return what the machine's clock shows."""
        return self.loop.now_ms + self.skew_ms

    @property
    def frozen(self) -> bool:
        """True while the process is stopped by a signal."""
        return self.loop.now_ms < self.frozen_until_ms

    def freeze(self, ms: int) -> None:
        """Stop the whole process for a time, as SIGSTOP and SIGCONT do."""
        self.say(f"frozen for {ms} ms")
        self.frozen_until_ms = max(self.frozen_until_ms, self.loop.now_ms + ms)
        self.loop.at(self.frozen_until_ms, self._thaw)

    def _thaw(self) -> None:
        if self.alive and not self.frozen:
            self.thawed()

    def thawed(self) -> None:
        """Go on after having been frozen."""

    def stall(self, ms: int) -> None:
        """Let time pass inside a call of this process. Raises Killed."""
        self.loop.run_until(self.loop.now_ms + ms)
        while self.alive and self.frozen:
            self.loop.run_until(self.frozen_until_ms)
        self.check()

    def check(self) -> None:
        """Raise Killed where the process is dead."""
        if not self.alive:
            raise Killed(self.name)

    def sends(self, command: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return what is sent where the program means to send a command: planted bugs differ."""
        return command

    def say(self, what: str) -> None:
        """Note in the trace what the process does or suffers."""
        self.loop.trace.say(self.loop.now_ms, self.name, what)

    def struck(self, kind: str) -> None:
        """Count a fault that struck, or a guard that stood."""
        self.loop.trace.counts[kind] += 1
