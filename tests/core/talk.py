"""A session and its other side, played from recordings or from hand-written messages."""

from __future__ import annotations

import json
import random
from typing import Any

import recordings

from publisher.core.frames import Splitter
from publisher.core.session import Event, Session
from publisher.wire import Series

START_MS = 1_000_000
BTC = Series("BTCUSDT", "BINANCE", "1m")
ETH = Series("ETHUSDT", "BINANCE", "1m")
HELLO = '{"session_id":"x","timestampMs":1700000000000}'


def frame_contents(frames: list[str]) -> list[tuple[str, list[Any]]]:
    """The names and parameters of frames that were sent."""
    bodies = [json.loads(payload) for frame in frames for payload in recordings.unframe(frame)]
    return [(body["m"], body["p"]) for body in bodies]


class Talk:
    """One connection: what is said to the session, and what it says."""

    def __init__(self, *series: Series, hello: str | None = HELLO, seed: int = 7) -> None:
        self.session = Session("secret-token", START_MS, random.Random(seed))
        self.now_ms = START_MS
        self.sent: list[tuple[str, list[Any]]] = []
        for one in series:
            self.session.subscribe(one, 300, self.now_ms)
        if hello is not None:
            self.hear(hello)

    def say(self, kind: str, series: Series, *rest: Any, **beside: Any) -> list[Event]:
        """Hear a message about a series' own chart session."""
        body = {"m": kind, "p": [self.chart(series), *rest], **beside}
        return self.hear(json.dumps(body))

    def hear(self, payload: str) -> list[Event]:
        events = self.session.receive(payload, self.now_ms)
        self.sent += frame_contents(self.session.outgoing())
        return events

    def chart(self, series: Series) -> str:
        """The chart session that was asked for a series last."""
        symbol = f"{series.exchange}:{series.symbol}"
        found = [p[0] for m, p in self.sent if m == "resolve_symbol" and f'"{symbol}"' in p[2]]
        return str(found[-1])

    def replay(self, name: str, series: Series, slot: str = "") -> list[Event]:
        """Hear a recording, its chart session and its slot replaced by the session's own."""
        payloads = recordings.payloads(name)
        if name.endswith("-wsmessages.json"):
            splitter = Splitter()
            messages = recordings.messages(name)
            payloads = [payload for message in messages for payload in splitter.feed(message)]
        events = []
        for payload in payloads:
            events += self.hear(self.adapted(payload, series, slot))
        return events

    def adapted(self, payload: str, series: Series, slot: str = "") -> str:
        """A recorded payload as TradingView would have sent it to this session."""
        if not payload.startswith("{"):
            return payload
        body = json.loads(payload)
        parameters = body.get("p")
        if not isinstance(parameters, list) or body["m"] == "protocol_error":
            return payload
        parameters[0] = self.chart(series)
        if slot:
            parameters[1]["sds_1"] = {**parameters[1].pop(slot), "t": "s1"}
        return json.dumps(body)
