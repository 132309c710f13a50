"""`tvbus subscribe` and `tvbus unsubscribe`: change what is published while it runs."""

from __future__ import annotations

import sys
from typing import Annotated, Final, Literal

import typer

from consumers.shell.publisher import lease_of, signin_trouble
from consumers.shell.requests import new_command
from publisher.settings import WebSettings
from publisher.wire import Series
from publisher.wire.answers import Answer
from tvbus.exits import FAILURE
from tvbus.shared import open_bus
from tvbus.suggest import did_you_mean

KEPT: Final = ("symbol_unknown", "series_refused")
"""Codes of refusals after which a series stays wanted."""

SeriesTexts = Annotated[
    list[str], typer.Argument(help="Series such as BTCUSDT-BINANCE-1m or BINANCE:BTCUSDT@1m.")
]


def subscribe(context: typer.Context, series: SeriesTexts) -> None:
    """Publish more series; the publisher answers for each. Survives restarts.

    Example: tvbus subscribe ETHUSDT-BINANCE-5m BINANCE:SOLUSDT@1m
    """
    _request(context, "subscribe", series)


def unsubscribe(context: typer.Context, series: SeriesTexts) -> None:
    """Stop publishing series; what was published stays. Survives restarts.

    Example: tvbus unsubscribe ETHUSDT-BINANCE-5m
    """
    _request(context, "unsubscribe", series)


def _request(
    context: typer.Context, action: Literal["subscribe", "unsubscribe"], texts: list[str]
) -> None:
    settings = context.obj.settings(WebSettings)
    bus = open_bus(context)
    wanted = tuple(dict.fromkeys(Series.parse(text) for text in texts))
    command = new_command(action, *wanted)
    bus.requests.send(command)
    if lease_of(bus.client, bus.keys) is None:
        print("no publisher is running; it is done when one starts")
        return
    if action == "subscribe" and (trouble := signin_trouble(bus.client, bus.keys)):
        print(f"the publisher is not signed in; it is done once it is: {trouble}")
        sys.stdout.flush()
        raise typer.Exit(FAILURE)
    answers = bus.requests.answers(command)
    _show(settings, answers)
    told = {answer.series for answer in answers}
    for name in (name for name in command.series if name not in told):
        print(f"?   {name}  no answer yet; see `tvbus status`")
    if len(answers) < len(wanted) or not all(answer.accepted for answer in answers):
        sys.stdout.flush()
        raise typer.Exit(FAILURE)


def _show(settings: WebSettings, answers: list[Answer]) -> None:
    for answer in answers:
        mark = "ok  " if answer.accepted else "no  "
        print(f"{mark}{answer.series}  {answer.message}")
    sys.stdout.flush()  # what follows may take a while
    for name, line in did_you_mean(settings, answers).items():
        print(f"    {name}: {line}")
    if kept := [answer.series for answer in answers if answer.code in KEPT]:
        print(f"    tried again now and then; `tvbus unsubscribe {' '.join(kept)}` forgets it")
