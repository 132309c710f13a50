"""A client of the simulator and the recorded messages, for the tests of this folder."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket

from publisher.simulator import Simulator

CAPTURES = Path(__file__).parents[3] / "shared" / "captures"
ORIGIN = "https://www.tradingview.com"
WAIT_S = 20.0

TUESDAY_MS = 1_787_668_805_000  # 2026-08-25 14:40:05 UTC: markets of all kinds are open


def capture(name: str) -> str:
    """Return a recorded file by the beginning of its name, or skip."""
    if not CAPTURES.is_dir():
        pytest.skip(f"no recorded messages at {CAPTURES}")
    (path,) = CAPTURES.glob(f"{name}-*")
    return path.read_text(encoding="utf-8")


def recorded(name: str) -> Any:
    """Return a recorded JSON file."""
    return json.loads(capture(name))


class BrokenPacket(Exception):
    """The text is not made of whole packets."""


def packets(text: str) -> list[str]:
    """Split recorded or received text into payloads, UTF-16 lengths, in the slow obvious way."""
    units = text.encode("utf-16-le")
    found: list[str] = []
    while units:
        head = re.match(r"~m~(\d+)~m~", units[:60].decode("utf-16-le", errors="replace"))
        if head is None:
            raise BrokenPacket(str(units[:60]))
        begin = 2 * len(head[0])
        end = begin + 2 * int(head[1])
        if end > len(units):
            raise BrokenPacket("the packet is longer than the message")
        found.append(units[begin:end].decode("utf-16-le"))
        units = units[end:]
        units = units.removeprefix("\n".encode("utf-16-le"))
    return found


def framed(payload: str) -> str:
    """Frame an ASCII payload."""
    assert payload.isascii()
    return f"~m~{len(payload)}~m~{payload}"


class Client:
    """Speaks to the simulator through websocket-client, as the publisher does."""

    def __init__(self, url: str, *, echoes: bool = True, origin: str | None = ORIGIN) -> None:
        self.socket = websocket.create_connection(
            url, timeout=WAIT_S, origin=origin, suppress_origin=origin is None
        )
        self.echoes = echoes
        self.raw: list[str] = []
        self.messages: list[dict[str, Any]] = []
        self.hello = self.receive()[0]

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket, also after the server closed its side."""
        self.socket.close()
        self.socket.shutdown()

    def send(self, name: str, *parameters: Any) -> None:
        """Send one message."""
        self.socket.send(framed(json.dumps({"m": name, "p": list(parameters)})))

    def receive(self) -> list[dict[str, Any]]:
        """Return the messages of the next WebSocket message; echo its heartbeats."""
        text = self.socket.recv()
        assert isinstance(text, str)
        if not text:
            raise websocket.WebSocketConnectionClosedException("closed")
        self.raw.append(text)
        found: list[dict[str, Any]] = []
        for payload in packets(text):
            if payload.startswith("~h~"):
                if self.echoes:
                    self.socket.send(framed(payload))
            else:
                found.append(json.loads(payload))
        self.messages += found
        return found

    def until(self, matches: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read until a message matches and return it."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            for message in self.receive():
                if matches(message):
                    return message
        raise AssertionError(f"no such message in {WAIT_S} s: {kinds(self.messages)[-20:]}")

    def until_kind(self, kind: str) -> dict[str, Any]:
        """Read until a message of a kind comes."""
        return self.until(lambda message: message.get("m") == kind)

    def until_closed(self) -> None:
        """Read until the server ends the connection."""
        with pytest.raises((websocket.WebSocketException, OSError)):
            self.until(lambda _: False)

    def ask(
        self, symbol: str, resolution: str, count: int, timeframe: str = "", chart: str = "cs_1"
    ) -> dict[str, Any]:
        """Ask for a series as `sds_1` and return the message that ends its history."""
        self.send("set_auth_token", "unauthorized_user_token")
        self.send("chart_create_session", chart, "")
        self.send("resolve_symbol", chart, "sym_1", symbol)
        self.send("create_series", chart, "sds_1", "s1", "sym_1", resolution, count, timeframe)
        return self.until(
            lambda message: (
                message.get("m") in {"series_completed", "series_error", "critical_error"}
                and message["p"][0] == chart
            )
        )

    def walk(self, simulator: Simulator, span_s: int, step_s: int = 7) -> None:
        """Let simulated time pass in steps and read what comes after each."""
        for _ in range(0, span_s, step_s):
            simulator.advance(step_s * 1000)
            # What is due at a time is sent before the answers to requests made then.
            self.send("get_first_bar_time", "cs_1", "sym_1", "1D")
            self.until_kind("first_bar_time")

    def bars(self) -> list[list[float]]:
        """Return the values of all bars received, oldest message first."""
        return [bar["v"] for message in self.messages for bar in bars_of(message)]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the received messages of a kind."""
        return [message for message in self.messages if message.get("m") == kind]


def bars_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the bars of a message, none where it carries none."""
    if message.get("m") not in {"du", "timescale_update"}:
        return []
    return [bar for series in message["p"][1].values() for bar in series["s"]]


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    """Return the kinds of messages; a hello has none."""
    return [message.get("m", "hello") for message in messages]


def shape(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every key path of a JSON value with the type that stands there."""
    if isinstance(value, dict):
        yield path, "object"
        for key, member in value.items():
            name = "SERIES" if key.startswith(("sds_", "s1")) else key
            yield from shape(member, f"{path}.{name}")
    elif isinstance(value, list):
        yield path, "array"
        for member in value:
            yield from shape(member, f"{path}[]")
    else:
        yield path, type(value).__name__
