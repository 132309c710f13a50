"""`tvbus consume`: a consumer process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Annotated

import structlog
import typer
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from bus.errors import SettingsInvalid
from bus.health import HealthServer
from bus.settings import BusSettings, ListenAddress
from consumers import Consumer, load_target
from consumers.sinks.open import FORMS, open_sink

log = structlog.get_logger("consumers")


class ConsumerSettings(BusSettings):
    """What a consumer process needs beside the bus."""

    listen: ListenAddress = ""
    """Nowhere by default: several consumers share a machine."""


def command(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            help=f"A function, module:function, that takes a bar; or a sink: {', '.join(FORMS)}."
        ),
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
    settings = context.obj.settings(ConsumerSettings)
    sink = open_sink(target, group, as_json=as_json)
    handler = load_target(target) if sink is None else sink
    consumer = Consumer(
        group, start, prefix=settings.prefix, state_dir=settings.state_dir, name=name, wait=wait
    )
    consumer.on(*(series or ["*"]))(handler)
    with _health(settings.listen, consumer), closing(sink) if sink else nullcontext():
        consumer.run()


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

    try:
        server = HealthServer(listen, check, _Metrics(consumer))
    except SettingsInvalid as error:
        # The publisher of the same settings may have the port; bars matter more.
        log.warning("health.unavailable", reason=str(error))
        yield
        return
    try:
        yield
    finally:
        server.stop()


@dataclass(frozen=True)
class _Metrics(Collector):
    consumer: Consumer

    def collect(self) -> Iterator[Metric]:
        counter = CounterMetricFamily(
            "tvbus_consumer", "What a consumer did; see docs/operations.md", labels=["what"]
        )
        for what, count in asdict(self.consumer.counts).items():
            counter.add_metric([what], count)
        yield counter
