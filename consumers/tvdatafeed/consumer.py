"""One callback of a seis, with a thread and a bounded queue of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    from consumers.tvdatafeed.frames import BarFrame
    from consumers.tvdatafeed.seis import Seis

log = structlog.get_logger("consumers")

WAITING_MAX: Final = 1_000
"""Bars that may wait for a callback; beyond, the oldest is dropped and counted."""

Callback = Callable[["Seis", "BarFrame"], Any]


class Consumer(threading.Thread):
    """Calls a function with each closed bar of a seis, one after the other.

    Made by `new_consumer`. What the function raises is logged and counted; the next bar
    is handed to it all the same. A slow function delays no other one.
    """

    def __init__(self, seis: Seis, callback: Callback) -> None:
        name = getattr(callback, "__name__", "callback")
        super().__init__(name=f"{name}_{seis.symbol}_{seis.exchange}_{seis.interval.value}")
        self.seis = seis
        self.callback = callback
        self.handled = 0
        """Bars that the callback returned from."""
        self.failed = 0
        """Bars at which it raised."""
        self.dropped = 0
        """Bars that could not wait for it any longer."""
        self._buffer: queue.Queue[BarFrame | None] = queue.Queue(WAITING_MAX)
        self._stopped = threading.Event()

    def __repr__(self) -> str:
        """Show seis and callback."""
        return f"Consumer({self.seis!r},{getattr(self.callback, '__name__', 'callback')})"

    def put(self, data: BarFrame) -> None:
        """Let a bar wait for the callback. Never blocks."""
        while not self._stopped.is_set():
            try:
                return self._buffer.put_nowait(data)
            except queue.Full:
                self._drop_oldest()
        return None

    def run(self) -> None:
        """Call the callback until stopped."""
        while (data := self._buffer.get()) is not None and not self._stopped.is_set():
            try:
                self.callback(self.seis, data)
                self.handled += 1
            except Exception as error:  # allow: the caller's own function
                self.failed += 1
                log.error("callback.failed", consumer=self.name, error=str(error), exc_info=True)

    def del_consumer(self, timeout: float = -1) -> bool:
        """Remove it from its seis and stop it; True. May be called by the callback itself."""
        return self._stopped.is_set() or self.seis.del_consumer(self, timeout)

    def stop(self) -> None:
        """End after the bar in hand; what waits is let go."""
        self._stopped.set()
        while True:
            try:
                return self._buffer.put_nowait(None)
            except queue.Full:
                self._drop_oldest(counted=False)

    def _drop_oldest(self, *, counted: bool = True) -> None:
        try:
            self._buffer.get_nowait()
        except queue.Empty:
            return
        if counted:
            self.dropped += 1
            if self.dropped == 1:
                log.error("callback.overrun", consumer=self.name, waiting=WAITING_MAX)
