"""Times as people write them, read as ms since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

TIME_FORMS = "2026-11-01T00:00:00Z or ms since the epoch"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time_ms(value: str | int | datetime) -> int:
    """Return ms since the epoch for an ISO text, an aware datetime or ms themselves.

    Raises ValueError for a time without its zone, before 1970, or not a time.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        time_ms = value
    elif isinstance(value, str) and value.lstrip("-").isascii() and value.lstrip("-").isdigit():
        time_ms = int(value)
    else:
        time_ms = _datetime_ms(value)
    if time_ms < 0:
        raise ValueError(f"time must not be before 1970, was {value!r}")
    return time_ms


def _datetime_ms(value: object) -> int:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"time must be written as {TIME_FORMS}, was {value!r}") from None
    if not isinstance(value, datetime):
        raise ValueError(f"time must be written as {TIME_FORMS}, was {value!r}")  # noqa: TRY004
    if value.utcoffset() is None:
        raise ValueError(f"time must say its zone, such as a Z at the end, was {str(value)!r}")
    return round(value.timestamp() * 1000)


def utc_text(time_ms: int | None) -> str:
    """Return a time as people read it; ms themselves where it is beyond the calendar."""
    if time_ms is None:
        return "none"
    try:
        text = (_EPOCH + timedelta(milliseconds=time_ms)).isoformat()
    except OverflowError:
        return str(time_ms)
    return text.replace("+00:00", "Z")
