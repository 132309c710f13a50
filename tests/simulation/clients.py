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
from fakeredis.commands_mixins import scripting_mixin, server_mixin
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
        stack = [(sends(args), options) for args, options in self.command_stack]
        if not stack:
            return []

        def run(done: int) -> list[Any]:
            if done == 0:
                return []
            self.command_stack = list(stack[:done])
            return list(super(SimPipeline, self).execute(raise_on_error=False))

        replies = self.client.bus.call(self.client, [args for args, _ in stack], run)
        if raise_on_error:
            for reply in replies:
                if isinstance(reply, RedisError):
                    raise reply
        return replies


class _Lua:
    """The server's Lua: compiles each script once, and leaves its garbage to Lua."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._compiled: dict[bytes, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def execute(self, script: bytes | str) -> Any:
        """Run a script."""
        if isinstance(script, str):
            return None  # a request to collect garbage after each script
        if script not in self._compiled:
            self._compiled[script] = self._runtime.compile(script)
        return self._compiled[script]()


def new_server() -> fakeredis.FakeServer:
    """Return a server whose scripts run fast enough for many seeds."""
    server: Any = fakeredis.FakeServer(version=(7,))
    new_client(fakeredis.FakeRedis, server).eval("return 1", 0)
    server.script_cache.clear()
    server._lua_runtime = _Lua(server._lua_runtime)
    return server  # type: ignore[no-any-return]


def new_client(kind: Any, server: fakeredis.FakeServer) -> Any:
    """Return a client of either kind, without retries of its own."""
    return kind(server=server, protocol=2, retry=Retry(NoBackoff(), 0))


def _unchecked(*_: Any) -> None:
    """Let scripts set globals: tests on real servers find that."""


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
        stack.enter_context(
            mock.patch.object(scripting_mixin, "_check_for_lua_globals", _unchecked)
        )
        yield
