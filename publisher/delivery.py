"""Bars, states and events on their way to the bus, through its failures.

Closed bars wait, bounded; beyond the bound a series' bars are let go and
fetched from TradingView again once the bus is back. Forming updates are
conflated: only the newest of a series waits. Events wait, bounded, the oldest
are dropped and counted.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from publisher.commands import Answer
from publisher.core.backoff import Backoff
from publisher.errors import Fenced, StoreError, StoreRefused, StreamDiverged
from publisher.ports import Appended, Batch, Store
from publisher.publication import Publication
from publisher.wire import Series

BATCH_BARS_MAX: Final = 128
"""Bars in one script call; more would hold the server for over a millisecond."""
FLUSH_BARS_MAX: Final = 1_024
"""Bars in one round trip."""
OUTBOX_BARS_MAX: Final = 200_000
"""Closed bars of all series that may wait for the bus."""
CORRECTIONS_WAITING_MAX: Final = 1_000
EVENTS_WAITING_MAX: Final = 1_000
FORMING_PERIOD_MS: Final = 250
"""How often forming bars are put at most."""
RETRY_BASE_MS: Final = 100
RETRY_MS_MAX: Final = 5_000


@dataclass(slots=True)
class Flushed:
    """What a flush found out."""

    appended: int = 0
    failed: list[tuple[Publication, StoreError]] = field(default_factory=list)
    """Series whose stream must be read again, or that the bus refuses."""


class Delivery:
    """Carries what waits to the bus; the engine's thread owns it."""

    def __init__(self, store: Store, token: int, rng: random.Random) -> None:
        self._store = store
        self._token = token
        self._rng = rng
        self._backoff = Backoff(RETRY_BASE_MS, RETRY_MS_MAX)
        self._retry_at_ms = 0
        self._forming_at_ms = 0
        self._events: deque[bytes] = deque()
        self._descriptions: dict[Series, dict[str, str]] = {}
        self._listed: dict[Series, Publication] = {}
        self._answers: deque[tuple[str, list[Answer]]] = deque(maxlen=EVENTS_WAITING_MAX)
        self._commands_read: str | None = None
        self.events_dropped = 0
        self.trouble: StoreError | None = None
        """Why the bus does not take anything now; None while it does."""

    def note_trouble(self, error: StoreError, now_ms: int) -> None:
        """The bus failed elsewhere: wait before trying again."""
        self.trouble = error
        self._retry_at_ms = now_ms + self._backoff.next_delay_ms(self._rng)

    def emit(self, event: bytes) -> None:
        """Let an event wait."""
        if len(self._events) >= EVENTS_WAITING_MAX:
            self._events.popleft()
            self.events_dropped += 1
        self._events.append(event)

    def describe(self, publication: Publication, fields: dict[str, str]) -> None:
        """Let fields of a series' hash, and its catalogue line, wait."""
        self._descriptions.setdefault(publication.series, {}).update(fields)
        self._listed[publication.series] = publication

    def answer(self, request: str, answers: list[Answer]) -> None:
        """Let an answer wait."""
        self._answers.append((request, answers))

    def note_commands_read(self, entry_id: str) -> None:
        """Let the position in the requests wait."""
        self._commands_read = entry_id

    @property
    def busy(self) -> bool:
        """True while something other than bars waits."""
        waiting = (self._events, self._descriptions, self._listed, self._answers)
        return any(waiting) or self._commands_read is not None

    def flush(self, publications: Mapping[Series, Publication], now_ms: int) -> Flushed:
        """Carry what waits. Raises Fenced; other failures are kept for later.

        Not before the back-off after a failure has passed.
        """
        flushed = Flushed()
        if now_ms < self._retry_at_ms:
            return flushed
        try:
            self._flush_bars(publications.values(), flushed)
            self._flush_corrections(publications.values(), flushed)
            self._flush_forming(publications.values(), flushed, now_ms)
            self._flush_facts(publications, flushed)
        except Fenced:
            raise
        except StoreError as error:
            self.note_trouble(error, now_ms)
            return flushed
        self.trouble = None
        self._backoff.reset()
        return flushed

    def _flush_bars(self, publications: Iterable[Publication], flushed: Flushed) -> None:
        waiting = [publication for publication in publications if publication.outbox]
        batches, room = [], FLUSH_BARS_MAX
        for publication in waiting:
            bars = tuple(islice(publication.outbox, min(BATCH_BARS_MAX, room)))
            room -= len(bars)
            batches.append(Batch(publication.series, bars))
            if room == 0:
                break
        if not batches:
            return
        outcomes = self._store.append(self._token, batches)
        trouble = None
        for publication, batch, outcome in zip(waiting, batches, outcomes, strict=False):
            if isinstance(outcome, Appended):
                for _ in batch.bars:
                    publication.outbox.popleft()
                flushed.appended += outcome.new
            elif isinstance(outcome, Fenced):
                raise outcome
            elif isinstance(outcome, (StreamDiverged, StoreRefused)):
                flushed.failed.append((publication, outcome))
            else:
                trouble = outcome
        if trouble is not None:
            raise trouble

    def _flush_corrections(self, publications: Iterable[Publication], flushed: Flushed) -> None:
        for publication in publications:
            # A correction follows its bar, never the other way round.
            while publication.corrections and not publication.outbox:
                bar = publication.corrections[0]
                entry_ms = max(bar.received_ms, publication.correction_ms + 1)
                try:
                    self._store.put_correction(self._token, bar, entry_ms)
                except (StreamDiverged, StoreRefused) as error:
                    flushed.failed.append((publication, error))
                    break
                publication.correction_ms = entry_ms
                publication.corrections.popleft()

    def _flush_forming(
        self, publications: Iterable[Publication], flushed: Flushed, now_ms: int
    ) -> None:
        if now_ms < self._forming_at_ms:
            return
        self._forming_at_ms = now_ms + FORMING_PERIOD_MS
        ready = [p for p in publications if p.forming is not None and not p.outbox]
        if not ready:
            return
        bars = [publication.forming for publication in ready if publication.forming is not None]
        outcomes = self._store.put_forming(self._token, bars)
        for publication, outcome in zip(ready, outcomes, strict=True):
            publication.forming = None
            if isinstance(outcome, StoreRefused):
                flushed.failed.append((publication, outcome))
            elif outcome is not None:
                raise outcome

    def _flush_facts(self, publications: Mapping[Series, Publication], flushed: Flushed) -> None:
        while self._descriptions:
            series, fields = next(iter(self._descriptions.items()))
            try:
                self._store.describe(self._token, series, fields)
            except StoreRefused as error:
                if series in publications and publications[series].state != "refused":
                    flushed.failed.append((publications[series], error))
            del self._descriptions[series]
        if self._listed:
            self._store.list_series([publication.summary for publication in self._listed.values()])
            self._listed.clear()
        while self._answers:
            self._store.answer(*self._answers[0])
            self._answers.popleft()
        if self._events:
            events = tuple(islice(self._events, BATCH_BARS_MAX))
            self._store.emit(events)
            for _ in events:
                self._events.popleft()
        if self._commands_read is not None:
            self._store.note_commands_read(self._commands_read)
            self._commands_read = None
