"""`tvbus search`: find how TradingView writes a symbol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from consumers.errors import UsageError
from publisher.core.search import Query, Results, SearchInvalid
from publisher.core.search_parsing import Found
from publisher.settings import ORIGIN, WebSettings
from publisher.shell.search import SymbolSearch
from publisher.wire import parse_interval
from tvbus.exits import FAILURE

CONTRACTS_SHOWN = 6
"""Contracts of a futures root in the table; --json has all."""
PIPED_WIDTH = 160


def command(
    context: typer.Context,
    text: Annotated[list[str], typer.Argument(help="A symbol, or a part of a name.")],
    exchange: Annotated[str, typer.Option(help="Only this exchange.")] = "",
    kind: Annotated[
        str,
        typer.Option("--type", help="Only this type: stock, fund, futures, forex, crypto, …"),
    ] = "",
    limit: Annotated[int, typer.Option(help="How many results at most.")] = 20,
    interval: Annotated[str, typer.Option(help="Interval of the series to paste.")] = "1D",
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> None:
    """Search TradingView's symbols; what the first column shows can be pasted.

    Needs no account, no publisher and no bus.

    Example: tvbus search bitcoin --exchange BINANCE --type crypto --interval 1m
    """
    settings = context.obj.settings(WebSettings)
    try:
        query = Query.parse(" ".join(text), exchange, kind, limit)
    except SearchInvalid as error:
        raise UsageError(str(error)) from None
    interval = parse_interval(interval)
    results = SymbolSearch(settings.search_url, ORIGIN).find(query)
    if as_json:
        print(orjson.dumps(_document(results, interval)).decode())
    else:
        _show(results, interval)
    if not results.found:
        if not as_json:
            print(f"nothing found for {query.text!r}: {_hint(query)}")
        raise typer.Exit(FAILURE)


def _hint(query: Query) -> str:
    if query.exchange or query.kind:
        return "try it without --exchange and --type"
    return "try a part of the name, or fewer letters"


def _document(results: Results, interval: str) -> dict[str, Any]:
    return {
        "results": [_entry(one, interval) for one in results.found],
        "more": results.more,
        "unreadable": results.unreadable,
    }


def _entry(one: Found, interval: str) -> dict[str, Any]:
    return {
        "series": str(one.series(interval)) if one.usable else None,
        "symbol": one.symbol,
        "exchange": one.exchange,
        "description": one.description,
        "type": one.kind,
        "exchange_name": one.exchange_name,
        "currency": one.currency,
        "country": one.country,
        "contracts": [_entry(contract, interval) for contract in one.contracts],
    }


def _show(results: Results, interval: str) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPED_WIDTH)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("series", no_wrap=True, overflow="fold")
    for name in ("description", "type", "exchange", "currency"):
        table.add_column(name)
    for one in results.found:
        for row in _rows(one, interval):
            table.add_row(*(Text(cell) for cell in row))
    if results.found:
        console.print(table)
    if results.more:
        print(f"up to {results.more} more: be more exact, or raise --limit")
    if results.unreadable:
        print(f"left out, because no series can name them: {results.unreadable}")


def _rows(one: Found, interval: str) -> Iterator[tuple[str, ...]]:
    """Yield a result's line; a root's contracts stand below it, and it is not to be pasted."""
    if one.usable:
        yield str(one.series(interval)), *_facts(one)
        return
    yield f"{one.symbol}: take a contract", *_facts(one)
    for contract in one.contracts[:CONTRACTS_SHOWN]:
        yield str(contract.series(interval)), *_facts(contract)
    if len(one.contracts) > CONTRACTS_SHOWN:
        yield f"… {len(one.contracts) - CONTRACTS_SHOWN} more: --json", "", "", "", ""


def _facts(one: Found) -> tuple[str, str, str, str]:
    return one.description, one.kind, one.exchange_name, one.currency
