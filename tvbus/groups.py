"""Consumer groups as people and programs read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich.markup import escape
from rich.table import Table

from consumers.core.lag import GroupTotals, Lag, Quality
from consumers.lag import GroupLag

_MARKS: Final = {Quality.ESTIMATED: "~", Quality.AT_LEAST: "≥"}
_UNITS: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"))


def group_row(group: GroupLag) -> dict[str, Any]:
    """Return a group for programs; the shape is a promise, see docs/operations.md."""
    rows = [{"series": x.name, "holder": x.holder or None, **_numbers(x.lag)} for x in group.series]
    return {
        "group": group.group,
        "members": group.members,
        **_numbers(group.totals),
        "dead_letters": group.dead_letters,
        "series": rows,
    }


def group_table(groups: Sequence[GroupLag], *, verbose: bool) -> Table:
    """Return a line for each group, and for each of its series where that is wanted."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("group", no_wrap=True)
    for name in ("members", "series", "unread", "pending", "oldest", "time lag", "dead letters"):
        table.add_column(name, justify="right", no_wrap=True)
    if verbose:
        table.add_column("held by")
    for group in groups:
        sums = group.totals
        idle = not group.members and sums.unread + sums.pending > 0
        table.add_row(
            escape(group.group),
            f"[red]{group.members}[/]" if idle else str(group.members),
            str(sums.series),
            *_texts(sums),
            f"[yellow]{group.dead_letters}[/]" if group.dead_letters else "",
            style="bold" if verbose else "",
        )
        for one in group.series if verbose else ():
            table.add_row(f"  {escape(one.name)}", "", "", *_texts(one.lag), "", escape(one.holder))
    return table


def _numbers(lag: Lag | GroupTotals) -> dict[str, Any]:
    return {
        "unread": lag.unread,
        "pending": lag.pending,
        "oldest_pending_ms": lag.oldest_pending_ms,
        "time_lag_ms": lag.time_lag_ms,
        "quality": str(lag.quality),
    }


def _texts(lag: Lag | GroupTotals) -> tuple[str, ...]:
    return (
        f"{_MARKS.get(lag.quality, '')}{lag.unread}",
        str(lag.pending) if lag.pending else "",
        span_text(lag.oldest_pending_ms) if lag.pending else "",
        span_text(lag.time_lag_ms) if lag.time_lag_ms else "",
    )


def span_text(span_ms: int) -> str:
    """Return a length of time as people read it, two units at most: `3.2 s`, `2 h 5 min`."""
    if span_ms < 60_000:
        return f"{span_ms / 1000:.1f} s"
    left_ms = span_ms
    parts: list[str] = []
    for unit_ms, name in _UNITS:
        number, left_ms = divmod(left_ms, unit_ms)
        if number:
            parts.append(f"{number} {name}")
    return " ".join(parts[:2])
