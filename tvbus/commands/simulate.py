"""`tvbus simulate`: the TradingView stand-in alone."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer

from bus.errors import BusError
from bus.settings import BusSettings
from publisher.simulator import serve_forever
from tvbus.shared import stop_on_signals


def command(
    context: typer.Context,
    speed: Annotated[
        float, typer.Option(min=0.01, max=3600, help="Market seconds per real second.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Which market; the same seed is the same market.")] = 1,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8765,
    as_json: Annotated[bool, typer.Option("--json", help="Tell the address as JSON.")] = False,
) -> None:
    """Stand in for TradingView: its protocol over a simulated market, no network.

    Example: tvbus simulate --speed 60, then in another terminal:
    tvbus publish BTCUSDT-BINANCE-1m --ws-url ws://127.0.0.1:8765/socket.io/websocket
    """
    context.obj.settings(BusSettings)
    stop = stop_on_signals()

    def tell(url: str) -> None:
        text = (
            orjson.dumps({"url": url}).decode() if as_json else f"simulating TradingView at {url}"
        )
        print(text, flush=True)

    try:
        serve_forever(tell, stop, seed=seed, speed=speed, host=host, port=port)
    except OSError as error:
        reason = error.strerror or error
        raise BusError(
            f"cannot listen on {host}:{port}: {reason}; choose another --port"
        ) from error
