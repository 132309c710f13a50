"""A bad line: a TCP proxy between the publishers and TradingView."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Final

HALF_OPEN_S_MAX: Final = 60.0
"""After so long a connection that carries nothing any more is closed for good."""
CHUNK_BYTES: Final = 65_536
POLL_S: Final = 0.02


class Line:
    """Carries connections to a port of this machine, badly when told so. Safe in any thread."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._generation = 0
        self._held_until_s = 0.0
        self._refused_until_s = 0.0
        self._slow_until_s = 0.0
        self._delay_s = 0.0
        self.port = 0

    def start(self) -> Line:
        """Begin to listen."""
        self._thread.start()
        self._ready.wait(10)
        return self

    def stop(self) -> None:
        """End everything."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def go_half_open(self) -> None:
        """Let the connections of now carry nothing any more, without an end."""
        self._generation += 1

    def hold(self, duration_s: float) -> None:
        """Let nothing pass for a while; then everything comes."""
        self._held_until_s = time.monotonic() + duration_s

    def slow(self, delay_s: float, duration_s: float) -> None:
        """Let everything come later for a while."""
        self._delay_s, self._slow_until_s = delay_s, time.monotonic() + duration_s

    def refuse(self, duration_s: float) -> None:
        """Take no new connections for a while."""
        self._refused_until_s = time.monotonic() + duration_s

    def clear(self) -> None:
        """Be a good line again."""
        self._held_until_s = self._slow_until_s = self._refused_until_s = 0.0

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._ready.set()
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if time.monotonic() < self._refused_until_s:
            writer.transport.abort()
            return
        generation = self._generation
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            pumps = (
                asyncio.create_task(self._pump(reader, far_writer, generation)),
                asyncio.create_task(self._pump(far_reader, writer, generation)),
            )
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
                far_writer.transport.abort()
        writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, generation: int
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if time.monotonic() < self._slow_until_s:
                    await asyncio.sleep(self._delay_s)
                while time.monotonic() < self._held_until_s:
                    await asyncio.sleep(POLL_S)
                if generation != self._generation:
                    await asyncio.sleep(HALF_OPEN_S_MAX)
                    return
                writer.write(data)
                await writer.drain()
