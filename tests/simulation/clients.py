"""Clients of the bus in virtual time: fakeredis behind what befalls calls."""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import fakeredis
from fakeredis import _helpers
from fakeredis._socket import _base
from fakeredis.commands_mixins import server_mixin
from fakeredis.model import _stream
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from tests.simulation.loop import Loop, Process

if TYPE_CHECKING:
    from tests.simulation.bus import Bus

Command = tuple[Any, ...]


class SimClient(fakeredis.FakeRedis):
    """A client of one process; everything it sends passes the bus' faults."""

    bus: Bus
    process: Process
    epoch: int
    blocked_ms = 0
    """How long the last read would have waited for something new."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command."""
        sent = self.process.sends(args)

        def run(done: int) -> list[Any]:
            try:
                return [super(SimClient, self).execute_command(*sent, **options)]
            except ResponseError as error:
                return [error]

        [reply] = self.bus.call(self, [sent], run)
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def pipeline(self, transaction: Any = True, shard_hint: Any = None) -> SimPipeline:
        """Return a pipeline whose commands pass the bus' faults too."""
        pipeline = SimPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )
        pipeline.client = self
        return pipeline


class SimPipeline(Pipeline):
    """A pipeline of a SimClient."""

    client: SimClient

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send all commands."""
        sends = self.client.process.sends
        stack = [
            (_unblocked(self.client, sends(args)), options) for args, options in self.command_stack
        ]
        if not stack:
            return []

        def run(done: int) -> list[Any]:
            if done == 0:
                return []
            self.command_stack = list(stack[:done])
            return [_as_redis(x) for x in super(SimPipeline, self).execute(raise_on_error=False)]

        replies = self.client.bus.call(self.client, [args for args, _ in stack], run)
        if stack[-1][0][0] == "XREADGROUP" and replies[-1]:
            self.client.blocked_ms = 0
        if raise_on_error:
            for reply in replies:
                if isinstance(reply, RedisError):
                    raise reply
        return replies


def _unblocked(client: SimClient, args: Command) -> Command:
    """Return a command that does not wait; its wait is virtual time of the process."""
    if args[0] == "XREADGROUP":
        client.blocked_ms = 0
        if "BLOCK" in args:
            place = args.index("BLOCK")
            client.blocked_ms = args[place + 1]
            return (*args[:place], *args[place + 2 :])
    return args


def _as_redis(reply: Any) -> Any:
    """Return what Redis would have said where fakeredis says something else."""
    if isinstance(reply, ResponseError) and "requires the key to exist" in str(reply):
        return ResponseError("NOGROUP No such key or consumer group")
    return reply


def new_client(kind: Any, server: fakeredis.FakeServer) -> Any:
    """Return a client of either kind, without retries of its own."""
    return kind(server=server, protocol=2, retry=Retry(NoBackoff(), 0))


@contextmanager
def virtual_time(loop: Loop) -> Iterator[None]:
    """Let fakeredis tell the loop's time."""
    clock = types.SimpleNamespace(
        # Half a millisecond, so that no rounding falls into the one before.
        time=lambda: (loop.now_ms + 0.5) / 1000,
    )
    with ExitStack() as stack:
        for module in (_helpers, _base, server_mixin, _stream):
            stack.enter_context(mock.patch.object(module, "time", clock))
        yield
