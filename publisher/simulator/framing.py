"""The stand-in's own framing, so that it shares no bug with the publisher's.

A packet is `~m~LEN~m~PAYLOAD`; LEN counts UTF-16 code units, as a browser does.
"""

from __future__ import annotations

import re
from typing import Final

_HEADER: Final = re.compile(r"~m~(\d{1,9})~m~")


class FramingError(ValueError):
    """A client's message is not made of whole packets."""


def utf16_units(text: str) -> int:
    """Return the length of a text in UTF-16 code units."""
    if text.isascii():
        return len(text)
    return len(text) + sum(character > "\uffff" for character in text)


def frame(payload: str) -> str:
    """Return the packet that carries a payload."""
    return f"~m~{utf16_units(payload)}~m~{payload}"


def unframe(message: str) -> list[str]:
    """Return the payloads of a message. Raises FramingError."""
    payloads: list[str] = []
    at = 0
    while at < len(message):
        header = _HEADER.match(message, at)
        if header is None:
            raise FramingError(f"no packet begins at character {at}")
        begin = header.end()
        end = _end(message, begin, int(header[1]))
        payloads.append(message[begin:end])
        at = end
    return payloads


def _end(message: str, begin: int, units: int) -> int:
    tail = message[begin : begin + units]
    if tail.isascii():
        if len(tail) < units:
            raise FramingError(f"packet is short: {len(tail)} of {units}")
        return begin + units
    at, left = begin, units
    while left > 0:
        if at >= len(message):
            raise FramingError(f"packet is short: {units - left} of {units}")
        left -= 2 if message[at] > "\uffff" else 1
        at += 1
    if left < 0:
        raise FramingError("packet ends inside a character")
    return at
