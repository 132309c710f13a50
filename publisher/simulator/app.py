"""The simulator as one object: a market, a clock, faults and a server."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

from publisher.simulator.accounts import Account, Accounts
from publisher.simulator.clock import SimulatedClock
from publisher.simulator.connection import ECHO_S, HEARTBEAT_S, SEND_S, World
from publisher.simulator.faults import Faults
from publisher.simulator.market import Bar, Market
from publisher.simulator.periods import CALENDAR_INTERVALS, Instrument
from publisher.simulator.plan import Limits
from publisher.simulator.protocol import Expired
from publisher.simulator.requests import conversion
from publisher.simulator.server import PATH, SimulatorServer
from publisher.simulator.site import Site
from publisher.simulator.symbols import find
from publisher.simulator.tokens import Tokens
from publisher.simulator.web import WebServer
from publisher.wire import DAY_MS, Series

BEHIND_MS: Final = 30 * DAY_MS
"""How far an accelerated simulation starts behind the machine's clock."""


class Simulator:
    """A TradingView on this machine. Use it as a context manager, or `start` and `stop` it.

    `start_ms` (UTC) defaults to the machine's time, and to 30 days before it
    where `speed` is above 1, so that simulated time stays in the past. `tokens`
    are accepted besides the anonymous ones and those that `accounts` get when they
    sign in. Of `captcha_after` sign-ins in an hour every further one wants a captcha.
    A live connection whose token expires goes on with heartbeats alone, or is
    refused, as `expired_token` says. `heartbeat_s` and `echo_s` are real
    seconds: between heartbeats, and until a client that does not echo is dropped;
    so is one that does not take a message within `send_s`.
    """

    def __init__(
        self,
        seed: int = 1,
        speed: float = 1.0,
        start_ms: int | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tokens: Iterable[str] = (),
        accounts: Iterable[Account] = (),
        web_port: int = 0,
        captcha_after: int | None = None,
        expired_token: Expired = "mute",  # noqa: S107 - no secret
        limits: Limits | None = None,
        heartbeat_s: float = HEARTBEAT_S,
        echo_s: float = ECHO_S,
        send_s: float = SEND_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if start_ms is None:
            start_ms = int(time.time() * 1000) - (BEHIND_MS if speed > 1 else 0)
        self.market = Market(seed)
        self.clock = SimulatedClock(start_ms, speed, monotonic)
        self.faults = Faults()
        self._name = f"[{host}]" if ":" in host else host
        self._tokens = Tokens(tokens)
        self.accounts = Accounts(accounts, self._tokens, captcha_after)
        self._world = World(
            self.market,
            self.clock,
            limits or Limits(),
            self._tokens,
            self.faults,
            expired_token,
            heartbeat_s,
            echo_s,
            send_s,
        )
        self._server = SimulatorServer(self._world, host, port)
        self._site = Site(self.accounts, self.faults)
        self._web = WebServer(self._site, self.clock, self.faults, host, web_port)

    @property
    def url(self) -> str:
        """Where clients connect; valid once started."""
        return f"ws://{self._name}:{self._server.port}{PATH}"

    @property
    def web_url(self) -> str:
        """Where the pages are; valid once started."""
        return f"http://{self._name}:{self._web.port}"

    @property
    def search_url(self) -> str:
        """Where the symbol search is; valid once started."""
        return self.web_url

    @property
    def web_counts(self) -> Counter[str]:
        """How many web requests came: `signin`, `factor`, `page`, `search_v3`, `search_v1`.

        `signin_ok` counts the sign-ins that succeeded, with the second step where there is one.
        """
        return self._site.counts

    @property
    def sent(self) -> Counter[str]:
        """How many messages of each kind were sent; heartbeats are `~h~`."""
        return self._world.sent

    @property
    def received(self) -> Counter[str]:
        """How many messages (`message`) and heartbeats (`~h~`) clients sent."""
        return self._world.received

    @property
    def connections(self) -> list[int]:
        """The numbers of the open connections, oldest first."""
        return self._server.connections

    def now_ms(self) -> int:
        """Return the simulated time, ms since the epoch, UTC."""
        return self.clock.now_ms()

    def advance(self, step_ms: int) -> None:
        """Let simulated time jump forward; live updates follow at once."""
        self.clock.advance(step_ms)
        self._server.wake()

    def truth(self, series: Series, from_ms: int, to_ms: int | None = None) -> list[Bar]:
        """Return the bars that ended by now and opened in [from_ms, to_ms), final, oldest first.

        They hold the very doubles that the server sends, corrections included.
        Raises KeyError where the simulated TradingView has no such symbol.
        """
        symbol = find(f"{series.exchange}:{series.symbol}")
        rate = conversion(symbol.currency, series.currency) if symbol and series.currency else 1.0
        if symbol is None or rate is None:
            raise KeyError(str(series))
        market_ms = self.now_ms() - symbol.delay_s * 1000
        instrument = Instrument(symbol, series.extended, series.dividends, rate)
        if series.interval in CALENDAR_INTERVALS or symbol.venue.extended is None:
            instrument = replace(instrument, extended=False)
        to_ms = market_ms if to_ms is None else min(to_ms, market_ms)
        bars = self.market.bars(instrument, series.interval, from_ms, to_ms)
        return [bar for bar in bars if bar.end_ms <= market_ms]

    def expire_token(self, username: str) -> None:
        """Make all tokens of an account bad at once, also those in use."""
        self._tokens.expire(username)
        self._server.wake()

    def end_sessions(self, username: str) -> None:
        """Make all cookies of an account bad at once; its tokens stay good."""
        self.accounts.end_sessions(username)

    def start(self) -> Self:
        """Begin to listen. Raises OSError where a port cannot be had."""
        self._server.start()
        try:
            self._web.start()
        except OSError:
            self._server.stop()
            raise
        return self

    def stop(self) -> None:
        """End all connections and stop listening."""
        self._web.stop()
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def serve_forever(
    on_ready: Callable[[Simulator], None],
    stop: threading.Event,
    *,
    seed: int = 1,
    speed: float = 1.0,
    start_ms: int | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    web_port: int = 0,
    accounts: Iterable[Account] = (),
) -> None:
    """Run a simulator until `stop` is set; `on_ready` gets it when it listens. Raises OSError."""
    with Simulator(
        seed, speed, start_ms, host, port, web_port=web_port, accounts=accounts
    ) as simulator:
        on_ready(simulator)
        stop.wait()
