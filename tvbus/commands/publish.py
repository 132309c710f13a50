"""`tvbus publish`: the publisher."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Annotated

import structlog
import typer

from bus.core_files import forbid_core_files
from bus.embedded import EmbeddedServer
from bus.errors import BusError
from bus.large_buffers import return_large_buffers
from publisher import app
from publisher.settings import PublisherSettings
from tvbus.group_metrics import GroupMetrics
from tvbus.shared import stop_on_signals

WATCH_S = 2.0
"""How often the embedded server is looked after."""

log = structlog.get_logger("tvbus")


def command(
    context: typer.Context,
    series: Annotated[
        list[str] | None,
        typer.Argument(help="Series such as BTCUSDT-BINANCE-1m; without any, TVBUS_SERIES."),
    ] = None,
    history_bars: Annotated[
        int | None, typer.Option(help="Closed bars that a new stream begins with.")
    ] = None,
    ws_url: Annotated[str | None, typer.Option(help="TradingView's address.")] = None,
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT of /healthz and /metrics; empty: nowhere.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait for a Redis that is not there yet.")] = True,
) -> None:
    """Publish closed bars of the wanted series to the bus until stopped.

    Without TVBUS_REDIS_URL it starts an embedded Valkey, which the other commands find.

    Example: tvbus publish BTCUSDT-BINANCE-1m AAPL-NASDAQ-1D
    """
    forbid_core_files()
    return_large_buffers()
    settings = context.obj.settings(
        PublisherSettings,
        series=series or None,
        history_bars=history_bars,
        ws_url=ws_url,
        listen=listen,
    )
    if not settings.series:
        log.warning("series.missing", reason="none are named; `tvbus subscribe` adds some")
    stop = stop_on_signals()
    with _bus(settings, stop) as url, closing(GroupMetrics(url, settings.prefix)) as groups:
        app.run(settings, url, stop, wait=wait, metrics=[groups])


@contextlib.contextmanager
def _bus(settings: PublisherSettings, stop: threading.Event) -> Iterator[str]:
    """The Redis of the settings, or an embedded one that is kept alive meanwhile."""
    if settings.redis_url is not None:
        yield settings.redis_url.get_secret_value()
        return
    with EmbeddedServer.start(settings.state_dir) as server:
        log.info("embedded.started" if server.owned else "embedded.found", url=server.url)
        watch = threading.Thread(target=_watch, args=(server, stop), name="embedded", daemon=True)
        watch.start()
        try:
            yield server.url
        finally:
            stop.set()
            watch.join()


def _watch(server: EmbeddedServer, stop: threading.Event) -> None:
    while not stop.wait(WATCH_S):
        try:
            if server.ensure_running():
                log.warning("embedded.restarted", url=server.url)
        except BusError as error:
            log.error("embedded.failed", reason=str(error))
