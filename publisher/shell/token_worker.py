"""Obtains tokens in a thread of its own, for signing in may take a minute."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

import structlog

from publisher.core.tokens import Token
from publisher.errors import PublisherError, SignInError
from publisher.ports import Clock, Fact, TokenDenied, TokenGranted

POLL_S: Final = 0.2
"""How often an inbox that is full is looked at."""


class TokenWorker:
    """One request at a time; its answer is a fact in the engine's inbox.

    The thread starts with the first request. It is a daemon: a sign-in on its way
    holds up nobody's end.
    """

    def __init__(
        self,
        obtain: Callable[[Token | None], Token],
        clock: Clock,
        inbox: queue.Queue[Fact],
        stamp: Callable[[], object] = lambda: None,
    ) -> None:
        self._obtain = obtain
        self._clock = clock
        self._inbox = inbox
        self._stamp = stamp
        self._seen = stamp()
        self._lock = threading.Lock()
        self._wanted: queue.SimpleQueue[Token | _End | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._busy = False

    def ask(self, rejected: Token | None = None) -> None:
        """Begin to obtain a token; TokenGranted or TokenDenied follows. Never blocks for long."""
        with self._lock:
            if self._busy or self._stopping.is_set():
                return
            self._busy = True
            self._wanted.put(rejected)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="signin", daemon=True)
                self._thread.start()

    def changed(self) -> bool:
        """Tell whether the stored session is another than when a token was obtained last."""
        with self._lock:
            return not self._busy and self._stamp() != self._seen

    def stop(self) -> None:
        """End; nothing follows any more."""
        self._stopping.set()
        self._wanted.put(_End())

    def _work(self) -> None:
        while not isinstance(rejected := self._wanted.get(), _End):
            self._answer(self._fact(rejected))

    def _fact(self, rejected: Token | None) -> Fact:
        try:
            token = self._obtain(rejected)
            # Obtaining it may have stored the session anew.
            self._seen = self._stamp()
            return TokenGranted(token, self._clock.monotonic_ms())
        except PublisherError as error:
            return TokenDenied(error)
        except Exception as error:  # noqa: BLE001  # allow: the worker's last line
            structlog.get_logger("publisher").error(
                "thread.crashed", thread="signin", exc_info=True
            )
            what = f"{type(error).__name__}"
            return TokenDenied(
                SignInError(f"unexpected while signing in, please report it: {what}")
            )

    def _answer(self, fact: Fact) -> None:
        while not self._stopping.is_set():
            # Whoever reads the fact may ask again at once, so both happen as one.
            with self._lock:
                try:
                    self._inbox.put_nowait(fact)
                except queue.Full:
                    pass
                else:
                    self._busy = False
                    return
            self._stopping.wait(POLL_S)


class _End:
    """Ends the thread."""
