"""TradingView's end of one connection: the shipped stand-in's own protocol, and damage.

The stand-in is pure, so a connection is a `Protocol` that is polled when it has
something to say. What it says reaches the publisher in order, later by a latency.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from typing import Protocol as Shape

import orjson

from publisher.errors import ConnectionLost, PublisherError
from publisher.simulator.damage import encode
from publisher.simulator.framing import frame, unframe
from publisher.simulator.plan import Message
from publisher.simulator.protocol import Expired, Protocol
from publisher.simulator.requests import RESOLUTIONS
from publisher.wire import Series
from tests.simulation.truth import market

if TYPE_CHECKING:
    from tests.simulation.tradingview import TradingView

BEAT_MS: Final = 8_000
ECHO_MS_MAX: Final = 20_000
"""A client that does not send a heartbeat back within this is dropped."""
GATHER_MS: Final = 10
"""A burst of requests is answered in one go."""

LASTING: Final = frozenset({"silence", "mute", "lossy", "late"})
STAMPED: Final = frozenset(
    {"series_loading", "symbol_resolved", "timescale_update", "series_completed",
     "symbol_error", "series_error"}
)  # fmt: skip
_NAN: Final = "not-a-number"
_BAD: Final = ([_NAN] * 4, [1e100] * 4, [5.0, 1.0, 9.0, 5.0])
"""Prices that no bar can have: none at all, TradingView's "no value", high below low."""
_REJECTED: Final = '{"m":"set_auth_token","p":[""]}'


class Client(Shape):
    """The publisher's end."""

    def arrive(self, connection: Connection, text: str) -> None:
        """Take a message."""
        ...

    def ended(self, connection: Connection, error: PublisherError) -> None:
        """Take note that the connection ended."""
        ...


class Connection:
    """Serves one client until either side ends it."""

    def __init__(self, service: TradingView, client: Client, number: int) -> None:
        self.stands = True
        self.number = number
        self._service = service
        self._loop = service.loop
        self._client = client
        plan = service.plan
        expired: Expired = "mute" if plan.mutes_expired else "refuse"
        tokens: Any = service
        self._protocol = Protocol(market(plan.market), plan.limits, tokens, expired)
        self._arrives_ms = 0
        self._polls = 0
        self._beats = 0
        self._unechoed_ms: int | None = None
        self._token = ""
        self._symbols: dict[str, str] = {}
        self._series: dict[str, Series] = {}
        self._until_ms: dict[str, int] = {}
        self._once: Counter[str] = Counter()
        self._held: list[Message] = []

    def open(self) -> None:
        """Say hello and begin to beat."""
        now_ms = self._loop.now_ms
        self._put([{"session_id": f"0.{self.number}", "timestampMs": now_ms}])
        self._loop.after(BEAT_MS, self._beat)

    def drop(self) -> None:
        """End it without a word; the client is gone."""
        self.stands = False

    def close(self, reason: str) -> None:
        """End it; the client learns that after all that was said before."""
        if self.stands:
            self.stands = False
            error = ConnectionLost(reason)
            self._loop.at(self._arrival_ms(), lambda: self._client.ended(self, error))

    # What befalls it.

    def strike(self, kind: str, length_ms: int) -> None:
        """Suffer a fault."""
        if kind in {"close", "reset"}:
            self._service.struck(kind)
            self.close("code 1000" if kind == "close" else "connection reset by peer")
        elif kind == "token_rejected":
            self._service.struck(kind)
            self._service.revoke(self._token)
            self._protocol.receive(_REJECTED, self._loop.now_ms)
            self._plan_poll()
        elif kind in LASTING:
            self._until_ms[kind] = self._loop.now_ms + length_ms
            self._loop.after(length_ms, self._recover)
        else:
            self._once[kind] += 1

    def heal(self) -> None:
        """Suffer nothing any more."""
        self._until_ms.clear()
        self._once.clear()
        self._recover()

    def _recover(self) -> None:
        if not self.stands or any(self._lasts(kind) for kind in LASTING):
            return
        held, self._held = self._held, []
        self._put(held)

    def _lasts(self, kind: str) -> bool:
        return self._loop.now_ms < self._until_ms.get(kind, 0)

    def _strikes(self, kind: str) -> bool:
        if not self._once[kind]:
            return False
        self._once[kind] -= 1
        self._service.struck(kind)
        return True

    # What the client says.

    def receive(self, frames: Sequence[str]) -> None:
        """Take frames of the client."""
        if not self.stands:
            return
        for text in frames:
            for payload in unframe(text):
                self._take(payload)
        self._plan_poll()

    def _take(self, payload: str) -> None:
        if payload.startswith("~h~"):
            self._unechoed_ms = None
            return
        message = orjson.loads(payload)
        name, parameters = message["m"], message["p"]
        self._loop.trace.counts[f"asked {name}"] += 1
        if name == "set_auth_token":
            self._token = parameters[0]
        elif name == "resolve_symbol":
            self._symbols[parameters[0]] = orjson.loads(parameters[2][1:])["symbol"]
        elif name == "create_series":
            exchange, _, symbol = self._symbols[parameters[0]].partition(":")
            self._series[parameters[0]] = Series(symbol, exchange, RESOLUTIONS[parameters[4]])
        throttled = name == "chart_create_session" and self._strikes("session_rate")
        self._protocol.receive(payload, self._loop.now_ms, throttled=throttled)

    # What it says.

    def _plan_poll(self) -> None:
        due_ms = self._protocol.due_ms
        self._polls += 1
        serial = self._polls
        if due_ms < 1e15:
            now_ms = self._loop.now_ms
            late_ms = int(due_ms) + self._service.plan.tardy_ms
            at_ms = now_ms + GATHER_MS if due_ms == 0 else max(now_ms + 1, late_ms)
            self._loop.at(at_ms, lambda: self._poll(serial))

    def _poll(self, serial: int) -> None:
        if not self.stands or serial != self._polls:
            return
        plan, now_ms = self._service.plan, self._loop.now_ms
        lapsed = not self._protocol.closing and self._has_lapsed()
        if lapsed:
            self._service.struck("token_ended_mute" if plan.mutes_expired else "token_ended")
        # The bars of the feed are a little behind the clock of its stamps and heartbeats.
        feed_ms = now_ms - plan.tardy_ms
        self._put(self._survivors(self._protocol.poll(feed_ms, plan.update_ms)))
        if self._protocol.closing:
            self.close("code 1000")
        self._plan_poll()

    def _has_lapsed(self) -> bool:
        """Tell whether the token was good and is not any more."""
        now_ms = self._loop.now_ms
        return bool(self._token) and self._service.plan_of(self._token, now_ms) is None

    def _beat(self) -> None:
        if not self.stands:
            return
        now_ms = self._loop.now_ms
        if self._unechoed_ms is not None and now_ms - self._unechoed_ms > ECHO_MS_MAX:
            self._service.struck("unechoed")
            self.close("no heartbeat came back")
            return
        if not self._lasts("silence"):
            self._beats += 1
            self._unechoed_ms = self._unechoed_ms or now_ms
            self._send(frame(f"~h~{self._beats}"))
        self._loop.after(BEAT_MS, self._beat)

    def _survivors(self, messages: list[Message]) -> list[Message]:
        """Return what is not lost or held back, and what comes more than once or too early."""
        for kind in ("silence", "mute", "lossy"):
            if messages and self._lasts(kind):
                chance = 0.3 if kind == "lossy" else 0.0
                kept = [message for message in messages if self._service.rng.random() < chance]
                if len(kept) < len(messages):
                    self._service.struck(kind)
                messages = kept
        if messages and self._lasts("late"):
            self._service.struck("late")
            self._held += messages
            return []
        if messages and self._strikes("repeat"):
            messages = [*messages, *messages]
        # Answers keep their order; updates of bars may overtake each other.
        pairs = [
            i for i in range(1, len(messages)) if messages[i]["m"] == messages[i - 1]["m"] == "du"
        ]
        if pairs and self._strikes("reorder"):
            place = self._service.rng.choice(pairs)
            messages[place], messages[place - 1] = messages[place - 1], messages[place]
        return messages

    def _put(self, messages: list[Message]) -> None:
        rng = self._service.rng
        place = 0
        while place < len(messages):
            group = messages[place : place + rng.randrange(1, 6)]
            place += len(group)
            self._send("".join(self._frames(group)))

    def _frames(self, messages: list[Message]) -> Iterator[str]:
        for message in messages:
            if message.get("m") == "du" and self._strikes("bad_values"):
                yield encode(self._with_bad_values(message))
                if self._service.rng.random() < 0.5:
                    continue  # the right ones never come
            if "m" in message and self._strikes("malformed"):
                yield encode({"m": message["m"], "p": message["p"][:1]})
            if self._strikes("bad_payload"):
                yield frame('{"m":"du","p":[')
            self._note_sent(message)
            yield encode(self._stamped(message))

    def _stamped(self, message: Message) -> Message:
        if message.get("m") not in STAMPED:
            return message
        now_ms = self._loop.now_ms
        return {**message, "t": now_ms // 1000, "t_ms": now_ms}

    def _with_bad_values(self, message: Message) -> Message:
        bad = copy.deepcopy(message)
        for values in _values(bad):
            values[1:5] = self._service.rng.choice(_BAD)
        return bad

    def _note_sent(self, message: Message) -> None:
        series = self._series.get(message["p"][0]) if message.get("p") else None
        if series is not None:
            for values in _values(message):
                self._service.truths[series].note_sent(values, self._loop.now_ms)

    def _send(self, text: str) -> None:
        if not text:
            return
        if self._strikes("bad_frame"):
            text = text.replace("~m~", "~x~", 1)
        self._loop.at(self._arrival_ms(), lambda: self._client.arrive(self, text))

    def _arrival_ms(self) -> int:
        self._arrives_ms = max(self._arrives_ms, self._loop.now_ms + self._service.latency_ms())
        return self._arrives_ms


def _values(message: Message) -> Iterator[list[Any]]:
    """Yield the values of every bar in a message."""
    if message["m"] in {"timescale_update", "du"}:
        for slot in message["p"][1].values():
            for bar in slot.get("s", ()):
                yield bar["v"]
