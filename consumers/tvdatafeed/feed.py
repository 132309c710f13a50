"""The closed bars of one seis, read from its stream in a thread of its own."""

from __future__ import annotations

import random
import threading

import structlog

from bus.errors import BusUnreachable
from consumers.core.backoff import BUS_BACKOFF
from consumers.follow import follow
from consumers.tvdatafeed.frames import frame_of
from consumers.tvdatafeed.main import full_name
from consumers.tvdatafeed.seis import Seis
from publisher.wire import Bar, Series

log = structlog.get_logger("consumers")


class Feed(threading.Thread):
    """Hands each bar that closes after `after_ms` to the consumers of the seis.

    A bus that goes away is waited for; then it goes on where it was.
    """

    def __init__(
        self,
        seis: Seis,
        series: Series,
        after_ms: int | None,
        *,
        utc: bool,
        redis_url: str | None,
        prefix: str | None,
    ) -> None:
        """`after_ms` is the open time of the last bar that is not handed over, None for none."""
        super().__init__(name=f"feed_{series}")
        self.seis = seis
        self.series = series
        self._after_ms = after_ms
        self._utc = utc
        self._redis_url = redis_url
        self._prefix = prefix
        self._stopped = threading.Event()

    def run(self) -> None:
        """Follow the stream until stopped."""
        failures = 0
        rng = random.Random()  # noqa: S311 - spreads retries, guards nothing
        while not self._stopped.is_set():
            try:
                self._follow()
            except BusUnreachable as error:
                failures += 1
                if failures == 1:
                    log.warning("bus.lost", error=str(error))
                self._stopped.wait(BUS_BACKOFF.wait_ms(failures, rng) / 1000)

    def stop(self) -> None:
        """Hand nothing over any more; the thread ends within a second."""
        self._stopped.set()

    def _follow(self) -> None:
        start = "oldest" if self._after_ms is None else f"time:{self._after_ms + 1}"
        bars = follow(
            str(self.series),
            start=start,
            redis_url=self._redis_url,
            prefix=self._prefix,
            stopped=self._stopped.is_set,
        )
        for bar in bars:
            if self._stopped.is_set():
                return
            self._after_ms = bar.open_time_ms
            self._hand_over(bar)

    def _hand_over(self, bar: Bar) -> None:
        row = (bar.open_time_ms, bar.open, bar.high, bar.low, bar.close, bar.volume)
        for consumer in self.seis.get_consumers():
            # Each gets a frame of its own: what one changes, the others do not see.
            consumer.put(frame_of(full_name(self.series), [row], utc=self._utc))
