"""`tvbus consume`: a consumer process."""

from __future__ import annotations

from typing import Annotated

import typer

from bus.settings import BusSettings
from consumers import Consumer, load_target
from consumers.errors import TargetInvalid
from consumers.sinks.print import PrintSink

SINKS = ("print",)


def command(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(help="A function, module:function, that takes a bar; or: print.")
    ],
    group: Annotated[str, typer.Option(help="The consumer group; each group sees every bar.")],
    series: Annotated[
        list[str] | None,
        typer.Option(help="Series or pattern such as *-BINANCE-1m; may be repeated."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="Where the group begins in a series it has not seen: "
            "oldest, newest, time:2026-11-01T00:00:00Z or last:100."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="This member's name, the same after each restart.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait for a bus that is not there yet.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="With print: JSON lines.")] = False,
) -> None:
    """Call a function with every closed bar, at least once and acknowledged afterwards.

    Example: tvbus consume strategy:on_bar --group demo --series '*-BINANCE-1m' --start newest
    """
    settings = context.obj.settings(BusSettings)
    if target in SINKS:
        handler = PrintSink(as_json=as_json)
    elif ":" in target:
        handler = load_target(target)  # type: ignore[assignment]
    else:
        raise TargetInvalid(
            f"target must be module:function or one of {', '.join(SINKS)}, was {target!r}"
        )
    consumer = Consumer(
        group, start, prefix=settings.prefix, state_dir=settings.state_dir, name=name, wait=wait
    )
    consumer.on(*(series or ["*"]))(handler)
    consumer.run()
