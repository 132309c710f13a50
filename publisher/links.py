"""The connections to TradingView, as many as the series need, each with its session.

A connection carries a number of chart sessions; where more series are wanted, more
connections are made, within what the settings and the plan allow. Each is lost and made
again by itself: the series of one know nothing of another's trouble.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from publisher.core.backoff import Backoff
from publisher.core.pacing import Pace
from publisher.core.session import Session
from publisher.core.tokens import Token
from publisher.ports import Ports

RECONNECT_BASE_MS: Final = 500
RECONNECT_MS_MAX: Final = 60_000
CONNECTING_MS_MAX: Final = 60_000
"""How long a connection attempt may say nothing before another is made."""
BURST_MS: Final = 500
"""What the network held up comes in a burst; after a pause this long all of it is there."""
RECEPTIONS_MAX: Final = 1_000
"""How many receptions are remembered that may be a part of a burst."""


@dataclass(slots=True, eq=False)
class Link:
    """One place for a connection; all times monotonic, ms."""

    number: int = 0
    """The connection that is made or stands now; what an earlier one says concerns nobody."""
    session: Session | None = None
    """None until it stands."""
    connect_at_ms: int = 0
    bars_ms: int = 0
    """When it last brought bars."""
    overdue: int = 0
    """How many requests in a row found no answer."""
    room_max: int = 0
    """How many chart sessions it may carry; fewer where TradingView said no."""
    backoff: Backoff = field(default_factory=lambda: Backoff(RECONNECT_BASE_MS, RECONNECT_MS_MAX))
    _heard_ms: int = 0
    _receptions: deque[int] = field(default_factory=lambda: deque(maxlen=RECEPTIONS_MAX))

    def begin(self, session: Session, now_ms: int) -> None:
        """A connection stands: speak on it."""
        self.session = session
        self.overdue = 0
        self._heard_ms = now_ms
        self._receptions.clear()

    def heard_ms(self, received_ms: int, drained_ms: int) -> int:
        """Return as of when all that TradingView had said is known.

        Something that comes now may have been sent long ago, with more behind it that is
        still on its way. So a reception counts only once everything was read that
        arrived shortly after it.
        """
        if not self._receptions or self._receptions[-1] < received_ms:
            self._receptions.append(received_ms)
        while self._receptions and self._receptions[0] + BURST_MS <= drained_ms:
            self._heard_ms = self._receptions.popleft()
        return self._heard_ms

    @property
    def room(self) -> int:
        """How many more chart sessions it may carry."""
        return 0 if self.session is None else self.room_max - self.session.size


class Links:
    """All connections; the engine's thread owns them."""

    def __init__(self, ports: Ports, pace: Pace, series_max: int, connections_max: int) -> None:
        self._ports = ports
        self._pace = pace
        self._series_max = series_max
        self._connections_max = connections_max
        self._numbers = 0
        self._links: list[Link] = []

    def __iter__(self) -> Iterator[Link]:
        return iter(self._links)

    @property
    def open(self) -> list[Link]:
        """Those that stand."""
        return [link for link in self._links if link.session is not None]

    @property
    def wanted(self) -> int:
        """How many there are to be."""
        return len(self._links)

    @property
    def bars_ms(self) -> int:
        """When any of them last brought bars; 0 where none did."""
        return max((link.bars_ms for link in self._links), default=0)

    @property
    def clock(self) -> Session | None:
        """The session that knows TradingView's time, None where none does."""
        return next((link.session for link in self.open), None)

    def of(self, number: int) -> Link | None:
        """Return the place whose present connection has this number."""
        return next((link for link in self._links if link.number == number), None)

    def size(self, series: int, plan_max: int | None) -> None:
        """Make place for so many series; places stay once they are there."""
        connections = -(-series // self._series_max)
        allowed = min(self._connections_max, plan_max or self._connections_max)
        while len(self._links) < min(connections, allowed):
            self._links.append(Link(room_max=self._series_max))

    def connect(self, now_ms: int) -> None:
        """Begin to make the connections that are due, as the pace allows."""
        for link in self._links:
            if link.session is not None or now_ms < link.connect_at_ms:
                continue
            if not self._pace.take(now_ms):
                return
            self._numbers += 1
            link.number = self._numbers
            link.connect_at_ms = now_ms + CONNECTING_MS_MAX
            self._ports.transport.open(link.number)

    def begin(self, link: Link, token: Token, now_ms: int) -> None:
        """A connection stands: speak on it."""
        link.room_max = self._series_max
        link.begin(Session(token.text.get_secret_value(), now_ms, self._ports.rng), now_ms)

    def lose(self, link: Link, now_ms: int) -> int:
        """Give a connection up; return after how long, in ms, another is made."""
        self._ports.transport.close(link.number)
        link.session = None
        self._numbers += 1
        link.number = self._numbers
        delay_ms = link.backoff.next_delay_ms(self._ports.rng)
        link.connect_at_ms = now_ms + delay_ms
        return delay_ms

    def roomiest(self) -> Session | None:
        """Return the session with most room for one more series, None where none has any."""
        best = max(self.open, key=lambda link: link.room, default=None)
        return best.session if best is not None and best.room > 0 else None

    def fill_up(self, session: Session) -> None:
        """TradingView takes no more chart sessions on this connection."""
        for link in self.open:
            if link.session is session:
                link.room_max = max(1, min(link.room_max, session.size))

    def drained_ms(self) -> Mapping[int, int]:
        """Up to when everything that arrived is in the inbox, by connection."""
        return {link.number: self._ports.transport.drained_ms(link.number) for link in self.open}

    def send(self) -> None:
        """Send what the sessions have to say."""
        for link in self.open:
            assert link.session is not None
            frames = link.session.outgoing()
            if frames:
                self._ports.transport.send(link.number, frames)

    def close(self) -> None:
        """End all connections; nothing of them follows."""
        for link in self._links:
            self._ports.transport.close(link.number)
            link.session = None
