"""`TvDatafeedLive`: closed bars handed to callbacks as they come."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final, Literal, overload

import structlog

from bus.errors import BusUnreachable
from consumers.errors import ArgumentInvalid, RequestOverdue
from consumers.tvdatafeed.consumer import Callback, Consumer
from consumers.tvdatafeed.feed import Feed
from consumers.tvdatafeed.main import Interval, TvDatafeed, seconds, series_of
from consumers.tvdatafeed.seis import Seis
from consumers.tvdatafeed.subscriptions import Subscriptions
from publisher.wire import Series

log = structlog.get_logger("consumers")

KEEP_S: Final = 10.0
"""How often it is said which series are followed, and looked whether they are published."""
JOIN_S_MAX: Final = 3.0
"""How long the end of all threads is waited for; a read takes a second at most."""


class TvDatafeedLive(TvDatafeed):
    """TvDatafeed with callbacks for closed bars.

        live = TvDatafeedLive()
        seis = live.new_seis("BTCUSDT", "BINANCE", Interval.in_1_minute)
        live.new_consumer(seis, lambda seis, data: print(data))

    A seis is subscribed at the publisher unless it is published already; when it is
    deleted, what this object subscribed is unsubscribed, unless another program follows it
    or a consumer group reads it. A program lives on while it has a seis: end it with
    `del_tvdatafeed`.
    """

    def __init__(
        self,
        username: str | None = None,
        password: str | None = None,
        *,
        utc: bool = False,
        redis_url: str | None = None,
        prefix: str | None = None,
    ) -> None:
        super().__init__(username, password, utc=utc, redis_url=redis_url, prefix=prefix)
        self._subscriptions = Subscriptions(self._requests)
        self._lock = threading.Lock()
        self._feeds: dict[Series, Feed] = {}
        self._idle = threading.Event()
        """Set while nothing is followed; ends the thread that keeps."""

    @overload
    def new_seis(self, symbol: str, exchange: str, interval: Interval) -> Seis: ...

    @overload
    def new_seis(
        self, symbol: str, exchange: str, interval: Interval, timeout: float = -1
    ) -> Seis | Literal[False]: ...

    def new_seis(
        self, symbol: str, exchange: str, interval: Interval, timeout: float = -1
    ) -> Seis | Literal[False]:
        """Follow a series from now on; return the seis there is where it is followed already.

        Returns once it is live: the first bar that closes after that is handed over. False
        where `timeout` seconds passed before; -1: as long as the publisher may take.

        Raises ArgumentInvalid, SymbolUnknown (both are ValueErrors), RequestRefused where
        the publisher does not run or refuses, and BusUnreachable.
        """
        series = series_of(symbol, exchange, interval)
        end_s = time.monotonic() + seconds(timeout)
        with self._held(timeout) as held:
            if not held:
                return False
            if series in self._feeds:
                return self._feeds[series].seis
            try:
                after_ms = self._subscriptions.begin(series, end_s - time.monotonic())
            except RequestOverdue:
                return False
            seis = Seis(symbol, exchange, interval)
            self._start(seis, series, after_ms)
            return seis

    def del_seis(self, seis: Seis, timeout: float = -1) -> bool:
        """Stop following a series, and all its consumers; True, or False after the time-out.

        Callbacks that are running end by themselves. Raises ArgumentInvalid where this
        object does not follow it, and BusUnreachable.
        """
        with self._held(timeout) as held:
            if held:
                feed = self._feeds.get(_series_of(seis))
                if feed is None:
                    raise ArgumentInvalid(f"{seis!r} is not followed: it was deleted before")
                self._end([feed])
            return held

    def new_consumer(self, seis: Seis, callback: Callback, timeout: float = -1) -> Consumer:
        """Call a function with `(seis, data)` at each bar that closes from now on.

        `data` is a frame of one row, as `get_hist` returns it. Every consumer has a thread of
        its own; 1,000 bars may wait for it. Nothing here is waited for, so the time-out
        never passes. Raises ArgumentInvalid where the seis is not followed.
        """
        seconds(timeout)
        if not callable(callback):
            raise ArgumentInvalid(f"callback must be a function of (seis, data), was {callback!r}")
        feed = self._feeds.get(_series_of(seis))
        if feed is None:
            raise ArgumentInvalid(f"{seis!r} is not followed: make it with new_seis")
        consumer = Consumer(feed.seis, callback)
        feed.seis.add_consumer(consumer)
        consumer.start()
        return consumer

    def del_consumer(self, consumer: Consumer, timeout: float = -1) -> bool:
        """Stop calling a consumer's function, after the bar in hand; True.

        Raises ArgumentInvalid where its seis has it no longer.
        """
        seconds(timeout)
        consumer.seis.pop_consumer(consumer)
        consumer.stop()
        return True

    def del_tvdatafeed(self) -> None:
        """End everything that is followed, and wait for the threads, 3 s at most.

        A program that called this can end. Raises BusUnreachable.
        """
        with self._lock:
            feeds = list(self._feeds.values())
            threads = [x for feed in feeds for x in (feed, *feed.seis.get_consumers())]
            self._end(feeds)
        end_s = time.monotonic() + JOIN_S_MAX
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, end_s - time.monotonic()))

    @contextmanager
    def _held(self, timeout: float) -> Iterator[bool]:
        """Hold the lock, or not after the time-out."""
        seconds(timeout)
        held = self._lock.acquire(timeout=timeout)
        try:
            yield held
        finally:
            if held:
                self._lock.release()

    def _start(self, seis: Seis, series: Series, after_ms: int | None) -> None:
        seis.tvdatafeed = self
        feed = Feed(
            seis,
            series,
            after_ms,
            utc=self._utc,
            redis_url=self._redis_url,
            prefix=self._prefix,
        )
        if not self._feeds:
            self._idle = threading.Event()
            threading.Thread(target=self._keep, args=(self._idle,), daemon=True).start()
        self._feeds[series] = feed
        feed.start()

    def _end(self, feeds: Collection[Feed]) -> None:
        for feed in feeds:
            del self._feeds[feed.series]
            feed.stop()
            for consumer in feed.seis.get_consumers():
                feed.seis.pop_consumer(consumer)
                consumer.stop()
            feed.seis.tvdatafeed = None
        if not self._feeds:
            self._idle.set()
        self._subscriptions.end([feed.series for feed in feeds])

    def _keep(self, idle: threading.Event) -> None:
        while not idle.wait(KEEP_S):
            try:
                self._subscriptions.renew(list(self._feeds))
                # Whoever holds the lock for long is asking the publisher: look the next time.
                if self._lock.acquire(blocking=False):
                    try:
                        self._subscriptions.look(list(self._feeds))
                    finally:
                        self._lock.release()
            except BusUnreachable as error:
                log.debug("seis.unkept", reason=str(error))


def _series_of(seis: Seis) -> Series:
    return series_of(seis.symbol, seis.exchange, seis.interval)
