"""A TradingView stand-in: the recorded protocol over a deterministic market.

`with Simulator(seed=1, speed=60) as simulator:` listens on `simulator.url`,
and on `simulator.web_url` for signing in and searching. See `docs/simulator.md`.
"""

from publisher.simulator.accounts import Account
from publisher.simulator.app import Simulator, serve_forever
from publisher.simulator.faults import SOCKET_KINDS, Fault, Faults, Kind, schedule
from publisher.simulator.market import Bar, Market
from publisher.simulator.periods import Instrument
from publisher.simulator.plan import Limits
from publisher.simulator.symbols import SYMBOLS, Symbol

__all__ = [
    "SOCKET_KINDS",
    "SYMBOLS",
    "Account",
    "Bar",
    "Fault",
    "Faults",
    "Instrument",
    "Kind",
    "Limits",
    "Market",
    "Simulator",
    "Symbol",
    "schedule",
    "serve_forever",
]
