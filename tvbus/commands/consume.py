"""`tvbus consume`: a consumer process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict
from typing import Annotated

import structlog
import typer

from bus.errors import SettingsInvalid
from bus.health import HealthServer
from bus.settings import BusSettings, ListenAddress
from consumers import Consumer, load_target
from consumers.app import LEASE_MS_MAX, LEASE_MS_MIN
from consumers.core.policy import ATTEMPTS_DEFAULT, ATTEMPTS_MAX, FailurePolicy
from consumers.core.wants import BATCH_MAX
from consumers.shell.membership import LEASE_MS
from consumers.shell.metrics import ConsumerMetrics
from consumers.sinks.open import FORMS, open_sink
from consumers.sinks.sink import ATTEMPTS_OF_SINK, Sink

log = structlog.get_logger("consumers")


class ConsumerSettings(BusSettings):
    """What a consumer process needs beside the bus."""

    listen: ListenAddress = ""
    """Nowhere by default: several consumers share a machine."""


Target = Annotated[
    str,
    typer.Argument(
        help=f"A function, module:function, that takes a bar; or a sink: {', '.join(FORMS)}."
    ),
]
Group = Annotated[str, typer.Option(help="The consumer group; each group sees every bar.")]
SeriesPatterns = Annotated[
    list[str] | None,
    typer.Option(help="Series or pattern such as *-BINANCE-1m; may be repeated."),
]
Start = Annotated[
    str | None,
    typer.Option(
        help="Where the group begins in a series it has not seen: "
        "oldest, newest, time:2026-11-01T00:00:00Z or last:100."
    ),
]
Name = Annotated[str | None, typer.Option(help="This member's name, unique in the group.")]
Batch = Annotated[
    int | None,
    typer.Option(min=1, max=BATCH_MAX, help="The function takes lists of 1 to N bars."),
]
OnFailure = Annotated[
    FailurePolicy, typer.Option(help="What becomes of a bar that failed as often as it may.")
]
Attempts = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=ATTEMPTS_MAX,
        help=f"How often a bar is handed over before that; {ATTEMPTS_DEFAULT}, "
        f"with a sink {ATTEMPTS_OF_SINK}.",
    ),
]
LeaseSeconds = Annotated[
    float,
    typer.Option(
        min=LEASE_MS_MIN / 1000,
        max=LEASE_MS_MAX / 1000,
        help="How long this member may be silent before others take its series over.",
    ),
]
Unordered = Annotated[
    bool,
    typer.Option(
        "--unordered", help="Compete for single bars, for work where order does not matter."
    ),
]


def command(
    context: typer.Context,
    target: Target,
    group: Group,
    series: SeriesPatterns = None,
    start: Start = None,
    name: Name = None,
    batch: Batch = None,
    on_failure: OnFailure = "dead-letter",
    attempts: Attempts = None,
    lease_seconds: LeaseSeconds = LEASE_MS / 1000,
    unordered: Unordered = False,
    wait: Annotated[bool, typer.Option(help="Wait for a bus that is not there yet.")] = True,
    listen: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of /healthz and /metrics, such as 127.0.0.1:9465."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With print: JSON lines.")] = False,
) -> None:
    """Call a function with every closed bar, at least once and acknowledged afterwards.

    Start more processes of the same group to share the series; each keeps its order.

    Example: tvbus consume strategy:on_bar --group demo --series '*-BINANCE-1m' --start newest
    """
    settings = context.obj.settings(ConsumerSettings, listen=listen)
    sink = open_sink(target, group, as_json=as_json)
    consumer = Consumer(
        group,
        start,
        prefix=settings.prefix,
        state_dir=settings.state_dir,
        name=name,
        unordered=unordered,
        lease_ms=round(lease_seconds * 1000),
        failure=on_failure,
        attempts=attempts or (ATTEMPTS_OF_SINK if sink else ATTEMPTS_DEFAULT),
        wait=wait,
    )
    _register(consumer, sink or load_target(target), series or ["*"], batch)
    with _health(settings.listen, consumer), closing(sink) if sink else nullcontext():
        consumer.run()


def _register(
    consumer: Consumer,
    handler: Sink | Callable[..., object],
    patterns: Sequence[str],
    batch: int | None,
) -> None:
    if not isinstance(handler, Sink):
        consumer.on(*patterns, batch=batch)(handler)
        return
    batch = batch or handler.batch
    if batch is None:
        consumer.on(*patterns)(handler)
    else:
        consumer.on(*patterns, batch=batch)(handler.write)
    if handler.takes_corrections:
        consumer.on_correction(*patterns)(handler.correct)


@contextmanager
def _health(listen: str, consumer: Consumer) -> Iterator[None]:
    if not listen:
        yield
        return

    def check() -> tuple[bool, dict[str, object]]:
        trouble = consumer.bus_trouble
        facts = {
            "state": "consuming",
            "group": consumer.group,
            "troubles": [trouble] if trouble else [],
        }
        return not trouble, {**facts, **asdict(consumer.counts)}

    metrics = ConsumerMetrics(
        consumer.group, lambda: asdict(consumer.counts), lambda: consumer.bus_trouble
    )
    try:
        server = HealthServer(listen, check, metrics)
    except SettingsInvalid as error:
        # The publisher of the same settings may have the port; bars matter more.
        log.warning("health.unavailable", reason=str(error))
        yield
        return
    try:
        yield
    finally:
        server.stop()
