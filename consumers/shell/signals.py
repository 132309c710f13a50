"""The first SIGTERM, SIGINT or SIGHUP as a request to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_STOP_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)


@contextmanager
def stopping_by_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the first signal; a second one acts as it did before.

    Does nothing outside the main thread, where signals cannot be had.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {x: signal.getsignal(x) for x in _STOP_SIGNALS}

    def restore() -> None:
        for number, action in previous.items():
            signal.signal(number, action)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        restore()
        stop()

    for number in _STOP_SIGNALS:
        if previous[number] is not signal.SIG_IGN:  # nohup wants to go on
            signal.signal(number, on_signal)
    try:
        yield
    finally:
        restore()
