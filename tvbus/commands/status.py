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
from rich.table import Table

from bus.connection import address
from publisher.settings import PublisherSettings
from tvbus.exits import FAILURE
from tvbus.report import GroupReport, LeaseReport, SeriesReport, lease_of, report_series, summaries
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
) -> None:
    """Show the publisher, every series and every consumer group.

    Example: tvbus status --json
    """
    if health:
        _check_health(context)
        return
    bus = open_bus(context)
    lease = lease_of(bus)
    rows = [report_series(bus, line) for line in summaries(bus)]
    if as_json:
        publisher = asdict(lease) if lease else None
        print(orjson.dumps({"publisher": publisher, "series": rows}).decode())
    else:
        _show(address(bus.url), lease, rows)


def _show(where: str, lease: LeaseReport | None, rows: list[SeriesReport]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPED_WIDTH)
    console.print(f"bus        {where}", soft_wrap=True)
    holder = (
        f"[green]{lease.holder}[/]" if lease else "[red]none[/]: start one with `tvbus publish`"
    )
    console.print(f"publisher  {holder}")
    if not rows:
        console.print("series     none yet: tvbus subscribe BTCUSDT-BINANCE-1m")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("series", "state", "bars", "last bar (UTC)", "close", "delay", "groups"):
        right = name in {"bars", "close"}
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "groups")
    for row in rows:
        colour = _COLOURS.get(row.state, "yellow")
        table.add_row(
            row.series,
            f"[{colour}]{row.state}[/]" if lease else "stopped",
            str(row.bars),
            _time(row.last_open_time_ms),
            "" if row.last_close is None else f"{row.last_close:.10g}",
            f"{row.delay_ms // 1000} s" if row.delay_ms else "",
            ", ".join(_group(group) for group in row.groups),
        )
    console.print(table)
    for row in rows:
        if row.reason:
            console.print(f"{row.series}: {row.reason}", style="dim", soft_wrap=True)


def _group(group: GroupReport) -> str:
    pending = f", {group.pending} pending" if group.pending else ""
    return f"{group.group}: {group.unread} unread{pending}"


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
