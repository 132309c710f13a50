"""What is said with TradingView: connections, tokens, and who hears what comes.

The engine hands over every fact of a connection or a token, and asks each turn for
what the time alone brings. Whatever a connection suffers is said here, and what was
asked for on it is asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from publisher.core import session as heard
from publisher.core.pacing import Pace
from publisher.core.session import Session
from publisher.delivery import Delivery
from publisher.errors import (
    AccountStopped,
    ConnectionLost,
    ConnectThrottled,
    PeerSilent,
    PublisherError,
    RemoteProtocolError,
    SessionExpired,
)
from publisher.hearing import Hearing
from publisher.history import Histories
from publisher.links import Link, Links
from publisher.notes import Notes
from publisher.ports import (
    Connected,
    Disconnected,
    Ports,
    Received,
    TokenDenied,
    TokenGranted,
)
from publisher.roster import Roster
from publisher.status import session_line
from publisher.token_keeper import TokenKeeper

OVERDUE_MAX: Final = 3
"""So many requests in a row that find no answer end their connection."""
MUTES_MAX: Final = 3
"""After so many mute connections, without a bar in between, another token is asked for."""

Said = Connected | Received | Disconnected | TokenGranted | TokenDenied
"""Facts of connections and tokens."""


class Dialogue:
    """Keeps token and connections, and hears; the engine's thread owns it."""

    def __init__(
        self,
        ports: Ports,
        notes: Notes,
        delivery: Delivery,
        roster: Roster,
        hearing: Hearing,
        *,
        histories: Histories,
        links: Links,
        pace: Pace,
        fencing_token: int,
    ) -> None:
        self._ports = ports
        self._notes = notes
        self._delivery = delivery
        self._roster = roster
        self._hearing = hearing
        self._histories = histories
        self._pace = pace
        self._fencing_token = fencing_token
        self._mutes = 0
        self._lost = ""
        self.links = links
        self.keeper = TokenKeeper(ports, notes)
        self._put_session()

    def take(self, fact: Said) -> None:
        """Take a fact. Raises SignInError where only a person can help."""
        match fact:
            case TokenGranted():
                self._let_in(fact)
            case TokenDenied():
                self.keeper.take_denial(fact.error, self._ports.clock.monotonic_ms())
                self._put_session()
            case _:
                link = self.links.of(fact.connection)
                if link is not None:
                    self._take_of(link, fact)

    def keep(self, now_ms: int) -> None:
        """Ask for a token, and make the connections that are due. Raises SignInError."""
        self.keeper.keep(self.links.clock, now_ms, self.links.bars_ms)
        self._keep_connections(now_ms)

    def expire(self, now_ms: int, drained_ms: Mapping[int, int]) -> None:
        """Do what follows from the time alone; all that had arrived was taken before."""
        for link in self.links.open:
            self._expire(link, now_ms, drained_ms.get(link.number, 0))

    def speak(self, now_ms: int) -> None:
        """Ask for what is due, and send it."""
        self._histories.turn(self.links.roomiest(), now_ms)
        self._roster.start(self.links, self._pace, now_ms)
        self.links.send()

    def _take_of(self, link: Link, fact: Connected | Received | Disconnected) -> None:
        match fact:
            case Connected():
                self._open_session(link)
            case Received():
                self._receive(link, fact)
            case Disconnected():
                self._lose(link, fact.error)

    def _let_in(self, fact: TokenGranted) -> None:
        """Speak with another token from now on."""
        before, clock = self.keeper.token, self.links.clock
        had_ended = self.keeper.ended(clock, fact.monotonic_ms)
        self.keeper.take(fact, clock)
        self._roster.limits = fact.token.limits
        self._put_session()
        if before == fact.token:
            return
        changed = before is not None and before.anonymous != fact.token.anonymous
        for link in self.links.open:
            if had_ended or changed:
                # What was not said since the old one's end, or not to somebody anonymous,
                # nobody knows.
                self._lose(link, ConnectionLost("the token had ended before another was granted"))
            elif link.session is not None:
                link.session.renew(fact.token.text.get_secret_value())

    def _open_session(self, link: Link) -> None:
        token = self.keeper.token
        if token is None:
            self._lose(link, ConnectionLost("the token was rejected meanwhile"))
            return
        self.links.begin(link, token, self._ports.clock.monotonic_ms())

    def _put_session(self) -> None:
        token = self.keeper.token
        connected = bool(self.links.open)
        trouble = self.keeper.trouble or ("" if connected else self._lost)
        self._delivery.put_session(
            session_line(self._fencing_token, token, connected=connected, trouble=trouble)
        )

    def _receive(self, link: Link, fact: Received) -> None:
        for payload in fact.payloads:
            if link.session is None:
                return
            self._notes.count("payload.received")
            try:
                events = link.session.receive(payload, fact.monotonic_ms)
            except RemoteProtocolError as error:
                self._lose(link, error)
                return
            self._hear(link, events, fact.wall_ms, fact.monotonic_ms)

    def _hear(self, link: Link, events: list[heard.Event], wall_ms: int, monotonic_ms: int) -> None:
        for event in events:
            if link.session is None:
                return
            match event:
                case heard.Opened():
                    token = self.keeper.token
                    anonymous = token is not None and token.anonymous
                    self._notes.tell("session.opened", anonymous=anonymous)
                    self._put_session()
                case heard.Ended():
                    self._lose(link, event.error)
                case heard.Noted():
                    self._notes.count(f"message.{event.kind}")
                    self._notes.debug(f"message.{event.kind}", reason=event.reason)
                case _:
                    self._hear_series(link, link.session, event, wall_ms, monotonic_ms)

    def _hear_series(
        self,
        link: Link,
        session: Session,
        event: heard.SeriesEvent,
        wall_ms: int,
        monotonic_ms: int,
    ) -> None:
        match event:
            case heard.BarsArrived():
                # Not on connect: a peer that accepts and drops is not well.
                link.backoff.reset()
                link.bars_ms = monotonic_ms
                link.overdue = self._mutes = 0
            case heard.Interrupted(overdue=True):
                link.overdue += 1
            case heard.Interrupted(limit="rate"):
                self._slow_down(event.reason)
            case heard.Interrupted(limit="size"):
                self.links.fill_up(session)
        hearer = self._histories if event.request else self._hearing
        hearer.hear(event, session, wall_ms, monotonic_ms)
        if link.overdue >= OVERDUE_MAX:
            reason = f"{OVERDUE_MAX} requests one after the other were not answered"
            self._lose(link, PeerSilent(reason))

    def _slow_down(self, reason: str) -> None:
        """TradingView is asked too fast."""
        rest_ms = self._pace.throttled(self._ports.clock.monotonic_ms())
        self._notes.tell(
            "pace.slowed",
            level="warning",
            reason=reason,
            per_second=self._pace.rate,
            rest_ms=rest_ms,
        )

    def _expire(self, link: Link, now_ms: int, drained_ms: int) -> None:
        session = link.session
        if session is None:
            return
        # What has arrived and was not read yet is no silence: this process was stalled.
        events = session.expire(min(now_ms, drained_ms))
        self._hear(link, events, self._ports.clock.wall_ms(), now_ms)
        # The clock that closes bars is TradingView's as of the last thing heard from
        # it with nothing behind it: neither a stalled reader nor a line closes anything.
        heard_ms = link.heard_ms(session.received_ms, drained_ms)
        if link.session is session:
            self._hearing.expire(session, now_ms, heard_ms)
            if self._hearing.listen(session, now_ms, heard_ms):
                self._lose(link, PeerSilent("heartbeats come, but no data of any series"))

    def _keep_connections(self, now_ms: int) -> None:
        series = max(len(self._roster.publications), int(self._histories.wanting))
        limits = self._roster.limits
        self.links.size(series, limits.connections if limits is not None else None)
        if series and self.keeper.usable(now_ms):
            self.links.connect(now_ms)

    def _lose(self, link: Link, error: PublisherError) -> None:
        session, now_ms = link.session, self._ports.clock.monotonic_ms()
        delay_ms = self.links.lose(link, now_ms)
        self._lost = str(error)
        self._notes.tell("session.lost", level="warning", reason=error, retry_in_ms=delay_ms)
        if session is not None:
            self._roster.interrupt(session, now_ms)
            self._histories.interrupt(session, str(error))
        if isinstance(error, PeerSilent) and session is not None:
            self._doubt_token()
        if isinstance(error, ConnectThrottled):
            self._slow_down(str(error))
        if isinstance(error, AccountStopped):
            raise error
        if isinstance(error, SessionExpired):
            self.keeper.reject(link.bars_ms)
        self._put_session()

    def _doubt_token(self) -> None:
        """Connections stay mute: perhaps the token is the reason."""
        self._mutes += 1
        if self._mutes >= MUTES_MAX:
            self._mutes = 0
            self.keeper.reject(self.links.bars_ms)
