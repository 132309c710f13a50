"""`tvbus tail`: bars as they come."""

from __future__ import annotations

from typing import Annotated

import typer

from bus.settings import BusSettings
from consumers import follow
from consumers.errors import UsageError
from consumers.sinks.print import PrintSink
from tvbus.shared import stop_on_signals


def command(
    context: typer.Context,
    series: Annotated[
        list[str] | None, typer.Argument(help="Series or patterns; without any, all.")
    ] = None,
    forming: Annotated[bool, typer.Option(help="Updates of the bar in progress too.")] = False,
    from_: Annotated[
        str | None, typer.Option("--from", help="Begin at a time such as 2026-11-01T00:00:00Z.")
    ] = None,
    last: Annotated[int | None, typer.Option(min=1, help="Begin with the last N bars.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines.")] = False,
) -> None:
    """Print bars as they come, without a group; nothing is acknowledged.

    Example: tvbus tail BTCUSDT-BINANCE-1m --last 5
    """
    settings = context.obj.settings(BusSettings)
    if from_ is not None and last is not None:
        raise UsageError("give --from or --last, not both")
    start = f"time:{from_}" if from_ is not None else f"last:{last}" if last else "newest"
    stop = stop_on_signals()
    sink = PrintSink(as_json=as_json)
    for bar in follow(
        *(series or ["*"]),
        start=start,
        forming=forming,
        prefix=settings.prefix,
        state_dir=settings.state_dir,
        stopped=stop.is_set,
    ):
        sink(bar)
