"""A consumer's threads in virtual time: none waits, each has its next step at some time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from consumers.core.ids import EntryId
from consumers.shell.loop import Ended, Loop
from consumers.shell.streams import translated
from consumers.shell.threads import WakingBell
from consumers.shell.watch import Watch
from tests.simulation.clients import SimClient
from tests.simulation.loop import Killed, Process

PACE_MS: Final = (1, 60)
"""How long a thread takes to notice that it may go on."""


class VirtualBell(WakingBell):
    """Wakes a thread that is none: its next step comes soon."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def fileno(self) -> int:
        """Nobody waits for it at a socket."""
        return -1

    def ring(self) -> None:
        """Let the next step come soon."""
        self._wake()

    def wait(self, wait_ms: int) -> bool:
        """Nobody waits in virtual time."""
        raise AssertionError(f"waits for {wait_ms} ms")

    def silence(self) -> None:
        """Whoever rings is heard at once."""


class VirtualWatch(Watch):
    """Looks once whether there is something new: the wait is virtual time of the process."""

    def __init__(self, client: SimClient) -> None:
        self._client: Any = client
        self._after: dict[str, EntryId] = {}
        self.is_due = True
        """Something may have come since it looked."""

    def wait(self, after: Mapping[str, EntryId], block_ms: int, wake: int | None) -> set[str]:
        """Return at once which streams have an entry after the given one."""
        goes_on = all(key in self._after and self._after[key] <= x for key, x in after.items())
        if goes_on and not self.is_due:
            return set()
        self._after, self.is_due = {}, False
        with translated():
            reply = self._client.execute_command(
                "XREAD", "COUNT", 1, "STREAMS", *after, *map(str, after.values())
            )
        found = reply.items() if isinstance(reply, dict) else reply or ()
        if not found:
            self._after = dict(after)
        return {key.decode() for key, _ in found}

    def close(self) -> None:
        """There is no connection of its own."""


class Awaited:
    """What an `async` handler returns: its end is for the loop."""

    def __init__(self, end: Callable[[], None], wait_ms: int) -> None:
        self.end = end
        self.wait_ms = wait_ms

    def __await__(self) -> Iterator[None]:
        """Nobody awaits in virtual time."""
        raise AssertionError("awaited")


class VirtualLoop(Loop):
    """Where `async` handlers run, in virtual time."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def run(self, call: Any, ended: Ended) -> None:
        """Let the call end in its time; `ended` is told."""
        self._process.loop.after(call.wait_ms, lambda: self._end(call, ended))

    def _end(self, call: Awaited, ended: Ended) -> None:
        process = self._process
        if process.frozen:
            process.loop.at(process.frozen_until_ms, lambda: self._end(call, ended))
        elif process.alive:
            try:
                call.end()
            except ValueError as error:
                ended(error)
            except Killed:
                pass
            else:
                ended(None)


class Turns:
    """When one of a process' threads has its next step."""

    def __init__(self, process: Process, step: Callable[[], int]) -> None:
        self._process = process
        self._step = step
        self._serial = 0
        self._due_ms = -1
        self._rung = False
        self.busy = False
        self.deaf = False
        """True while no ring ends the rest."""

    def soon(self) -> None:
        """Let the next step come soon, whatever it waits for."""
        if self.busy:
            self._rung = True
        elif not self.deaf:
            self.at_most(self._process.rng.randrange(*PACE_MS))

    def at_most(self, wait_ms: int) -> None:
        """Let the next step come in so long, or sooner where that was planned."""
        due_ms = self._process.loop.now_ms + wait_ms
        if self._due_ms < self._process.loop.now_ms or due_ms < self._due_ms:
            self._serial += 1
            self._due_ms = due_ms
            serial = self._serial
            self._process.loop.at(due_ms, lambda: self._turn(serial))

    def _turn(self, serial: int) -> None:
        process = self._process
        if not process.alive or process.frozen or self.busy or serial != self._serial:
            return
        self.busy, self._rung, self.deaf = True, False, False
        try:
            wait_ms = self._step()
        except Killed:
            return
        finally:
            self.busy = False
        self._due_ms = -1
        if self._rung and not self.deaf:
            wait_ms = 0
        self.at_most(max(wait_ms, process.rng.randrange(*PACE_MS)))
