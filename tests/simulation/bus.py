"""The bus in virtual time: fakeredis with the real scripts, and what goes wrong around it.

Faults strike where they do in life: before a command arrives, between its commands,
after it was done and before its reply came, or long after its sender gave it up.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import fakeredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from bus.connection import WRITE_TIMEOUT_MS
from tests.simulation.clients import Command, SimClient, new_client, new_server
from tests.simulation.loop import Killed, Loop, Process
from tests.simulation.plan import Plan
from tests.simulation.scripts import script_of

Observer = Callable[[str, Command, Any], None]
"""Told who sent what, and the reply, for each command that the server did."""

READS: Final = frozenset(
    {"PING", "TYPE", "EXISTS", "XINFO STREAM", "XINFO GROUPS", "XINFO CONSUMERS", "XREVRANGE",
     "XRANGE", "XREAD", "XPENDING", "HGETALL", "HGET", "HMGET", "SCRIPT LOAD"}
)  # fmt: skip
FREEING: Final = frozenset({"XACK", "XREADGROUP", "XCLAIM", "XAUTOCLAIM"})
"""Writes that a server out of memory still takes."""
STALL_MS: Final = (300, 4_500)
"""How long a call may take that comes to an end; nobody waits for longer."""
WEIGHT: Final = 8
"""How much likelier a fault is in a call that writes closed bars or corrections, or takes over."""
GHOST_MS: Final = (500, 40_000)
"""How much later than its sender waits a command may be done."""


class Bus:
    """The server, and which faults are upon it."""

    def __init__(self, loop: Loop, plan: Plan) -> None:
        self.loop = loop
        self.plan = plan
        self._rngs: dict[str, random.Random] = {}
        self.server = new_server()
        self.client = new_client(fakeredis.FakeRedis, self.server)
        """A client that nothing befalls."""
        self.observers: list[Observer] = []
        self.on_reset: list[Callable[[], None]] = []
        """Called when the server is not what it was: flushed or failed over."""
        self.away_until_ms = 0
        self.read_only_until_ms = 0
        self.full_until_ms = 0
        self.parted_until_ms: dict[str, int] = {}
        self.epoch = 0
        """Rises when all connections break."""
        self.faulty = True
        self._kept: Any = None

    def connect(self, process: Process) -> SimClient:
        """Return a client for a process."""
        client: SimClient = new_client(SimClient, self.server)
        client.bus, client.process, client.epoch = self, process, self.epoch
        return client

    def rng(self, process: Process) -> random.Random:
        """Return the generator of what befalls a process' calls: others' have their own."""
        if process.name not in self._rngs:
            self._rngs[process.name] = self.plan.rng(f"bus:{process.name}")
        return self._rngs[process.name]

    def struck(self, kind: str) -> None:
        """Count a fault that struck."""
        self.loop.trace.counts[kind] += 1

    def heal(self) -> None:
        """Let everything go well from now on."""
        self.faulty = False
        self._kept = None
        self.away_until_ms = self.read_only_until_ms = self.full_until_ms = 0
        self.parted_until_ms.clear()

    # What befalls the server.

    def flush_scripts(self) -> None:
        """Forget the scripts."""
        self.struck("scripts_flushed")
        self.server.script_cache.clear()

    def flush(self) -> None:
        """Forget everything."""
        self.struck("flushed")
        self.client.flushall()
        self._reset()

    def evict(self, key: str) -> None:
        """Forget one key."""
        if self.client.delete(key):
            self.struck("evicted")
            self._reset()

    def keep(self) -> None:
        """Take what stands here now as what a replica will have."""
        self._kept = copy.deepcopy(self.server.dbs[0]._dict)

    def fail_over(self, away_ms: int) -> None:
        """Let a replica take over that does not know what was written since `keep`."""
        if self._kept is None:
            return
        self.struck("failed_over")
        stands = self.server.dbs[0]._dict
        stands.clear()
        stands.update(self._kept)
        self._kept = None
        self.server.script_cache.clear()
        self.epoch += 1
        self.away_until_ms = max(self.away_until_ms, self.loop.now_ms + away_ms)
        self._reset()

    def _reset(self) -> None:
        for tell in self.on_reset:
            tell()

    # What befalls a call.

    def call(
        self, client: SimClient, commands: Sequence[Command], run: Callable[[int], list[Any]]
    ) -> list[Any]:
        """Do commands of a client, or not, or not all, or later.

        `run` does the first ones and returns their replies; errors are values.
        """
        process = client.process
        process.check()
        self._reach(client)
        weight = WEIGHT if any(map(_is_delicate, commands)) else 1
        try:
            self._stall(process, "stall_before", weight)
        except Killed:
            # It may have been sent by then, or not.
            if self.rng(process).random() < 0.5 and client.epoch == self.epoch:
                self._finish(process, commands, run(len(commands)))
            raise
        self._reach(client)
        if self._draws(process, "ghost", weight):
            self._haunt(process, commands)
        done = len(commands)
        if self._draws(process, "cut", weight):
            done = self.rng(process).randrange(done)
        refused = self._refusal(commands)
        replies = refused if refused is not None else run(done)
        self._finish(process, commands, replies)
        self._stall(process, "stall_after", weight)
        if done < len(commands) or self._draws(process, "reply_lost", weight):
            raise RedisConnectionError("Connection closed by server.")
        return replies

    def _reach(self, client: SimClient) -> None:
        now_ms = self.loop.now_ms
        if now_ms < self.away_until_ms:
            self.struck("bus_away")
            raise RedisConnectionError("Error 111 connecting to bus:6379. Connection refused.")
        if now_ms < self.parted_until_ms.get(client.process.name, 0):
            self.struck("partition")
            raise RedisTimeoutError("Timeout connecting to server")
        if client.epoch != self.epoch:
            client.epoch = self.epoch
            raise RedisConnectionError("Connection closed by server.")

    def _draws(self, process: Process, kind: str, weight: int) -> bool:
        if not self.faulty or self.rng(process).random() >= weight * self.plan.chance(kind):
            return False
        self.struck(kind)
        return True

    def _stall(self, process: Process, kind: str, weight: int) -> None:
        if self._draws(process, kind, weight):
            rng = self.rng(process)
            ms = rng.randrange(*STALL_MS)
            process.say(f"{kind} for {ms} ms")
            if rng.random() < 0.4:
                # Nobody waits that long for the bus, but the whole process may be stopped.
                process.freeze(6 * ms)
            process.stall(ms)

    def _haunt(self, process: Process, commands: Sequence[Command]) -> None:
        """Do the commands after their sender gave them up. Raises RedisTimeoutError."""
        epoch, name = self.epoch, process.name

        def appear() -> None:
            if epoch == self.epoch:
                process.say(f"given-up commands are done: {[c[0] for c in commands]}")
                for command in commands:
                    self._observe(name, command, self._do(command))

        self.loop.after(WRITE_TIMEOUT_MS + self.rng(process).randrange(*GHOST_MS), appear)
        process.stall(WRITE_TIMEOUT_MS)
        raise RedisTimeoutError("Timeout reading from socket")

    def _do(self, command: Command) -> Any:
        pipeline = self.client.pipeline(transaction=False)
        pipeline.response_callbacks = {}
        pipeline.execute_command(*command)
        return pipeline.execute(raise_on_error=False)[0]

    def _refusal(self, commands: Sequence[Command]) -> list[Any] | None:
        """Return errors where the server does not take writes now."""
        error: RedisError
        if self.loop.now_ms < self.read_only_until_ms:
            error, harmless = ReadOnlyError("You can't write against a read only replica."), READS
        elif self.loop.now_ms < self.full_until_ms:
            error = OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
            harmless = READS | FREEING
        else:
            return None
        if all(command[0] in harmless for command in commands):
            return None
        self.struck("read_only" if isinstance(error, ReadOnlyError) else "out_of_memory")
        return [error for _ in commands]

    def _finish(self, process: Process, commands: Sequence[Command], replies: list[Any]) -> None:
        for command, reply in zip(commands, replies, strict=False):
            self._observe(process.name, command, reply)

    def _observe(self, name: str, command: Command, reply: Any) -> None:
        for tell in self.observers:
            tell(name, command, reply)


def _is_delicate(command: Command) -> bool:
    if script := script_of(command):
        return script == "take_over"
    writes = command[0] == "EVALSHA" and int(command[2]) == 2
    return writes and ":forming:" not in command[3]
