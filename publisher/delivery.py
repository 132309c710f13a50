"""Bars, states and events on their way to the bus, through its failures.

Closed bars wait, bounded; beyond the bound a series' bars are let go and
fetched from TradingView again once the bus is back. Forming updates are
conflated: only the newest of a series waits. Events and answers wait, bounded,
the oldest are dropped and counted. A key that holds something foreign stops what
belongs there and nothing else.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from publisher.core.backoff import Backoff
from publisher.errors import Fenced, StoreError, StoreRefused, StreamDiverged
from publisher.ports import Appended, Batch, Clock, Store
from publisher.publication import Publication
from publisher.wire import Bar, Series
from publisher.wire.answers import Reply

BATCH_BARS_MAX: Final = 128
"""Bars in one script call; more would hold the server for over a millisecond."""
FLUSH_BARS_MAX: Final = 1_024
"""Bars in one round trip."""
OUTBOX_BARS_MAX: Final = 200_000
"""Closed bars of all series that may wait for the bus."""
CORRECTIONS_WAITING_MAX: Final = 1_000
EVENTS_WAITING_MAX: Final = 1_000
ANSWERS_WAITING_MAX: Final = 20_000
FACTS_FLUSHED_MAX: Final = 256
"""Corrections, descriptions and answers of one flush, each; bars are not kept waiting."""
FORMING_PERIOD_MS: Final = 250
"""How often forming bars are put at most."""
RETRY_BASE_MS: Final = 100
RETRY_MS_MAX: Final = 5_000
REFUSED_MS: Final = 60_000
"""After how long a key that held something foreign is tried again."""


@dataclass(slots=True)
class Flushed:
    """What a flush found out."""

    appended: int = 0
    live: list[Bar] = field(default_factory=list)
    """Bars that stand in their streams now and did not come with history."""
    failed: list[tuple[Publication, StoreError]] = field(default_factory=list)
    """Series whose stream must be read again, or that the bus refuses."""


class Delivery:
    """Carries what waits to the bus; the engine's thread owns it."""

    def __init__(self, store: Store, token: int, clock: Clock, rng: random.Random) -> None:
        self._store = store
        self._token = token
        self._clock = clock
        self._rng = rng
        self._backoff = Backoff(RETRY_BASE_MS, RETRY_MS_MAX)
        self._retry_at_ms = 0
        self._forming_at_ms = 0
        self._flushes = 0
        self._events: deque[bytes] = deque()
        self._events_first = False
        self._descriptions: dict[Series, dict[str, str]] = {}
        self._listed: dict[Series, Publication] = {}
        self._answers: deque[tuple[str, list[Reply]]] = deque()
        self._answers_waiting = 0
        self._commands_read: str | None = None
        self._session: bytes | None = None
        self._refused_until_ms: dict[str, int] = {}
        self.dropped: Counter[str] = Counter()
        """How many events and answers could not wait any longer."""
        self.refusals: dict[str, str] = {}
        """What the bus does not take because its key holds something foreign, and why."""
        self.trouble: StoreError | None = None
        """Why the bus does not take anything now; None while it does."""

    def note_trouble(self, error: StoreError) -> None:
        """The bus failed: wait before trying again."""
        self.trouble = error
        # From now, not from when the call began: it may have taken seconds to fail.
        now_ms = self._clock.monotonic_ms()
        self._retry_at_ms = now_ms + self._backoff.next_delay_ms(self._rng)

    def emit(self, event: bytes, *, before_bars: bool = False) -> None:
        """Let an event wait; no bar is written before one that asks for it."""
        self._events_first = self._events_first or before_bars
        if len(self._events) >= EVENTS_WAITING_MAX:
            self._events.popleft()
            self.dropped["event.dropped"] += 1
        self._events.append(event)

    def describe(self, publication: Publication, fields: dict[str, str]) -> None:
        """Let fields of a series' hash, and its catalogue line, wait."""
        self._descriptions.setdefault(publication.series, {}).update(fields)
        self.enlist(publication)

    def enlist(self, publication: Publication) -> None:
        """Let a series' catalogue line wait."""
        self._listed[publication.series] = publication

    @property
    def answers_waiting(self) -> int:
        """How many answers wait."""
        return self._answers_waiting

    def answer(self, request: str, answer: Reply) -> None:
        """Let an answer wait."""
        last = self._answers[-1] if self._answers else None
        if last is not None and last[0] == request and len(last[1]) < BATCH_BARS_MAX:
            last[1].append(answer)
        else:
            self._answers.append((request, [answer]))
        self._answers_waiting += 1
        if self._answers_waiting > ANSWERS_WAITING_MAX:
            self._drop_answers()

    def note_commands_read(self, entry_id: str) -> None:
        """Let the position in the requests wait."""
        self._commands_read = entry_id

    def put_session(self, session: bytes) -> None:
        """Let what is known of the session wait."""
        self._session = session

    @property
    def busy(self) -> bool:
        """True while something other than bars waits that the bus may take now."""
        waiting = {
            "series": self._descriptions,
            "catalogue": self._listed,
            "answers": self._answers,
            "events": self._events,
            "commands": self._commands_read,
            "session": self._session,
        }
        return any(facts and self._may_try(name) for name, facts in waiting.items())

    def flush(self, publications: Mapping[Series, Publication]) -> Flushed:
        """Carry what waits. Raises Fenced; other failures are kept for later.

        Not before the back-off after a failure has passed.
        """
        flushed = Flushed()
        if self._clock.monotonic_ms() < self._retry_at_ms:
            return flushed
        self._flushes += 1
        try:
            self._flush_first_events()
            self._flush_bars(publications.values(), flushed)
            self._flush_corrections(publications.values(), flushed)
            self._flush_forming(publications.values(), flushed)
            self._flush_descriptions(publications, flushed)
            self._flush_facts()
        except Fenced:
            raise
        except StoreError as error:
            self.note_trouble(error)
            return flushed
        self.trouble = None
        self._backoff.reset()
        return flushed

    def _flush_first_events(self) -> None:
        while self._events_first and self._events and self._try("events", self._put_events):
            continue
        self._events_first = False

    def _flush_bars(self, publications: Iterable[Publication], flushed: Flushed) -> None:
        # Who was served longest ago comes first: a long history delays nobody's newest bar.
        waiting = sorted((p for p in publications if p.outbox), key=lambda p: p.flushed)
        batches, room = [], FLUSH_BARS_MAX
        for publication in waiting:
            publication.flushed = self._flushes
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
                for bar in batch.bars:
                    publication.outbox.popleft()
                    if bar.closed_by != "history":
                        flushed.live.append(bar)
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
        room = FACTS_FLUSHED_MAX
        for publication in publications:
            # A correction follows its bar, never the other way round.
            while publication.corrections and not publication.outbox and room > 0:
                room -= 1
                bar = publication.corrections[0]
                entry_ms = max(bar.received_ms, publication.correction_ms + 1)
                try:
                    self._store.put_correction(self._token, bar, entry_ms)
                except (StreamDiverged, StoreRefused) as error:
                    flushed.failed.append((publication, error))
                    break
                publication.correction_ms = entry_ms
                publication.corrections.popleft()

    def _flush_forming(self, publications: Iterable[Publication], flushed: Flushed) -> None:
        now_ms = self._clock.monotonic_ms()
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
            if isinstance(outcome, (StreamDiverged, StoreRefused)):
                flushed.failed.append((publication, outcome))
            elif outcome is not None:
                raise outcome

    def _flush_descriptions(
        self, publications: Mapping[Series, Publication], flushed: Flushed
    ) -> None:
        failed = {publication.series for publication, _ in flushed.failed}
        for series in list(islice(self._descriptions, FACTS_FLUSHED_MAX)):
            try:
                self._store.describe(self._token, series, self._descriptions[series])
            except StoreRefused as error:
                publication = publications.get(series)
                if publication and publication.state != "refused" and series not in failed:
                    flushed.failed.append((publication, error))
            del self._descriptions[series]

    def _flush_facts(self) -> None:
        if self._listed and self._try("catalogue", self._put_listed):
            self._listed.clear()
        for _ in range(min(len(self._answers), FACTS_FLUSHED_MAX)):
            request, answers = self._answers[0]
            try:
                self._store.answer(request, answers)
            except StoreRefused:
                self.dropped["answer.dropped"] += len(answers)
            self._answers.popleft()
            self._answers_waiting -= len(answers)
        if self._events:
            self._try("events", self._put_events)
        if self._commands_read is not None and self._try("commands", self._put_commands_read):
            self._commands_read = None
        if self._session is not None and self._try("session", self._put_session):
            self._session = None

    def _put_session(self) -> None:
        assert self._session is not None
        self._store.put_session(self._session)

    def _put_listed(self) -> None:
        self._store.list_series([publication.summary for publication in self._listed.values()])

    def _put_events(self) -> None:
        events = tuple(islice(self._events, BATCH_BARS_MAX))
        self._store.emit(events)
        for _ in events:
            self._events.popleft()

    def _put_commands_read(self) -> None:
        assert self._commands_read is not None
        self._store.note_commands_read(self._commands_read)

    def _drop_answers(self) -> None:
        answers = self._answers.popleft()[1]
        self._answers_waiting -= len(answers)
        self.dropped["answer.dropped"] += len(answers)

    def _may_try(self, name: str) -> bool:
        return self._clock.monotonic_ms() >= self._refused_until_ms.get(name, 0)

    def _try(self, name: str, put: Callable[[], None]) -> bool:
        """Put facts; return whether they were taken. A foreign key is tried again later."""
        if not self._may_try(name):
            return False
        try:
            put()
        except StoreRefused as error:
            self.refusals[name] = str(error)
            self._refused_until_ms[name] = self._clock.monotonic_ms() + REFUSED_MS
            return False
        self.refusals.pop(name, None)
        return True
