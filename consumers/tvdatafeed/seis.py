"""A symbol, exchange and interval that somebody follows, and its consumers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal, overload

from consumers.errors import ArgumentInvalid
from consumers.tvdatafeed.consumer import Callback, Consumer

if TYPE_CHECKING:
    from consumers.tvdatafeed.datafeed import TvDatafeedLive
    from consumers.tvdatafeed.frames import BarFrame
    from consumers.tvdatafeed.main import Interval


class Seis:
    """Symbol, exchange and interval; made by `TvDatafeedLive.new_seis`.

    Two of the same symbol, exchange and interval are equal.
    """

    def __init__(self, symbol: str, exchange: str, interval: Interval) -> None:
        self._parts = symbol, exchange, interval
        self._tvdatafeed: TvDatafeedLive | None = None
        self._consumers: list[Consumer] = []
        self._lock = threading.Lock()

    def __eq__(self, other: object) -> bool:
        """Compare symbol, exchange and interval."""
        return isinstance(other, Seis) and self._parts == other._parts

    def __hash__(self) -> int:
        """Return the same for equal ones."""
        return hash(self._parts)

    def __repr__(self) -> str:
        """Show the three parts."""
        return f'Seis("{self.symbol}","{self.exchange}",{self.interval})'

    def __str__(self) -> str:
        """Name the three parts."""
        return f"symbol='{self.symbol}',exchange='{self.exchange}',interval='{self.interval.name}'"

    @property
    def symbol(self) -> str:
        """The symbol, as it was given."""
        return self._parts[0]

    @property
    def exchange(self) -> str:
        """The exchange, as it was given."""
        return self._parts[1]

    @property
    def interval(self) -> Interval:
        """The interval."""
        return self._parts[2]

    @property
    def tvdatafeed(self) -> TvDatafeedLive | None:
        """Who follows it; None once it was deleted."""
        return self._tvdatafeed

    @tvdatafeed.setter
    def tvdatafeed(self, value: TvDatafeedLive | None) -> None:
        self._tvdatafeed = value

    def new_consumer(self, callback: Callback, timeout: float = -1) -> Consumer:
        """Call a function with `(seis, data)` at each closed bar; see `TvDatafeedLive`."""
        return self._live().new_consumer(self, callback, timeout)

    def del_consumer(self, consumer: Consumer, timeout: float = -1) -> bool:
        """Stop calling a consumer's function."""
        return self._live().del_consumer(consumer, timeout)

    def get_consumers(self) -> list[Consumer]:
        """Return the consumers there are now."""
        with self._lock:
            return list(self._consumers)

    @overload
    def get_hist(self, n_bars: int = 10) -> BarFrame: ...

    @overload
    def get_hist(self, n_bars: int = 10, timeout: float = -1) -> BarFrame | Literal[False]: ...

    def get_hist(self, n_bars: int = 10, timeout: float = -1) -> BarFrame | Literal[False]:
        """Return the newest closed bars, as `TvDatafeed.get_hist` does."""
        live = self._live()
        return live.get_hist(
            self.symbol, self.exchange, self.interval, n_bars=n_bars, timeout=timeout
        )

    def del_seis(self, timeout: float = -1) -> bool:
        """Stop following it, and all its consumers."""
        return self._live().del_seis(self, timeout)

    def add_consumer(self, consumer: Consumer) -> None:
        """Take a consumer; `new_consumer` is what programs call."""
        with self._lock:
            self._consumers.append(consumer)

    def pop_consumer(self, consumer: Consumer) -> None:
        """Let go of a consumer; `del_consumer` is what programs call. Raises ArgumentInvalid."""
        with self._lock:
            if consumer not in self._consumers:
                raise ArgumentInvalid(f"{consumer!r} is not a consumer of {self!r}, or no longer")
            self._consumers.remove(consumer)

    def _live(self) -> TvDatafeedLive:
        if self._tvdatafeed is None:
            raise ArgumentInvalid(f"{self!r} was deleted: make a new one with new_seis")
        return self._tvdatafeed
