"""What a check found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "problem"]
"""`note`: works, and should be known; `problem`: bars or safety are at stake."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line."""

    check: str
    level: Level
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", found)


def note(check: str, found: str, advice: str = "") -> Finding:
    """It works, and should be known."""
    return Finding(check, "note", found, advice)


def problem(check: str, found: str, advice: str) -> Finding:
    """Something must be done."""
    return Finding(check, "problem", found, advice)


def size(count: float) -> str:
    """Return a number of bytes for people."""
    unit = "bytes"
    for greater in ("KiB", "MiB", "GiB", "TiB"):
        if count < 1024:
            break
        count, unit = count / 1024, greater
    return f"{count:.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:.1f} {unit}"


def span(length_ms: float) -> str:
    """Return a length of time for people, in one unit."""
    length_s = abs(length_ms) / 1000
    for unit, seconds in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if length_s >= 2 * seconds:
            return f"{length_s / seconds:.0f} {unit}"
    return f"{length_s:.0f} s" if length_s >= 2 else f"{length_s * 1000:.0f} ms"
