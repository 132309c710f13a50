"""`tvbus history`: bars of the past, through the running publisher's session."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar

from bus.logs import redact
from consumers.core.times import parse_time_ms
from consumers.errors import SymbolUnknown, UsageError
from consumers.shell.requests import History, new_command
from publisher.settings import WebSettings
from publisher.wire import EntryMalformed, Series
from publisher.wire.answers import Progress
from publisher.wire.commands import HISTORY_BARS_MAX, Command
from tvbus.bar_files import check_target, save, table, to_csv, to_json
from tvbus.shared import open_bus
from tvbus.suggest import advice, suggestions

BARS_DEFAULT: Final = 500


def command(
    context: typer.Context,
    series: Annotated[
        str, typer.Argument(help="A series such as BTCUSDT-BINANCE-1m or BINANCE:BTCUSDT@1m.")
    ],
    bars: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=HISTORY_BARS_MAX,
            help=f"The newest N closed bars, {BARS_DEFAULT} unless told otherwise.",
        ),
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Bars from a time on: 2026-11-01T00:00:00Z.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="With --from: only bars before this time.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A file to write, .csv, .json or .parquet.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> None:
    """Fetch closed bars from TradingView through the running publisher; no stream is touched.

    A table on a terminal, CSV elsewhere.

    Example: tvbus history BTCUSDT-BINANCE-1m --bars 20000 --out btc.parquet
    """
    if out is not None and as_json:
        raise UsageError("give --out or --json, not both")
    if bars is not None and from_ is not None:
        raise UsageError("give --bars or --from, not both")
    if to is not None and from_ is None:
        raise UsageError("--to goes with --from")
    wanted = Series.parse(series)
    from_ms, to_ms = _time_ms("--from", from_), _time_ms("--to", to)
    if from_ms is not None and to_ms is not None and to_ms <= from_ms:
        raise UsageError(f"--to must be later than --from, was {to!r}")
    newest = bars or BARS_DEFAULT if from_ms is None else None
    request = _request(wanted, newest, from_ms, to_ms)
    if out is not None:
        check_target(out)
    settings = context.obj.settings(WebSettings)
    bus = open_bus(context)
    try:
        with _progress(str(wanted)) as show:
            history = bus.requests.history(request, show)
    except SymbolUnknown as error:
        told = (str(error), advice(suggestions(settings, wanted)))
        raise SymbolUnknown("; ".join(filter(None, told))) from None
    _deliver(history, out, as_json=as_json)
    if not history.complete:
        sys.stdout.flush()
        sys.stderr.write(f"tvbus: warning: {' '.join(redact(history.message).split())}\n")


def _request(series: Series, bars: int | None, from_ms: int | None, to_ms: int | None) -> Command:
    """Return the request. Raises UsageError where the publisher would not understand it."""
    request = new_command("history", series, bars=bars, from_ms=from_ms, to_ms=to_ms)
    try:
        return Command.decode(request.encode())
    except EntryMalformed as error:
        raise UsageError(str(error)) from None


def _time_ms(option: str, text: str | None) -> int | None:
    try:
        return None if text is None else parse_time_ms(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _deliver(history: History, out: Path | None, *, as_json: bool) -> None:
    if out is not None:
        save(out, history.bars)
        print(f"{len(history.bars)} bars in {out}")
    elif as_json:
        sys.stdout.write(to_json(history.bars).decode())
    elif sys.stdout.isatty():
        sys.stdout.write(table(history.bars))
    else:
        sys.stdout.write(to_csv(history.bars).decode())


@contextmanager
def _progress(title: str) -> Iterator[Callable[[Progress], None]]:
    """Show how far it is, on a terminal; elsewhere nothing."""
    console = Console(stderr=True)
    bar = ProgressBar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("bars"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(title, total=None)
        yield lambda progress: bar.update(task, total=progress.wanted, completed=progress.bars)
