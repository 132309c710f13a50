"""Apply faults to what one connection sends."""

from __future__ import annotations

import copy
import time
from collections import deque
from dataclasses import replace
from typing import Final

import orjson

from publisher.simulator.faults import LASTING, Fault, Faults, Kind
from publisher.simulator.framing import frame
from publisher.simulator.plan import Message

_HELD_MAX: Final = 20_000
_BAD_PRICES: Final = (Kind.NAN, Kind.PLACEHOLDER, Kind.REVERSED)
_BAD_BYTES: Final = (Kind.CORRUPT, Kind.TRUNCATE, Kind.INVALID_UTF8)
_NAN: Final = "not-a-number"
"""Stands for NaN until the message is text, since the encoder has no NaN."""


class Damage:
    """The faults that are upon one connection. Not safe in several threads."""

    def __init__(self, faults: Faults, connection: int) -> None:
        self._faults = faults
        self._connection = connection
        self._until_s: dict[Kind, float] = {}
        self._counted: dict[Kind, Fault] = {}
        self._held: deque[Message] = deque()

    def take(self) -> list[Fault]:
        """Return the faults that end the connection or add to it; remember the others."""
        ends: list[Fault] = []
        for fault in self._faults.take(self._connection):
            if fault.kind in LASTING:
                self._until_s[fault.kind] = time.monotonic() + fault.duration_s
                self._faults.happened(self._connection, fault)
            elif fault.kind in {Kind.CLOSE, Kind.RESET, Kind.HUGE}:
                self._faults.happened(self._connection, fault)
                ends.append(fault)
            else:
                self._counted[fault.kind] = fault
        return ends

    def lasts(self, kind: Kind) -> bool:
        """Tell whether a lasting fault is upon the connection now."""
        return time.monotonic() < self._until_s.get(kind, 0.0)

    def strikes(self, kind: Kind) -> bool:
        """Use up one count of a fault; tell whether there was one."""
        fault = self._counted.pop(kind, None)
        if fault is None:
            return False
        if fault.count > 1:
            self._counted[kind] = replace(fault, count=fault.count - 1)
        self._faults.happened(self._connection, fault)
        return True

    def messages(self, messages: list[Message]) -> list[Message]:
        """Return what becomes of the messages: lost, held back, repeated or preceded."""
        if self.lasts(Kind.SILENCE) or self.lasts(Kind.MUTE):
            self._held.clear()
            return []
        if self.lasts(Kind.LATE):
            if len(self._held) + len(messages) > _HELD_MAX:
                self._until_s.pop(Kind.LATE)
            else:
                self._held.extend(messages)
                return []
        if self._held:
            messages = [*self._held, *messages]
            self._held.clear()
        if messages and self.strikes(Kind.REPEAT):
            messages = [*messages, *messages]
        return self._with_bad_prices(messages)

    def data(self, text: str) -> bytes:
        """Return the bytes of one WebSocket message that carries data."""
        for kind in _BAD_BYTES:
            if kind in self._counted and self.strikes(kind):
                return _damaged(kind, text.encode())
        return text.encode()

    def _with_bad_prices(self, messages: list[Message]) -> list[Message]:
        if not any(kind in self._counted for kind in _BAD_PRICES):
            return messages
        damaged: list[Message] = []
        for message in messages:
            if message["m"] == "du":
                bad = [kind for kind in _BAD_PRICES if self.strikes(kind)]
                damaged += [_bad_bar(kind, message) for kind in bad]
            damaged.append(message)
        return damaged


def encode(message: Message) -> str:
    """Return a message as a packet. Non-ASCII text stays as it is, as TradingView's does."""
    text = orjson.dumps(message).decode()
    return frame(text.replace(f'"{_NAN}"', "NaN"))


def huge(size_bytes: int) -> str:
    """Return a packet of about a size, in bytes."""
    return encode({"m": "qsd", "p": ["qs_huge", {"n": "x" * size_bytes, "s": "ok", "v": {}}]})


def _bad_bar(kind: Kind, message: Message) -> Message:
    bad = copy.deepcopy(message)
    for series in bad["p"][1].values():
        for bar in series["s"]:
            values = bar["v"]
            if kind is Kind.NAN:
                values[1:5] = [_NAN] * 4
            elif kind is Kind.PLACEHOLDER:
                values[1:5] = [1e100] * 4
            else:
                values[2], values[3] = values[3] - 1, values[2] + 1
    return bad


def _damaged(kind: Kind, data: bytes) -> bytes:
    if kind is Kind.CORRUPT:
        return data.replace(b"~m~", b"~x~", 1)
    if kind is Kind.TRUNCATE:
        cut = len(data) * 2 // 3
        # Between two packets nobody could notice it.
        return data[: cut - 1 if data[cut:].startswith(b"~m~") else cut]
    middle = len(data) // 2
    return data[:middle] + b"\xff\xfe" + data[middle + 2 :]
