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
from publisher.commands import Answer
from publisher.core import session as heard
from publisher.core.backoff import Backoff
from publisher.core.budget import REQUESTS_PER_HOUR_MAX, Budget
from publisher.core.session import Session
from publisher.delivery import Delivery
from publisher.errors import (
    AccountStopped,
    ConnectionLost,
    Fenced,
    PublisherError,
    RemoteProtocolError,
    SessionExpired,
    SignInError,
    StoreError,
    StoreRefused,
)
from publisher.hearing import Hearing
from publisher.history import Histories
from publisher.notes import Notes
from publisher.ports import (
    RENEW_MS,
    Commanded,
    CommandRefused,
    Connected,
    Disconnected,
    Fact,
    Ports,
    Received,
    TokenDenied,
    TokenGranted,
)
from publisher.publication import Publication
from publisher.roster import Roster
from publisher.status import Status, session_line
from publisher.token_keeper import TokenKeeper

INBOX_MAX: Final = 10_000
"""Messages from TradingView that may wait for the engine."""
TURN_FACTS_MAX: Final = 1_000
"""Facts taken in one turn before the bus gets its share."""
TURN_MS_MAX: Final = 200
"""Longest wait of a turn."""
RECONNECT_BASE_MS: Final = 500
RECONNECT_MS_MAX: Final = 60_000
CONNECTING_MS_MAX: Final = 60_000
"""How long a connection attempt may say nothing before another is made."""
STOP_FLUSH_MS_MAX: Final = 3_000
"""How long a clean stop may take to carry what waits to the bus."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the engine is told to do."""

    history_bars: int
    settle_ms: int
    require_realtime: bool = False
    history_requests_per_hour_max: int = REQUESTS_PER_HOUR_MAX


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
            policy.settle_ms,
            require_realtime=policy.require_realtime,
        )
        budget = Budget(policy.history_requests_per_hour_max)
        self._histories = Histories(
            ports,
            self._delivery,
            self.notes,
            budget,
            policy.settle_ms,
            bars_max=lambda: self._roster.limits.bars if self._roster.limits else None,
        )
        self._session: Session | None = None
        self._connection = 0
        self._connect_at_ms = 0
        self._reconnect = Backoff(RECONNECT_BASE_MS, RECONNECT_MS_MAX)
        self._renew_at_ms = 0
        self._bars_ms = 0
        self._keeper = TokenKeeper(ports, self.notes)
        self._bus_watch = BusWatch(self._delivery, self.notes)
        for publication in publications:
            self._roster.add(publication)
        self.status = self._new_status()

    @property
    def publications(self) -> list[Publication]:
        """What is published, as far as this engine got."""
        return list(self._roster.publications.values())

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
            self._ports.transport.close()

    def turn(self) -> None:
        """Take what came, let time do its part, carry on. Raises Fenced, SignInError."""
        # Read before the inbox is emptied: what had arrived by then is in it.
        drained_ms = self._ports.transport.drained_ms
        self._take_facts()
        now_ms = self._ports.clock.monotonic_ms()
        self._keep_lease(now_ms)
        self._keeper.keep(self._session, now_ms, self._bars_ms)
        self._keep_connection(now_ms)
        if self._session is not None and self._inbox.empty():
            self._expire(self._session, now_ms, drained_ms)
        self._histories.turn(self._session, now_ms)
        if self._session is not None:
            self._roster.start(self._session, now_ms)
            frames = self._session.outgoing()
            if frames:
                self._ports.transport.send(frames)
        self._roster.list_again(now_ms)
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
                if fact.command.action == "history":
                    self._histories.accept(fact.command, self._ports.clock.monotonic_ms())
                else:
                    self._roster.obey(fact.command, self._session)
                self._delivery.note_commands_read(fact.entry_id)
            case CommandRefused():
                self._refuse_command(fact)
            case TokenGranted():
                self._let_in(fact)
            case TokenDenied():
                self._keeper.take_denial(fact.error, self._ports.clock.monotonic_ms())
            case Connected() if fact.connection == self._connection:
                self._open_session()
            case Received() if fact.connection == self._connection:
                self._receive(fact)
            case Disconnected() if fact.connection == self._connection:
                self._lose(fact.error)

    def _let_in(self, fact: TokenGranted) -> None:
        """Speak with another token from now on."""
        before = self._keeper.token
        had_ended = self._keeper.ended(self._session, fact.monotonic_ms)
        self._keeper.take(fact, self._session)
        self._roster.limits = fact.token.limits
        self._put_session()
        if self._session is None or before == fact.token:
            return
        if had_ended or (before is not None and before.anonymous != fact.token.anonymous):
            # What was not said since the old one's end, or not to somebody anonymous,
            # nobody knows.
            self._lose(ConnectionLost("the token had ended before another was granted"))
        else:
            self._session.renew(fact.token.text.get_secret_value())

    def _open_session(self) -> None:
        token = self._keeper.token
        if token is None:
            self._lose(ConnectionLost("the token was rejected meanwhile"))
            return
        now_ms = self._ports.clock.monotonic_ms()
        self._session = Session(token.text.get_secret_value(), now_ms, self._ports.rng)

    def _put_session(self) -> None:
        token = self._keeper.token
        connected = self._session is not None
        self._delivery.put_session(session_line(self._fencing_token, token, connected=connected))

    def _refuse_command(self, fact: CommandRefused) -> None:
        self.notes.tell("command.refused", level="warning", reason=fact.reason)
        if fact.request is not None:
            answer = Answer("", accepted=False, message=fact.reason, code="invalid")
            self._delivery.answer(fact.request, answer)
        self._delivery.note_commands_read(fact.entry_id)

    def _receive(self, fact: Received) -> None:
        for payload in fact.payloads:
            session = self._session
            if session is None:
                return
            self.notes.count("payload.received")
            try:
                events = session.receive(payload, fact.monotonic_ms)
            except RemoteProtocolError as error:
                self._lose(error)
                return
            self._hear(events, session, fact.wall_ms, fact.monotonic_ms)

    def _hear(
        self, events: list[heard.Event], session: Session, wall_ms: int, monotonic_ms: int
    ) -> None:
        for event in events:
            match event:
                case heard.Opened():
                    token = self._keeper.token
                    anonymous = token is not None and token.anonymous
                    self.notes.tell("session.opened", anonymous=anonymous)
                    self._put_session()
                case heard.Ended():
                    self._lose(event.error)
                    return
                case heard.Noted():
                    self.notes.count(f"message.{event.kind}")
                    self.notes.debug(f"message.{event.kind}", reason=event.reason)
                case _:
                    if isinstance(event, heard.BarsArrived):
                        # Not on connect: a peer that accepts and drops is not well.
                        self._reconnect.reset()
                        self._bars_ms = monotonic_ms
                    hearer = self._histories if event.request else self._hearing
                    hearer.hear(event, session, wall_ms, monotonic_ms)

    def _expire(self, session: Session, now_ms: int, drained_ms: int) -> None:
        # What has arrived and was not read yet is no silence: this process was stalled.
        events = session.expire(min(now_ms, drained_ms))
        self._hear(events, session, self._ports.clock.wall_ms(), now_ms)
        # The clock that closes bars is TradingView's as of the last thing heard from
        # it, and not later than what was drained: a stalled reader closes nothing.
        if self._session is session:
            self._hearing.expire(session, now_ms, min(session.received_ms, drained_ms))

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

    def _keep_connection(self, now_ms: int) -> None:
        wanted = bool(self._roster.publications) or self._histories.wanting
        due = self._session is None and now_ms >= self._connect_at_ms
        if wanted and due and self._keeper.usable(now_ms):
            self._connection += 1
            self._connect_at_ms = now_ms + CONNECTING_MS_MAX
            self._ports.transport.open(self._connection)

    def _lose(self, error: PublisherError) -> None:
        self._ports.transport.close()
        self._session = None
        self._connection += 1  # what else the old connection says concerns nobody
        delay_ms = self._reconnect.next_delay_ms(self._ports.rng)
        now_ms = self._ports.clock.monotonic_ms()
        self._connect_at_ms = now_ms + delay_ms
        self.notes.tell("session.lost", level="warning", reason=error, retry_in_ms=delay_ms)
        self._roster.interrupt_all(now_ms)
        self._histories.interrupt(str(error))
        if isinstance(error, AccountStopped):
            raise error
        if isinstance(error, SessionExpired):
            self._keeper.reject(self._bars_ms)
        self._put_session()

    def _flush(self, now_ms: int) -> None:
        flushed = self._delivery.flush(self._roster.publications)
        self.notes.count("bar.appended", flushed.appended)
        failed = {publication.series: (publication, error) for publication, error in flushed.failed}
        for publication, error in failed.values():
            if isinstance(error, StoreRefused):
                self._roster.refuse(publication, error, self._session, now_ms)
            else:
                self._roster.read_again(publication, str(error), self._session, now_ms)
        self._roster.shed(self._session, now_ms)
        if self._bus_watch.tell():
            self._roster.doubt_all()

    def _stop(self) -> None:
        """Carry what waits to the bus, and let others have the lease."""
        publications = self._roster.publications
        self.notes.tell("publisher.stopped")
        self._histories.stop(self._session)
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
            connected=self._session is not None,
            signed_in=self._keeper.token.way if self._keeper.token else "",
            signin_trouble=self._keeper.trouble,
            store_trouble=self._bus_watch.troubles,
            series=len(publications),
            live=sum(p.state == "live" for p in publications),
            waiting_bars=sum(len(p.outbox) for p in publications),
            counts=dict(self.notes.counts),
        )
