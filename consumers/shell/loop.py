"""Where `async` handlers run: an event loop in a thread of its own, started when it is needed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Final

CLOSE_MS_MAX: Final = 5_000
"""How long a call that was cancelled may take to end."""

Ended = Callable[[BaseException | None], None]
"""Told what the call raised, in the loop's thread."""


class Loop:
    """An event loop; the calls run concurrently in its one thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._calls: set[Future[None]] = set()

    def run(self, call: Awaitable[object], ended: Ended) -> None:
        """Await the call in the loop's thread; `ended` is told when it is over."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="tvbus-async-handlers", daemon=True
            )
            self._thread.start()
        future = asyncio.run_coroutine_threadsafe(_awaited(call, ended), self._loop)
        self._calls.add(future)
        future.add_done_callback(self._calls.discard)

    def close(self) -> None:
        """Cancel what still runs, and end the thread."""
        if self._loop is None or self._thread is None:
            return
        for future in list(self._calls):
            future.cancel()
        try:
            ending = asyncio.run_coroutine_threadsafe(_end(), self._loop)
            ending.result(CLOSE_MS_MAX / 1000)
        except TimeoutError:
            return  # a handler that will not be cancelled must not keep the process
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_MS_MAX / 1000)
        self._loop.close()
        self._loop = self._thread = None


async def _awaited(call: Awaitable[object], ended: Ended) -> None:
    try:
        await call
    except BaseException as error:  # noqa: BLE001  # allow: the worker decides about it
        ended(error)
    else:
        ended(None)


async def _end() -> None:
    """Wait for the cancelled calls and close generators, as `asyncio.run` does."""
    others = [x for x in asyncio.all_tasks() if x is not asyncio.current_task()]
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
