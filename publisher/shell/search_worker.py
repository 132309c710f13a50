"""Searches for symbols in a thread of its own, for a page may take ten seconds."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

import structlog

from publisher.core.search import Query, Results
from publisher.errors import PublisherError, RemoteProtocolError
from publisher.ports import Fact, SearchEnded

POLL_S: Final = 0.2
"""How often an inbox that is full is looked at."""


class SearchWorker:
    """One search at a time; its outcome is a fact in the engine's inbox.

    The engine bounds how many wait. The thread starts with the first search and is a
    daemon: a page on its way holds up nobody's end.
    """

    def __init__(self, find: Callable[[Query], Results], inbox: queue.Queue[Fact]) -> None:
        self._find = find
        self._inbox = inbox
        self._wanted: queue.SimpleQueue[tuple[str, Query] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def search(self, request: str, query: Query) -> None:
        """Begin to search, after those that wait; SearchEnded follows. Never blocks."""
        self._wanted.put((request, query))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="search", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End; nothing follows any more."""
        self._stopping.set()
        self._wanted.put(None)

    def _work(self) -> None:
        while (wanted := self._wanted.get()) is not None and not self._stopping.is_set():
            request, query = wanted
            self._hand_over(SearchEnded(request, self._outcome(query)))

    def _outcome(self, query: Query) -> Results | PublisherError:
        try:
            return self._find(query)
        except PublisherError as error:
            return error
        except Exception as error:  # allow: the worker's last line
            log = structlog.get_logger("publisher")
            log.error("thread.crashed", thread="search", exc_info=True)
            what = type(error).__name__
            return RemoteProtocolError(f"unexpected while searching, please report it: {what}")

    def _hand_over(self, fact: Fact) -> None:
        while not self._stopping.is_set():
            try:
                return self._inbox.put(fact, timeout=POLL_S)
            except queue.Full:
                continue
        return None
