"""`tvbus series`: what is published."""

from __future__ import annotations

import sys
from typing import Annotated

import orjson
import typer

from consumers.shell.publisher import lease_of
from tvbus.report import summaries
from tvbus.shared import open_bus


def command(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> None:
    """List the series of the bus and how they do.

    Example: tvbus series
    """
    bus = open_bus(context)
    lines = summaries(bus)
    if lease_of(bus.client, bus.keys) is None:
        sys.stderr.write("no publisher is running; this is how the last one left them\n")
    if as_json:
        rows = [
            {"series": str(line.series), "state": line.state, "reason": line.reason}
            for line in lines
        ]
        print(orjson.dumps(rows).decode())
        return
    for line in lines:
        print(f"{line.series!s:<28} {line.state:<9} {line.reason}".rstrip())
    if not lines:
        print("no series yet: tvbus subscribe BTCUSDT-BINANCE-1m")
