"""The processes of a run: a publisher, a server, a simulator, and members by name."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from publisher.simulator import SYMBOLS
from tests.acceptance.rig import Process, Rig
from tests.group_chaos.verdict import Record

GROUP: Final = "strategy"
HANDLER: Final = "tests.group_chaos.handling:record"
SPEED: Final = 60
"""A bar of one minute ends every second."""


def names(count: int) -> list[str]:
    """Return so many series of one minute whose markets never close."""
    crypto = [
        str(name) for name in SYMBOLS if str(name).startswith(("BINANCE:", "COINBASE:", "BYBIT:"))
    ]
    plain = [f"{name}@1m" for name in crypto]
    found = [*plain, *(f"{one}+EUR" for one in plain), *(f"{one}+GBP" for one in plain)]
    found += [f"{one}+JPY" for one in plain]
    return found[:count]


class GroupRig(Rig):
    """A rig whose consumers are members of one group."""

    def __init__(self, folder: Path, series: Sequence[str]) -> None:
        super().__init__(folder, series, speed=SPEED, history_bars=20)
        self.members: list[Process] = []

    def member(self) -> Process:
        """Start one more member."""
        arguments = ["consume", HANDLER, "--group", GROUP, "--start", "oldest"]
        process = self._start(arguments)
        self.members.append(process)
        return process

    def kill(self, member: Process) -> None:
        """`kill -9` a member."""
        self.members.remove(member)
        member.kill()

    def leave(self, member: Process) -> int:
        """SIGTERM; return the exit code."""
        self.members.remove(member)
        return member.stop()

    @staticmethod
    def pause(member: Process) -> None:
        """SIGSTOP."""
        assert member.process is not None
        os.kill(member.process.pid, signal.SIGSTOP)

    @staticmethod
    def resume(member: Process) -> None:
        """SIGCONT."""
        assert member.process is not None
        if member.process.poll() is None:
            os.kill(member.process.pid, signal.SIGCONT)

    def records(self) -> Iterator[Record]:
        """Yield what the handlers wrote; a killed one may leave half a line."""
        for line in self.record.read_text().splitlines():
            if line.endswith("]"):
                yield Record(*json.loads(line))
