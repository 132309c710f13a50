"""The loop: one thread owns all state and runs what the core decides.

Facts come through one bounded inbox. Each turn takes what is there, lets time
do its part, carries what waits to the bus, and sends what the session has to
say. Nothing here blocks but the bus, and that no longer than its time-outs.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from publisher.bus_watch import BusWatch
from publisher.core.barriers import Barriers
from publisher.core.budget import REQUESTS_PER_HOUR_MAX, Budget
from publisher.core.pacing import Pace
from publisher.delivery import Delivery
from publisher.dialogue import Dialogue
from publisher.errors import (
    Fenced,
    SignInError,
    StoreError,
    StoreRefused,
)
from publisher.hearing import Hearing
from publisher.history import Histories
from publisher.links import Links
from publisher.notes import Notes
from publisher.ports import (
    RENEW_MS,
    Commanded,
    CommandRefused,
    Fact,
    Ports,
    SearchEnded,
)
from publisher.publication import Publication
from publisher.roster import Roster
from publisher.searches import Searches
from publisher.status import Status
from publisher.watching import Watch
from publisher.wire import Bar, Series
from publisher.wire.answers import Answer
from publisher.wire.commands import Command

INBOX_MAX: Final = 10_000
"""Messages from TradingView that may wait for the engine."""
TURN_FACTS_MAX: Final = 1_000
"""Facts taken in one turn before the bus gets its share."""
TURN_MS_MAX: Final = 200
"""Longest wait of a turn."""
OVERDUE_MAX: Final = 3
"""So many requests in a row that find no answer end their connection."""
MUTES_MAX: Final = 3
"""After so many mute connections, without a bar in between, another token is asked for."""
STOP_FLUSH_MS_MAX: Final = 3_000
"""How long a clean stop may take to carry what waits to the bus."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the engine is told to do."""

    history_bars: int
    settle_ms: int
    require_realtime: bool = False
    history_requests_per_hour_max: int = REQUESTS_PER_HOUR_MAX
    series_per_connection_max: int = 190
    connections_max: int = 6
    audit_minutes: int = 30


class Engine:
    """Publishes the wanted series while it holds the lease with this fencing token."""

    def __init__(
        self,
        ports: Ports,
        policy: Policy,
        inbox: queue.Queue[Fact],
        publications: Iterable[Publication],
        fencing_token: int,
    ) -> None:
        self._ports = ports
        self._policy = policy
        self._inbox = inbox
        self._fencing_token = fencing_token
        self._delivery = Delivery(ports.store, fencing_token, ports.clock, ports.rng)
        self.notes = Notes(ports.clock, self._delivery)
        self._roster = Roster(ports, self._delivery, self.notes, policy.history_bars)
        self._hearing = Hearing(
            ports,
            self._delivery,
            self.notes,
            self._roster,
            Watch(self.notes, policy.audit_minutes),
            settle_ms=policy.settle_ms,
            require_realtime=policy.require_realtime,
        )
        self._histories = Histories(
            ports,
            self._delivery,
            self.notes,
            Budget(policy.history_requests_per_hour_max),
            policy.settle_ms,
            bars_max=lambda: self._roster.limits.bars if self._roster.limits else None,
        )
        self._searches = Searches(ports.searcher, self._delivery, self.notes)
        self._dialogue = self._new_dialogue()
        self._barriers = Barriers(policy.settle_ms)
        self._renew_at_ms = 0
        self._bus_watch = BusWatch(self._delivery, self.notes)
        for publication in publications:
            self._roster.add(publication)
        self.status = self._new_status()

    def _new_dialogue(self) -> Dialogue:
        pace = Pace(self._ports.clock.monotonic_ms())
        policy = self._policy
        return Dialogue(
            self._ports,
            self.notes,
            self._delivery,
            self._roster,
            self._hearing,
            histories=self._histories,
            links=Links(
                self._ports, pace, policy.series_per_connection_max, policy.connections_max
            ),
            pace=pace,
            fencing_token=self._fencing_token,
        )

    @property
    def commanded(self) -> list[Series]:
        """What is published by command, as far as this engine got."""
        publications = self._roster.publications.values()
        return [p.series for p in publications if p.wanted_by == "command"]

    def run(self, stop: threading.Event) -> None:
        """Publish until told to stop.

        Raises Fenced where another publisher took over, and SignInError where only a
        person can help; what waits is carried to the bus before.
        """
        self.notes.tell("publisher.started", series=len(self._roster.publications))
        try:
            while not stop.is_set():
                self.turn()
            self._stop()
        except SignInError:
            self._stop()
            raise
        finally:
            self._dialogue.links.close()

    def turn(self) -> None:
        """Take what came, let time do its part, carry on. Raises Fenced, SignInError."""
        # Read before the inbox is emptied: what had arrived by then is in it.
        drained_ms = self._dialogue.links.drained_ms()
        self._take_facts()
        now_ms = self._ports.clock.monotonic_ms()
        self._keep_lease(now_ms)
        self._dialogue.keep(now_ms)
        if self._inbox.empty():
            self._dialogue.expire(now_ms, drained_ms)
        self._dialogue.speak(now_ms)
        self._roster.look_again(now_ms)
        self._searches.expire(now_ms)
        self._flush(now_ms)
        self.status = self._new_status()

    def _take_facts(self) -> None:
        try:
            fact = self._inbox.get(timeout=self._wait_ms() / 1000)
            for _ in range(TURN_FACTS_MAX):
                self._take(fact)
                fact = self._inbox.get_nowait()
            self._take(fact)
        except queue.Empty:
            return

    def _wait_ms(self) -> int:
        """How long this turn may sleep: hardly, while something waits and the bus takes it."""
        waits = self._delivery.busy or any(p.outbox for p in self._roster.publications.values())
        waits = waits or self._histories.handing_over
        return 1 if waits and self._delivery.trouble is None else TURN_MS_MAX

    def _take(self, fact: Fact) -> None:
        match fact:
            case Commanded():
                self._obey(fact.command)
                self._delivery.note_commands_read(fact.entry_id)
            case CommandRefused():
                self._refuse_command(fact)
            case SearchEnded():
                self._searches.hear(fact, self._ports.clock.monotonic_ms())
            case _:
                self._dialogue.take(fact)

    def _obey(self, command: Command) -> None:
        now_ms = self._ports.clock.monotonic_ms()
        match command.action:
            case "history":
                self._histories.accept(command, now_ms)
            case "search":
                self._searches.accept(command, now_ms)
            case _:
                self._roster.obey(command)

    def _refuse_command(self, fact: CommandRefused) -> None:
        self.notes.tell("command.refused", level="warning", reason=fact.reason)
        if fact.request is not None:
            answer = Answer("", accepted=False, message=fact.reason, code="invalid")
            self._delivery.answer(fact.request, answer)
        self._delivery.note_commands_read(fact.entry_id)

    def _keep_lease(self, now_ms: int) -> None:
        if now_ms < self._renew_at_ms:
            return
        try:
            if not self._ports.lease.renew(self._fencing_token):
                raise Fenced("the lease is not this publisher's any more")
        except StoreError as error:
            if not error.retryable:
                raise
            self._delivery.note_trouble(error)
        self._renew_at_ms = self._ports.clock.monotonic_ms() + RENEW_MS

    def _flush(self, now_ms: int) -> None:
        flushed = self._delivery.flush(self._roster.publications)
        self.notes.count("bar.appended", flushed.appended)
        self._tell_completed(flushed.live, now_ms)
        failed = {publication.series: (publication, error) for publication, error in flushed.failed}
        for publication, error in failed.values():
            if isinstance(error, StoreRefused):
                self._roster.refuse(publication, error, now_ms)
            else:
                self._roster.read_again(publication, str(error), now_ms)
        self._roster.shed(now_ms)
        if self._bus_watch.tell():
            self._roster.doubt_all()

    def _tell_completed(self, bars: Iterable[Bar], now_ms: int) -> None:
        """Tell of each interval whose series have all published their bar."""
        for bar in bars:
            end_ms = bar.end_time_ms or bar.open_time_ms + bar.series.interval_ms
            self._barriers.note(bar.series, end_ms)
        clock = self._dialogue.links.clock
        server_ms = clock.server_now_ms(now_ms) if clock is not None else None
        if not self._barriers.standing or server_ms is None:
            return
        for completed in self._barriers.check(self._roster.members(), server_ms):
            self.notes.tell(
                "interval.completed",
                interval=completed.interval,
                end_time_ms=completed.end_time_ms,
                published=completed.published,
                missing=completed.missing,
                missing_count=completed.missing_count,
            )

    def _stop(self) -> None:
        """Carry what waits to the bus, and let others have the lease."""
        publications = self._roster.publications
        self.notes.tell("publisher.stopped")
        self._histories.stop()
        self._searches.stop()
        deadline_ms = self._ports.clock.monotonic_ms() + STOP_FLUSH_MS_MAX
        while (now_ms := self._ports.clock.monotonic_ms()) < deadline_ms:
            self._flush(now_ms)
            waits = self._delivery.busy or any(p.outbox for p in publications.values())
            if self._delivery.trouble is not None or not waits:
                break
        waiting = sum(len(p.outbox) for p in publications.values())
        if waiting:
            self.notes.tell("bar.left", level="warning", bars=waiting)
        if self._delivery.trouble is not None:
            return  # to ask a bus that does not answer would only delay the end
        try:
            self._ports.lease.release(self._fencing_token)
        except StoreError as error:
            self.notes.debug("lease.kept", reason=error)

    def _new_status(self) -> Status:
        publications = self._roster.publications.values()
        return Status(
            turned_ms=self._ports.clock.monotonic_ms(),
            connected=bool(self._dialogue.links.open),
            signed_in=token.way if (token := self._dialogue.keeper.token) else "",
            signin_trouble=self._dialogue.keeper.trouble,
            store_trouble=self._bus_watch.troubles,
            series=len(publications),
            live=sum(p.state == "live" for p in publications),
            waiting_bars=sum(len(p.outbox) for p in publications),
            counts=dict(self.notes.counts),
        )
