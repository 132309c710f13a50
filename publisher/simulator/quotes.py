"""Quote sessions: the last price of each symbol, first whole, then what changed."""

from __future__ import annotations

from typing import Final

from publisher.simulator.market import Bar, Market
from publisher.simulator.periods import Instrument
from publisher.simulator.plan import Message
from publisher.simulator.requests import instrument_of

SYMBOLS_MAX: Final = 200
_UPDATES_SKIPPED: Final = 8
"""A quote changes this many times less often than a bar."""


class QuoteSession:
    """The symbols of one quote session. Pure; time is passed in."""

    def __init__(self, market: Market, session: str) -> None:
        self.due_ms: float = 1e300
        self.fields: set[str] = set()
        self._market = market
        self._session = session
        self._shown: dict[str, Message] = {}
        self._instruments: dict[str, Instrument] = {}

    def add(self, name: str, now_ms: int) -> list[Message]:
        """Begin to quote a symbol; return its first messages."""
        instrument = instrument_of(name)
        done = {"m": "quote_completed", "p": [self._session, name]}
        if instrument is None:
            error = {"n": name, "s": "error", "errmsg": "no_such_symbol", "v": {}}
            return [{"m": "qsd", "p": [self._session, error]}, done]
        if group := instrument.symbol.group:
            denied = {
                "n": name,
                "s": "permission_denied",
                "errmsg": "Permission denied",
                "v": {"alternative": group},
            }
            return [{"m": "qsd", "p": [self._session, denied]}, done]
        if len(self._instruments) < SYMBOLS_MAX:
            self._instruments[name] = instrument
        self.due_ms = now_ms
        values = self._standing(instrument) | self._prices(instrument, now_ms)
        self._shown[name] = values
        return [self._qsd(name, values), done]

    def remove(self, name: str) -> None:
        """Stop quoting a symbol."""
        self._instruments.pop(name, None)
        self._shown.pop(name, None)

    def advance(self, now_ms: int, update_ms: float) -> list[Message]:
        """Return what changed since the last time."""
        if now_ms < self.due_ms:
            return []
        self.due_ms = now_ms + update_ms * _UPDATES_SKIPPED
        messages: list[Message] = []
        for name, instrument in self._instruments.items():
            shown = self._shown[name]
            values = self._prices(instrument, now_ms)
            changed = {key: value for key, value in values.items() if shown.get(key) != value}
            if changed:
                shown.update(changed)
                messages.append(self._qsd(name, changed))
        return messages

    def _qsd(self, name: str, values: Message) -> Message:
        if self.fields:
            values = {key: value for key, value in values.items() if key in self.fields}
        return {"m": "qsd", "p": [self._session, {"n": name, "s": "ok", "v": values}]}

    def _standing(self, instrument: Instrument) -> Message:
        symbol = instrument.symbol
        mode = f"delayed_streaming_{symbol.delay_s}" if symbol.delay_s else "streaming"
        return {
            "update_mode": mode,
            "short_name": symbol.name,
            "pro_name": symbol.full_name,
            "original_name": f"{symbol.feed or symbol.exchange}:{symbol.name}",
            "pricescale": symbol.pricescale,
            "minmov": symbol.minmov,
            "minmove2": 0,
            "fractional": False,
            "listed_exchange": symbol.exchange,
            "exchange": symbol.exchange,
            "description": symbol.description,
            "currency_code": symbol.currency,
            "is_tradable": instrument.rate == 1.0,
        }

    def _prices(self, instrument: Instrument, now_ms: int) -> Message:
        market_ms = now_ms - instrument.symbol.delay_s * 1000
        period = self._market.next_period(instrument, "1D", market_ms)
        today = self._market.state(instrument, period, market_ms)
        days = self._market.before(instrument, "1D", period.start_ms, 1)
        last: Bar | None = today or (days[-1] if days else None)
        if last is None:
            return {}
        before = days[-1].close if today and days else last.open
        change = last.close - before
        open_now = period.start_ms <= market_ms
        prices: Message = {
            "lp": last.close,
            "lp_time": min(market_ms, last.end_ms) // 1000,
            "ch": round(change, 6),
            "chp": round(100 * change / before, 2),
            "current_session": "market" if open_now else "out_of_session",
        }
        return prices if last.volume is None else {**prices, "volume": last.volume}
