"""`tvbus status`: publisher, series and groups at a glance."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bus.connection import address
from consumers.lag import read_lag
from consumers.shell.publisher import LeaseReport, SessionReport, lease_of, session_of
from publisher.settings import PublisherSettings
from tvbus.exits import FAILURE
from tvbus.groups import group_row, group_table
from tvbus.report import (
    SeriesReport,
    report_series,
    summaries,
)
from tvbus.shared import open_bus

HEALTH_TIMEOUT_S = 3
PIPED_WIDTH = 160
_COLOURS = {"live": "green", "refused": "red"}


def command(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
    health: Annotated[
        bool, typer.Option(help="Only ask the process on this machine whether it is well.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Each group's series too, and who holds them.")
    ] = False,
) -> None:
    """Show the publisher, every series and every consumer group.

    Example: tvbus status --json
    """
    if health:
        _check_health(context)
        return
    bus = open_bus(context)
    lease = lease_of(bus.client, bus.keys)
    lines = summaries(bus)
    rows = [report_series(bus, line) for line in lines]
    lag = read_lag(bus.client, bus.keys, [line.series for line in lines])
    session = session_of(bus.client, bus.keys, lease)
    if as_json:
        publisher = asdict(lease) | {"session": session} if lease else None
        report = {
            "publisher": publisher,
            "series": rows,
            "groups": [group_row(x) for x in lag.groups],
            "groups_left_out": lag.left_out,
        }
        print(orjson.dumps(report).decode())
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPED_WIDTH)
    _show(console, address(bus.url), lease, session, rows)
    if lag.groups:
        console.print()
        console.print(group_table(lag.groups, verbose=verbose))
    if lag.left_out:
        console.print(f"and {lag.left_out} groups more, which are not looked at", style="yellow")


def _show(
    console: Console,
    where: str,
    lease: LeaseReport | None,
    session: SessionReport | None,
    rows: list[SeriesReport],
) -> None:
    console.print(f"bus        {where}", soft_wrap=True)
    holder = (
        f"[green]{lease.holder}[/]" if lease else "[red]none[/]: start one with `tvbus publish`"
    )
    console.print(f"publisher  {holder}")
    if session is not None:
        console.print(f"session    {_session(session)}", soft_wrap=True)
    if not rows:
        console.print("series     none yet: tvbus subscribe BTCUSDT-BINANCE-1m")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("series", "state", "bars", "last bar (UTC)", "close", "delay", "source"):
        right = name in {"bars", "close"}
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for row in rows:
        colour = _COLOURS.get(row.state, "yellow")
        table.add_row(
            row.series,
            f"[{colour}]{row.state}[/]" if lease else "stopped",
            str(row.bars),
            _time(row.last_open_time_ms),
            "" if row.last_close is None else f"{row.last_close:.10g}",
            _delay(row),
            f"[yellow]{row.source}[/]" if row.substituted else "",
        )
    console.print(table)
    for row in rows:
        if row.reason:
            console.print(f"{row.series}: {row.reason}", style="dim", soft_wrap=True)


def _session(session: SessionReport) -> str:
    trouble = f": {escape(session.trouble)}" if session.trouble else ""
    if session.way is None:
        return f"[red]not signed in[/]{trouble}"
    parts = ["connected" if session.connected else f"[red]not connected[/]{trouble}"]
    parts.append("anonymous" if session.way == "anonymous" else f"signed in by {session.way}")
    if session.way != "anonymous":
        parts.append(f"plan {session.plan}")
    parts.append(f"{session.bars_max} intraday bars a series")
    if session.series_max is not None:
        parts.append(f"{session.series_max} series at a time")
    if session.connections_max is not None:
        parts.append(f"{session.connections_max} connections")
    if session.expires_ms is not None:
        parts.append(f"token until {_time(session.expires_ms)} UTC")
    return ", ".join(parts)


def _delay(row: SeriesReport) -> str:
    """What is stated, and what is measured where that says more."""
    if row.update_mode == "endofday":
        return "end of day"
    stated = f"{row.delay_ms // 1000} s" if row.delay_ms else ""
    if row.measured_delay_ms is None:
        return stated
    return f"{stated or 'none'} ({row.measured_delay_ms / 1000:.1f} s)"


def _time(time_ms: int | None) -> str:
    return "" if time_ms is None else f"{datetime.fromtimestamp(time_ms / 1000, UTC):%m-%d %H:%M}"


def _check_health(context: typer.Context) -> None:
    listen = context.obj.settings(PublisherSettings).listen
    url = f"http://{listen}/healthz"
    try:
        with urllib.request.urlopen(url, timeout=HEALTH_TIMEOUT_S) as reply:
            print(reply.read().decode())
    except urllib.error.HTTPError as error:
        print(error.read().decode())
        raise typer.Exit(FAILURE) from None
    except OSError as error:
        print(f"nothing answers at {url}: {error}")
        raise typer.Exit(FAILURE) from None
