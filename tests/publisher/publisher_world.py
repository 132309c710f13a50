"""A publisher's engine with everything around it made by hand, for its tests."""

from __future__ import annotations

import base64
import json
import queue
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from publisher.core.decisions import Recent, StreamEnd
from publisher.core.points import Point
from publisher.core.search import Query
from publisher.core.tokens import ANONYMOUS, Token, Way, read_claims
from publisher.engine import Engine, Policy
from publisher.errors import (
    AppendUnknown,
    Fenced,
    PublisherError,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    StreamDiverged,
)
from publisher.ports import (
    Appended,
    Batch,
    Commanded,
    Connected,
    Disconnected,
    Fact,
    Ports,
    Received,
    TokenDenied,
    TokenGranted,
)
from publisher.publication import Publication
from publisher.wire import Bar, Series, Summary
from publisher.wire.answers import Answer
from publisher.wire.commands import Command

MINUTE_MS = 60_000
NOW_MS = 1_700_000_040_000
"""A whole minute; the world begins here."""

BTC = Series("BTCUSDT", "BINANCE", "1m")
ETH = Series("ETHUSDT", "BINANCE", "1m")


def series_number(number: int) -> Series:
    """One of many series."""
    return Series(f"S{number:03}", "BINANCE", "1m")


class FakeClock:
    """Stands still unless told to go on."""

    def __init__(self) -> None:
        self.wall = NOW_MS
        self.monotonic = 1_000_000

    def wall_ms(self) -> int:
        return self.wall

    def monotonic_ms(self) -> int:
        return self.monotonic


class FakeTransport:
    """Records what it is asked to do."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.opened: list[int] = []
        self.closed = 0
        self.sent: list[dict[str, Any]] = []
        self.sent_on: dict[int, list[dict[str, Any]]] = {}
        """The same by connection."""
        self.stalled_ms: int | None = None
        """Up to when the inbox is complete, where that is not now."""

    def drained_ms(self, connection: int) -> int:
        return self._clock.monotonic if self.stalled_ms is None else self.stalled_ms

    def open(self, connection: int) -> None:
        self.opened.append(connection)

    def send(self, connection: int, frames: Sequence[str]) -> None:
        messages = [json.loads(frame.split("~m~", 2)[2]) for frame in frames]
        self.sent += messages
        self.sent_on.setdefault(connection, []).extend(messages)

    def close(self, connection: int) -> None:
        self.closed += 1


class FakeTokens:
    """Records what it is asked for; the test answers."""

    def __init__(self) -> None:
        self.asked: list[Token | None] = []
        """What was rejected, each time a token was asked for."""
        self.person = False
        """Whether somebody has signed in meanwhile."""

    def ask(self, rejected: Token | None = None) -> None:
        self.asked.append(rejected)
        self.person = False

    def changed(self) -> bool:
        return self.person


class FakeSearcher:
    """Records what it is asked for; the test answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Query]] = []

    def search(self, request: str, query: Query) -> None:
        self.asked.append((request, query))


class FakeLease:
    """Held until somebody takes it."""

    def __init__(self) -> None:
        self.held = True
        self.error: StoreError | None = None
        self.renewed = 0
        self.released = 0

    def acquire(self) -> int | None:
        return 1

    def renew(self, token: int) -> bool:
        if self.error is not None:
            raise self.error
        self.renewed += 1
        return self.held

    def release(self, token: int) -> None:
        if self.error is not None:
            raise self.error
        self.released += 1


@dataclass
class MemoryStore:
    """A bus in memory that keeps the contract of the scripts, and fails on command."""

    bars: dict[Series, dict[int, Bar]] = field(default_factory=dict)
    forming: list[Bar] = field(default_factory=list)
    corrections: list[tuple[int, Bar]] = field(default_factory=list)
    hashes: dict[Series, dict[str, str]] = field(default_factory=dict)
    lines: dict[Series, Summary] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    answers: list[tuple[str, Answer]] = field(default_factory=list)
    commands_read: str | None = None
    session: dict[str, Any] = field(default_factory=dict)
    """As whom TradingView is read, as put last."""
    order: list[tuple[str, Series, int]] = field(default_factory=list)
    """Every bar and correction written, in order."""
    appends: list[list[Batch]] = field(default_factory=list)
    fenced: bool = False
    down: StoreError | None = None
    """What every call raises."""
    failing: dict[str, StoreError] = field(default_factory=dict)
    """What a call of one name raises."""
    refused: dict[Series, StoreError] = field(default_factory=dict)
    """What appending to one series ends in."""
    replies_lost: int = 0
    """How many appends will be done without telling."""

    def _enter(self, name: str) -> None:
        if self.down is not None:
            raise self.down
        if name in self.failing:
            raise self.failing[name]

    def stream_end(self, series: Series) -> StreamEnd:
        self._enter("stream_end")
        if series in self.refused and isinstance(self.refused[series], StoreRefused):
            raise self.refused[series]
        stream = self.bars.get(series, {})
        if not stream:
            return StreamEnd()
        recent = {t: Recent(_point(bar)) for t, bar in sorted(stream.items())[-64:]}
        changed = [(entry_ms, bar) for entry_ms, bar in self.corrections if bar.series == series]
        for _, bar in changed:
            if bar.open_time_ms >= min(recent):
                recent[bar.open_time_ms] = Recent(_point(bar), bar.revision)
        return StreamEnd(max(stream), recent, max((entry[0] for entry in changed), default=0))

    def append(self, token: int, batches: Sequence[Batch]) -> list[Appended | StoreError]:
        self._enter("append")
        self.appends.append(list(batches))
        outcomes = [self._append(batch) for batch in batches]
        if self.replies_lost:
            self.replies_lost -= 1
            raise AppendUnknown("the reply was lost")
        return outcomes

    def _append(self, batch: Batch) -> Appended | StoreError:
        if self.fenced:
            return Fenced("another publisher")
        if batch.series in self.refused:
            return self.refused[batch.series]
        stream = self.bars.setdefault(batch.series, {})
        new = present = 0
        for bar in batch.bars:
            last = max(stream, default=None)
            if stream.get(bar.open_time_ms) == bar:
                present += 1
            elif bar.previous_open_time_ms != last:
                return StreamDiverged("not as left")
            else:
                assert last is None or bar.open_time_ms > last
                stream[bar.open_time_ms] = bar
                self.order.append(("bar", batch.series, bar.open_time_ms))
                new += 1
        return Appended(new, present)

    def put_forming(self, token: int, bars: Sequence[Bar]) -> list[StoreError | None]:
        self._enter("put_forming")
        self.forming += bars
        return [None] * len(bars)

    def put_correction(self, token: int, bar: Bar, entry_ms: int) -> None:
        self._enter("put_correction")
        self.corrections.append((entry_ms, bar))
        self.order.append(("correction", bar.series, bar.open_time_ms))

    def describe(self, token: int, series: Series, fields: dict[str, str]) -> None:
        self._enter("describe")
        self.hashes.setdefault(series, {}).update(fields)

    def catalogue(self) -> list[Summary]:
        self._enter("catalogue")
        return list(self.lines.values())

    def list_series(self, summaries: Sequence[Summary]) -> None:
        self._enter("list_series")
        self.lines.update({summary.series: summary for summary in summaries})

    def emit(self, events: Sequence[bytes]) -> None:
        self._enter("emit")
        self.events += [json.loads(event) for event in events]

    def answer(self, request: str, answers: Sequence[Answer]) -> None:
        self._enter("answer")
        self.answers += [(request, answer) for answer in answers]

    def put_session(self, session: bytes) -> None:
        self._enter("put_session")
        self.session = json.loads(session)

    def note_commands_read(self, entry_id: str) -> None:
        self._enter("note_commands_read")
        self.commands_read = entry_id

    def times(self, series: Series) -> list[int]:
        """Open times in the stream, as minutes from the beginning of the world."""
        return [(t - NOW_MS) // MINUTE_MS for t in sorted(self.bars.get(series, {}))]

    def told(self, event: str) -> list[dict[str, Any]]:
        """The events of a name."""
        return [fact for fact in self.events if fact["event"] == event]


def _point(bar: Bar) -> Point:
    return Point(bar.open_time_ms, bar.open, bar.high, bar.low, bar.close, bar.volume)


def values(minute: int, base: float = 100.0) -> list[float]:
    """A bar that opens so many minutes after the world began."""
    time_s = (NOW_MS + minute * MINUTE_MS) / 1000
    return [time_s, base, base + 2, base - 2, base + 1, 5.0]


def web_token(way: Way = "cookies", *, name: str = "one", **claims: Any) -> Token:
    """A token that lives for four hours from the beginning of the world, unless told otherwise."""
    begin_s = NOW_MS // 1000
    claims = {"iat": begin_s, "exp": begin_s + 14_400, "plan": "pro_premium", **claims}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    text = f"eyJhbGciOiJSUzUxMiJ9.{body}.{name}"
    return Token(SecretStr(text), way, read_claims(text), server_ms=NOW_MS)


class World:
    """An engine, and TradingView's part played by the test."""

    def __init__(
        self,
        *series: Series,
        history_bars: int = 3,
        settle_ms: int = 2_000,
        store: MemoryStore | None = None,
        token: Token | None = ANONYMOUS,
        require_realtime: bool = False,
        series_per_connection_max: int = 190,
        connections_max: int = 6,
        audit_minutes: int = 0,
    ) -> None:
        self.clock = FakeClock()
        self.transport = FakeTransport(self.clock)
        self.store = MemoryStore() if store is None else store
        self.lease = FakeLease()
        self.inbox: queue.Queue[Fact] = queue.Queue(10_000)
        self.tokens = FakeTokens()
        self.searcher = FakeSearcher()
        ports = Ports(
            self.clock,
            self.tokens,
            self.transport,
            self.store,
            self.lease,
            self.searcher,
            random.Random(1),
        )
        policy = Policy(
            history_bars,
            settle_ms,
            require_realtime,
            series_per_connection_max=series_per_connection_max,
            connections_max=connections_max,
            audit_minutes=audit_minutes,
        )
        if token is not None:
            self.grant(token)
        publications = [Publication(one, "settings") for one in series]
        self.engine = Engine(ports, policy, self.inbox, publications, 7)
        self._taken = 0

    # The way to a token.

    def grant(self, token: Token) -> None:
        """Let the publisher in with a token."""
        self.inbox.put(TokenGranted(token, self.clock.monotonic))

    def deny(self, error: PublisherError) -> None:
        """Let no token be had."""
        self.inbox.put(TokenDenied(error))

    # Time and turns.

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.engine.turn()

    def pass_ms(self, ms: int, *, heartbeat: bool = True, step_ms: int = 1_000) -> None:
        """Let time pass, in turns; TradingView's heartbeats come unless told otherwise."""
        while ms > 0:
            step = min(ms, step_ms)
            self.clock.wall += step
            self.clock.monotonic += step
            ms -= step
            if heartbeat:
                self.hear("~h~1")
            self.turn()

    # TradingView's part.

    def connect(self) -> None:
        """Accept the connection and say hello."""
        self.turn()
        self.inbox.put(Connected(self.transport.opened[-1]))
        self.hear(json.dumps({"session_id": "x", "timestampMs": self.clock.wall}))
        self.turn(3)

    def hear(self, *payloads: str, connection: int | None = None) -> None:
        number = self.transport.opened[-1] if connection is None else connection
        self.inbox.put(Received(number, payloads, self.clock.wall, self.clock.monotonic))

    def say(self, name: str, *parameters: Any, stamped: bool = False) -> None:
        message: dict[str, Any] = {"m": name, "p": list(parameters)}
        if stamped:
            message["t_ms"] = self.clock.wall
        self.hear(json.dumps(message))

    def disconnect(self, error: PublisherError) -> None:
        self.inbox.put(Disconnected(self.transport.opened[-1], error))
        self.turn()

    def requests(self) -> list[tuple[Series, str, int]]:
        """Every series asked for so far: series, chart session, bars."""
        asked = []
        symbols: dict[str, Series] = {}
        for message in self.transport.sent:
            session = message["p"][0]
            if message["m"] == "resolve_symbol":
                name = json.loads(message["p"][2][1:])["symbol"]
                exchange, _, symbol = name.partition(":")
                symbols[session] = Series(symbol, exchange, "1m")
            elif message["m"] == "create_series":
                asked.append((symbols[session], session, message["p"][5]))
        return asked

    def asked(self) -> list[Series]:
        return [request[0] for request in self.requests()]

    def session_of(self, series: Series) -> str:
        """The newest chart session of a series."""
        return [session for asked, session, _ in self.requests() if asked == series][-1]

    def resolve(self, series: Series, **info: Any) -> None:
        name = f"{series.exchange}:{series.symbol}"
        about = {"pro_name": name, "full_name": name, **info}
        self.say("symbol_resolved", self.session_of(series), "sds_sym_1", about, stamped=True)

    def fill(
        self,
        series: Series,
        *bars: list[float],
        end: int | None = None,
        turn: bool = True,
        exhausted: str | None = "end",
        mode: str = "streaming",
    ) -> None:
        """Answer a request for history; `end` is the last bar's end in minutes."""
        self.resolve(series)
        self.update(series, *bars, end=end, kind="timescale_update")
        flags = {} if exhausted is None else {"data_completed": exhausted}
        self.say(
            "series_completed",
            self.session_of(series),
            "sds_1",
            mode,
            "s1",
            flags,
            stamped=True,
        )
        if turn:
            self.turn(2)

    def update(
        self, series: Series, *bars: list[float], end: int | None = None, kind: str = "du"
    ) -> None:
        """Send bars; `end` is the last one's end in minutes."""
        slot: dict[str, Any] = {"s": [{"i": i, "v": bar} for i, bar in enumerate(bars)], "t": "s1"}
        if end is not None:
            slot["lbs"] = {"bar_close_time": (NOW_MS + end * MINUTE_MS) / 1000}
        self.say(kind, self.session_of(series), {"sds_1": slot}, stamped=kind != "du")

    def go_live(self, *series: Series) -> None:
        """Connect, with bars 1 and 2 minutes ago closed and one forming, for each series."""
        self.connect()
        for _ in range(len(series)):
            for one in set(self.asked()) & set(series):
                if not self.store.bars.get(one):
                    self.fill(one, values(-2), values(-1), values(0), end=1)
            self.turn()

    def command(
        self, action: Any, *texts: str, request: str = "r1", entry: str = "1-0", **more: Any
    ) -> None:
        self.inbox.put(Commanded(Command(request, action, texts, **more), entry))
        self.turn(2)

    def replies(self, request: str = "r1") -> list[Answer]:
        return [answer for asked, answer in self.store.answers if asked == request]

    @contextmanager
    def bus_down(self, error: StoreError | None = None) -> Iterator[None]:
        """Let the bus fail for a while, and be found again after."""
        self.store.down = self.lease.error = error or StoreUnavailable("Redis is away")
        yield
        self.store.down = self.lease.error = None
        self.pass_ms(12_000)
