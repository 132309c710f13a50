"""What the handlers' thread reads from the bus itself: facts of a series, bars of an interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

from bus.connection import Client
from consumers.core.ids import EntryId
from consumers.errors import EntryInvalid
from consumers.shell.catalogue import Catalogue
from consumers.shell.streams import as_entry, translated
from publisher.wire import DAY_MS, HOUR_MS, Bar, EntryMalformed, Keys, Series, decode_bar

INFO_MS: Final = 60_000
"""How long the facts of a series are remembered."""
NEWER_MAX: Final = 10
"""Bars of a series looked through for the one that ended at a given time."""


class Lookup(Protocol):
    """Where the worker looks things up."""

    def info(self, series: Series, now_ms: int) -> Mapping[str, str]:
        """Return what the bus knows of a series; empty where that is nothing."""
        ...

    def bars_that_ended(
        self, interval: str, end_time_ms: int, wanted: Callable[[Series], bool]
    ) -> dict[Series, Bar]:
        """Return the bars of an interval that ended then, by series, in their order."""
        ...


@dataclass(slots=True)
class BusLookup:
    """Reads the bus; several threads may call it. Raises GroupUnavailable."""

    client: Client
    keys: Keys
    _infos: dict[Series, tuple[int, Mapping[str, str]]] = field(default_factory=dict)

    def info(self, series: Series, now_ms: int) -> Mapping[str, str]:
        """Return what the bus knows of a series, remembered for INFO_MS."""
        known = self._infos.get(series)
        if known is not None and now_ms < known[0]:
            return known[1]
        with translated():
            raw = cast(dict[bytes, bytes], self.client.hgetall(self.keys.series(series)))
        info = {name.decode(): text.decode(errors="replace") for name, text in raw.items()}
        self._infos[series] = now_ms + INFO_MS, info
        return info

    def bars_that_ended(
        self, interval: str, end_time_ms: int, wanted: Callable[[Series], bool]
    ) -> dict[Series, Bar]:
        """Read the bars from their streams, where they are before the event that tells of them."""
        found = Catalogue(self.client, self.keys.catalogue).read()
        chosen = sorted(x for x in found if x.interval == interval and wanted(x))
        pipeline = self.client.pipeline(transaction=False)
        for series in chosen:
            low, high = _opened_within(series, end_time_ms)
            pipeline.xrevrange(self.keys.bars(series), str(high), str(low), count=NEWER_MAX)
        with translated():
            replies: list[Any] = pipeline.execute()
        bars = {}
        for series, entries in zip(chosen, replies, strict=True):
            for bar in (self._bar(series, raw) for raw in entries):
                if ended_ms(bar) == end_time_ms:
                    bars[series] = bar
                    break
        return bars

    def _bar(self, series: Series, raw: Any) -> Bar:
        entry, fields = as_entry(raw)
        try:
            return decode_bar(series, fields)
        except EntryMalformed as error:
            raise EntryInvalid(f"{self.keys.bars(series)} {entry}: {error}") from error


def ended_ms(bar: Bar) -> int:
    """Return when a bar ended, as the publisher reckons where TradingView did not state it."""
    return bar.end_time_ms or bar.open_time_ms + bar.series.interval_ms


def _opened_within(series: Series, end_time_ms: int) -> tuple[EntryId, EntryId]:
    """Return between which entries a bar stands that ended then."""
    # Where clocks are put back, a day lasts an hour longer.
    longest_ms = series.interval_ms + (HOUR_MS if series.interval_ms >= DAY_MS else 0)
    first_ms = end_time_ms - longest_ms
    return EntryId(max(0, first_ms)), EntryId(end_time_ms).before()
