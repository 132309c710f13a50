"""Dead letters as people and programs read them."""

from __future__ import annotations

import time
from typing import Any, Final

import orjson

from consumers.core.ids import EntryId
from consumers.core.letters import Letter
from consumers.core.times import utc_text
from consumers.sinks.print import bar_json, bar_line
from publisher.wire import EntryMalformed

REASON_LENGTH_MAX: Final = 100
"""Of a reason where letters are listed."""
NAME_WIDTH: Final = 24


def letter_line(letter: Letter, *, waiting: bool) -> str:
    """Return a letter as one line: its ID, when, what, how often tried, why."""
    tried = "" if letter.attempts is None else f"{letter.attempts}x"
    reason = _clean(letter.reason)
    if len(reason) > REASON_LENGTH_MAX:
        reason = f"{reason[: REASON_LENGTH_MAX - 1]}…"
    parts = (
        f"{letter.id!s:<17}",
        f"{_time(letter.buried_ms):<20}",
        f"{_clean(letter.name) or '?':<{NAME_WIDTH}}",
        f"{_time(opened_ms(letter)):<20}",
        f"{tried:>4}",
        "replay asked for: " * waiting + reason,
    )
    return "  ".join(parts).rstrip()


def letter_row(letter: Letter, *, waiting: bool) -> dict[str, Any]:
    """Return a letter for programs, without what it holds."""
    return {
        "id": str(letter.id),
        "series": letter.name or None,
        "kind": letter.kind or None,
        "key": letter.key,
        "entry_id": letter.entry,
        "open_time_ms": opened_ms(letter),
        "reason": letter.reason,
        "attempts": letter.attempts,
        "consumer": letter.consumer,
        "buried_ms": letter.buried_ms,
        "replay_asked": waiting,
    }


def letter_contents(letter: Letter) -> dict[str, Any]:
    """Return for programs what `letter_row` leaves out: traceback and entry."""
    contents: dict[str, Any] = {
        "traceback": letter.traceback,
        "bar": None,
        "event": None,
        "undecoded": None,
    }
    try:
        bar = letter.bar()
        contents["bar"] = None if bar is None else orjson.Fragment(bar_json(bar))
        contents["event"] = letter.event()
    except EntryMalformed as error:
        contents["undecoded"] = str(error)
    return contents


def letter_text(letter: Letter, *, waiting: bool) -> str:
    """Return all of a letter for a person."""
    tried = "unknown" if letter.attempts is None else str(letter.attempts)
    lines = [
        f"dead letter  {letter.id}{', replay asked for' if waiting else ''}",
        f"series       {_clean(letter.name) or 'unknown'}",
        f"came from    {_clean(letter.key)} {_clean(letter.entry)}",
        f"buried       {_time(letter.buried_ms)} by {_clean(letter.consumer)}",
        f"attempts     {tried}",
        f"reason       {_clean(letter.reason)}",
        f"{'event' if letter.kind == 'events' else 'bar':<13}{_held(letter)}",
    ]
    if letter.traceback:
        lines += ["", *(_clean(line) for line in letter.traceback.rstrip().splitlines())]
    return "\n".join(lines)


def opened_ms(letter: Letter) -> int | None:
    """Return the open time of the bar, as its entry's ID tells; None where it is no time."""
    try:
        return EntryId.parse(letter.entry).ms if letter.kind == "bars" else None
    except ValueError:
        return None


def _held(letter: Letter) -> str:
    try:
        bar, event = letter.bar(), letter.event()
    except EntryMalformed as error:
        return f"cannot be decoded: {_clean(str(error))}"
    if bar is not None:
        return bar_line(bar, time.time_ns() // 1_000_000)
    if event is not None:
        return _clean(orjson.dumps(event).decode())
    return "was trimmed before it was read"


def _time(time_ms: int | None) -> str:
    return "" if time_ms is None else utc_text(time_ms // 1000 * 1000)


def _clean(text: str) -> str:
    """Return text that does nothing to a terminal: whoever wrote it may be anybody."""
    return "".join(x if x.isprintable() else " " for x in text)
