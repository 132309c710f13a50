"""`tvbus verify`: is what stands in the streams what TradingView says?"""

from __future__ import annotations

import sys
from typing import Annotated

import orjson
import typer
from redis.exceptions import RedisError

from bus.connection import address
from bus.errors import BusUnreachable
from consumers.errors import RequestRefused, UsageError
from consumers.shell.publisher import lease_of
from publisher.wire import Series
from tvbus.exits import FAILURE
from tvbus.report import summaries
from tvbus.shared import Bus, open_bus
from tvbus.verifying import Verdict, tell, verify


def command(
    context: typer.Context,
    series: Annotated[
        list[str] | None,
        typer.Argument(help="Series such as BTCUSDT-BINANCE-1m or BINANCE:BTCUSDT@1m."),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Every series of the bus that is not refused.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Audit the streams alone; ask for no history.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines for programs.")] = False,
) -> None:
    """Audit streams, and compare them with history through the running publisher.

    Nothing is changed; each outcome is an event on the bus. Exits 0 where all is well,
    1 where something differs or could not be compared.

    Example: tvbus verify BTCUSDT-BINANCE-1m
    """
    if bool(series) == all_:
        raise UsageError("give series, or --all")
    wanted = sorted({Series.parse(text) for text in series or ()})
    bus = open_bus(context)
    try:
        if not offline and lease_of(bus.client, bus.keys) is None:
            raise RequestRefused(
                "no publisher is running, so there is no history to compare with: start one "
                "with `tvbus publish`, or audit the streams alone with --offline"
            )
        wanted = wanted or [line.series for line in summaries(bus) if line.state != "refused"]
    except RedisError as error:
        raise BusUnreachable(f"the bus at {address(bus.url)} failed: {error}") from error
    outcomes = [_verify(bus, one, offline=offline, as_json=as_json) for one in wanted]
    if not all(outcomes):
        raise typer.Exit(FAILURE)


def _verify(bus: Bus, series: Series, *, offline: bool, as_json: bool) -> bool:
    """Verify one series, say what came of it, and return whether all is well."""
    verdict = verify(bus, series, offline=offline)
    tell(bus, verdict)
    if as_json:
        rows = [
            {"kind": one.kind, "open_time_ms": one.open_time_ms, "what": one.what}
            for one in verdict.shown()
        ]
        line = {"outcome": verdict.outcome, **verdict.facts(), "shown": rows}
        print(orjson.dumps(line).decode())
    else:
        _show(verdict)
    sys.stdout.flush()  # the next series may take a while
    return verdict.outcome == "verified"


def _show(verdict: Verdict) -> None:
    shown = verdict.shown()
    for one in shown:
        print(f"{verdict.series}  {one}")
    if unshown := verdict.found.total - len(shown):
        print(f"{verdict.series}  … and {unshown} more")
    print(f"{verdict.series}  {verdict.outcome}: {verdict.summary()}")
