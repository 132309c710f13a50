"""What names an entry in logs, errors and dead letters."""

from __future__ import annotations

import traceback
from typing import Final

from consumers.core.work import Work

TRACEBACK_CHARACTERS_MAX: Final = 16_000
"""The end of a traceback that is kept."""


def told(work: Work) -> dict[str, str]:
    """Return the fields that name an entry in logs."""
    if work.event is not None:
        return {"entry": str(work.entry), "told": str(work.event.get("event"))}
    if work.bar is not None:
        return {"series": str(work.bar.series), "open_time": work.bar.open_time.isoformat()}
    assert work.gap is not None, "an entry is a bar, an event or a gap"
    return {"series": str(work.gap.series), "open_time": str(work.entry)}


def place(work: Work) -> str:
    """Return the same as text."""
    return " ".join(told(work).values())


def traceback_of(error: BaseException | None) -> str:
    """Return the end of what was raised where; empty where nothing was."""
    if error is None:
        return ""
    return "".join(traceback.format_exception(error))[-TRACEBACK_CHARACTERS_MAX:]
