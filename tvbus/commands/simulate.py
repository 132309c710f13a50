"""`tvbus simulate`: the TradingView stand-in alone."""

from __future__ import annotations

from typing import Annotated, Final

import orjson
import typer

from bus.errors import BusError, SettingsInvalid
from bus.settings import BusSettings
from publisher.simulator import Account, Simulator, serve_forever
from tvbus.shared import stop_on_signals

DEMO: Final = ("demo", "demo", "JBSWY3DPEHPK3PXP")
"""User name, password and TOTP secret of the account that is there where none is given."""


def command(
    context: typer.Context,
    speed: Annotated[
        float, typer.Option(min=0.01, max=3600, help="Market seconds per real second.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Which market; the same seed is the same market.")] = 1,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8765,
    web_port: Annotated[
        int, typer.Option(min=0, max=65535, help="For signing in and searching; 0: any free one.")
    ] = 8766,
    account: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:PASSWORD[:TOTP_SECRET]",
            help="Who may sign in, never your real account; may be repeated. Default: one to try.",
        ),
    ] = None,
    token_life_s: Annotated[
        int, typer.Option(min=1, max=10**9, help="How long a token lives, market seconds.")
    ] = 14_400,
    as_json: Annotated[bool, typer.Option("--json", help="Tell the addresses as JSON.")] = False,
) -> None:
    """Stand in for TradingView: its protocol over a simulated market, no network.

    Example: tvbus simulate --speed 60, then in another terminal:
    tvbus publish BTCUSDT-BINANCE-1m --ws-url ws://127.0.0.1:8765/socket.io/websocket
    """
    context.obj.settings(BusSettings)
    accounts = [_account(text.split(":"), token_life_s) for text in account or [":".join(DEMO)]]
    if len({one.username for one in accounts}) < len(accounts):
        raise SettingsInvalid("--account names somebody twice; user names differ")
    stop = stop_on_signals()

    def tell(simulator: Simulator) -> None:
        text = _addresses(simulator) if as_json else _told(simulator, is_demo=not account)
        print(text, flush=True)

    try:
        serve_forever(
            tell,
            stop,
            seed=seed,
            speed=speed,
            host=host,
            port=port,
            web_port=web_port,
            accounts=accounts,
        )
    except OSError as error:
        reason = error.strerror or error
        raise BusError(
            f"cannot listen on {host}: {reason}; choose another --port or --web-port"
        ) from error


def _account(parts: list[str], token_life_s: int) -> Account:
    # The text is not shown: somebody may have typed a real password.
    if len(parts) not in {2, 3} or not all(parts):
        raise SettingsInvalid(
            "--account must be NAME:PASSWORD or NAME:PASSWORD:TOTP_SECRET, each without a colon"
        )
    secret = parts[2] if len(parts) == 3 else None
    try:
        return Account(parts[0], parts[1], totp_secret=secret, token_life_s=token_life_s)
    except ValueError as error:
        raise SettingsInvalid(f"--account of {parts[0]!r}: {error}") from error


def _addresses(simulator: Simulator) -> str:
    return orjson.dumps(
        {
            "url": simulator.url,
            "web_url": simulator.web_url,
            "search_url": simulator.search_url,
        }
    ).decode()


def _told(simulator: Simulator, *, is_demo: bool) -> str:
    lines = [
        f"simulating TradingView at {simulator.url}",
        f"signing in and searching at {simulator.web_url}",
    ]
    if is_demo:
        name, password, secret = DEMO
        lines.append(f"account {name!r}, password {password!r}, TOTP secret {secret}")
    return "\n".join(lines)
