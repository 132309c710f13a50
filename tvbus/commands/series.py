"""`tvbus series`: what is published."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer

from tvbus.report import summaries
from tvbus.shared import open_bus


def command(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> None:
    """List the series of the bus and how they do.

    Example: tvbus series
    """
    lines = summaries(open_bus(context))
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
