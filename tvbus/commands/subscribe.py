"""`tvbus subscribe` and `tvbus unsubscribe`: change what is published while it runs."""

from __future__ import annotations

import sys
import uuid
from typing import Annotated, Any, Final, Literal

import typer

from publisher.commands import COMMAND_FIELD, COMMANDS_MAX, Answer, Command
from publisher.settings import WebSettings
from publisher.wire import Series
from tvbus.exits import FAILURE
from tvbus.report import lease_of, signin_trouble
from tvbus.shared import Bus, open_bus
from tvbus.suggest import did_you_mean

ANSWER_S_MAX: Final = 35
"""Longer than TradingView may take to answer the publisher."""

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
    names = tuple(dict.fromkeys(str(Series.parse(text)) for text in texts))
    command = Command(uuid.uuid4().hex, action, names)
    fields: Any = {COMMAND_FIELD: command.encode()}
    bus.client.xadd(bus.keys.commands, fields, maxlen=COMMANDS_MAX)
    if lease_of(bus) is None:
        print("no publisher is running; it is done when one starts")
        return
    if action == "subscribe" and (trouble := signin_trouble(bus)):
        print(f"the publisher is not signed in; it is done once it is: {trouble}")
        sys.stdout.flush()
        raise typer.Exit(FAILURE)
    answers = _await_answers(bus, command)
    _show(settings, answers)
    for name in names[len(answers) :] if len(answers) < len(names) else ():
        print(f"?   {name}  no answer yet; see `tvbus status`")
    if len(answers) < len(names) or not all(answer.accepted for answer in answers):
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


def _await_answers(bus: Bus, command: Command) -> list[Answer]:
    key = bus.keys.replies(command.id)
    answers: list[Answer] = []
    waited = 0
    while len(answers) < len(command.series) and waited < ANSWER_S_MAX:
        # One second a call stays below every socket time-out.
        popped: Any = bus.client.blpop([key], timeout=1)
        if popped is None:
            waited += 1
        else:
            answers.append(Answer.decode(popped[1]))
    return answers
