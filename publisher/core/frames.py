"""`~m~LEN~m~PAYLOAD`, repeated: TradingView's framing, that of socket.io 0.6.

LEN counts UTF-16 code units, as JavaScript's `String.length` does: a recorded
frame declares 99 for a payload of 99 characters and 113 UTF-8 bytes.
"""

from __future__ import annotations

import re
from typing import Final

from publisher.errors import RemoteProtocolError

FRAME_UNITS_MAX: Final = 16 * 1024 * 1024
"""Largest payload accepted; recorded answers reach about 2 million units."""

_HEADER: Final = re.compile(r"~m~([0-9]{1,9})~m~")
_HEADER_LENGTH_MAX: Final = 3 + 9 + 3
_HEARTBEAT: Final = re.compile(r"~h~[0-9]{1,18}")
_BEYOND_BMP: Final = re.compile(r"[^\x00-\uffff]")


def join(payload: str) -> str:
    """Return the payload as one frame."""
    units = len(payload) + len(_BEYOND_BMP.findall(payload))
    return f"~m~{units}~m~{payload}"


def is_heartbeat(payload: str) -> bool:
    """Tell whether the payload must be sent back as it is, in a frame of its own."""
    return _HEARTBEAT.fullmatch(payload) is not None


class Splitter:
    """Cuts the messages of one connection into payloads.

    A frame that ends in a later message is kept until then. Bounded: a frame
    that declares more than `frame_units_max` is refused before it is kept.
    """

    def __init__(self, frame_units_max: int = FRAME_UNITS_MAX) -> None:
        self._rest = ""
        self._frame_units_max = frame_units_max

    @property
    def rest(self) -> str:
        """The beginning of a frame that is not complete yet."""
        return self._rest

    def feed(self, message: str) -> list[str]:
        """Return the payloads that are complete now.

        Raises RemoteProtocolError where the text is not framed or too long;
        the connection cannot be read any further then.
        """
        text = self._rest + message
        payloads = []
        position = 0
        while position < len(text):
            end = self._frame_end(text, position)
            if end is None:
                break
            start, stop = end
            payloads.append(text[start:stop])
            position = stop
        self._rest = text[position:]
        return payloads

    def _frame_end(self, text: str, position: int) -> tuple[int, int] | None:
        header = _HEADER.match(text, position)
        if header is None:
            beginning = text[position : position + _HEADER_LENGTH_MAX]
            if len(beginning) < _HEADER_LENGTH_MAX and _may_become_header(beginning):
                return None
            raise RemoteProtocolError(f"a frame must begin with ~m~LEN~m~, was {beginning!r}")
        units = int(header[1])
        if units > self._frame_units_max:
            raise RemoteProtocolError(
                f"a frame may have {self._frame_units_max} units, this one declares {units}"
            )
        stop = _advance(text, header.end(), units)
        return None if stop is None else (header.end(), stop)


def _may_become_header(beginning: str) -> bool:
    return re.fullmatch(r"~(m(~([0-9]{1,9}(~(m~?)?)?)?)?)?", beginning) is not None


def _advance(text: str, start: int, units: int) -> int | None:
    """Return the index that lies so many UTF-16 units behind start, None if not there yet."""
    part = text[start : start + units]
    beyond = len(_BEYOND_BMP.findall(part))
    if not beyond:
        return start + units if len(part) == units else None
    if len(part) + beyond < units:
        return None
    cut = part.encode("utf-16-le", "surrogatepass")[: 2 * units]
    payload = cut.decode("utf-16-le", "surrogatepass")
    if not part.startswith(payload):
        raise RemoteProtocolError(f"LEN {units} ends inside a character")
    return start + len(payload)
