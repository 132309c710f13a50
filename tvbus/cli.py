"""The commands and the options that all of them share."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from tvbus.commands import (
    consume,
    dead,
    demo,
    doctor,
    history,
    login,
    publish,
    search,
    series,
    simulate,
    status,
    subscribe,
    tail,
    verify,
)
from tvbus.shared import Shared

app = typer.Typer(
    name="tvbus",
    help="Closed price bars from one TradingView session, on Redis Streams.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)

app.command("demo")(demo.command)
app.command("publish")(publish.command)
app.command("consume")(consume.command)
app.command("tail")(tail.command)
app.command("status")(status.command)
app.command("series")(series.command)
app.command("subscribe")(subscribe.subscribe)
app.command("unsubscribe")(subscribe.unsubscribe)
app.command("history")(history.command)
app.command("verify")(verify.command)
app.add_typer(dead.app, name="dead")
app.command("login")(login.login)
app.command("logout")(login.logout)
app.command("search")(search.command)
app.command("doctor")(doctor.command)
app.command("simulate")(simulate.command)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"tvbus {version('tvbus')}")
        raise typer.Exit


@app.callback()
def shared(
    context: typer.Context,
    state_dir: Annotated[
        Path | None,
        typer.Option(help="Where the embedded server and shared state live (TVBUS_STATE_DIR)."),
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="First part of every Redis key (TVBUS_PREFIX).")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error (TVBUS_LOG_LEVEL).")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(help="auto, json or console (TVBUS_LOG_FORMAT).")
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Closed price bars from one TradingView session, on Redis Streams."""
    context.obj = Shared(
        {
            "state_dir": state_dir,
            "prefix": prefix,
            "log_level": log_level,
            "log_format": log_format,
        }
    )
