"""What must have come true some time after the faults ended."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from publisher.wire import Series
from tests.simulation.bus import Bus
from tests.simulation.checker import Checker
from tests.simulation.consuming import GROUPS
from tests.simulation.publishing import KEYS
from tests.simulation.records import Entry, Stream
from tests.simulation.truth import Values

LATE_MS: Final = 60_000
"""How long after its end a bar may be on its way, corrections included."""


class Ending:
    """Says what is still missing."""

    def __init__(self, checker: Checker, bus: Bus) -> None:
        self._checker = checker
        self._client = bus.client
        self._loop = bus.loop
        self._window_bars = bus.plan.window_bars
        self._groups = GROUPS if bus.plan.members else ()
        self.quiet_ms: int | None = None
        """Since when each interval is told complete; None until all came right."""

    def missing(self) -> list[str]:
        """Return what has not come true yet."""
        found = [text for series in self._checker.streams for text in self._missing(series)]
        found += [x for group in self._groups for x in self._checker.reading.unshared(group)]
        return found + list(self._uncompleted())

    def _uncompleted(self) -> Iterator[str]:
        """Yield of which bars that ended in peace nobody told that all are there."""
        if self.quiet_ms is None:
            return
        first_ms, last_ms = self.quiet_ms, self._loop.now_ms - LATE_MS
        due: Counter[tuple[str, int]] = Counter()
        for series, stream in self._checker.streams.items():
            # Nobody waits for what comes late by intention.
            if not stream.truth.delay_ms:
                ends = stream.truth.ends(first_ms, last_ms)
                due.update((series.interval, end_ms) for end_ms in ends)
        for (interval, end_ms), series_count in due.items():
            told = self._checker.completed.get((interval, end_ms), 0)
            # Where the only bar came with history, nothing was awaited.
            if told < series_count and (told or series_count > 1):
                yield f"{told} of {series_count} series of {interval} are told of for {end_ms}"

    def _missing(self, series: Series) -> Iterator[str]:
        stream = self._checker.streams[series]
        wanted_ms = stream.truth.newest_ended(self._loop.now_ms - LATE_MS)
        newest_ms = stream.newest.open_time_ms if stream.newest else None
        if wanted_ms is not None and (newest_ms is None or newest_ms < wanted_ms):
            yield f"{series} ends at {newest_ms}, not at {wanted_ms}"
        line = self._client.hget(KEYS.catalogue, str(series))
        if line is None or json.loads(line)["state"] != "live":
            yield f"the catalogue says of {series}: {line!r}"
        yield from self._wrong(series, stream)
        yield from self._unsaid(series)
        for group in self._groups:
            yield from self._checker.reading.unread(group, series)

    def _wrong(self, series: Series, stream: Stream) -> Iterator[str]:
        for open_time_ms, entry in stream.entries.items():
            if entry.values is None or not self._settled(stream, open_time_ms):
                continue
            _, values = stream.corrections.get(open_time_ms, (0, entry.values))
            truth = stream.truth.values(open_time_ms)
            if values != truth and not self._is_gone(stream, entry, truth):
                yield f"{series} {open_time_ms} is {values}, must be {truth}"

    def _settled(self, stream: Stream, open_time_ms: int) -> bool:
        bar = stream.truth.bar(open_time_ms)
        assert bar is not None
        return bar.end_ms + stream.truth.delay_ms + LATE_MS <= self._loop.now_ms

    def _is_gone(self, stream: Stream, entry: Entry, truth: Values) -> bool:
        """Tell whether TradingView has the bar no longer and never said its last values."""
        opened = stream.truth.opened_since(entry.open_time_ms, self._loop.now_ms)
        said_ms = stream.truth.sent_ms(entry.open_time_ms, truth)
        return opened > self._window_bars and said_ms < entry.seen_ms

    def _unsaid(self, series: Series) -> Iterator[str]:
        for gap_series, after, before_ms in self._checker.gaps:
            said = any((str(series), ms, before_ms) in self._checker.announced for ms in after)
            if gap_series == series and not said:
                yield f"no event tells of the gap of {series} between {after[0]} and {before_ms}"

    def unchanged(self) -> None:
        """Compare the record of each stream with the stream. Raises Violation."""
        for series, stream in self._checker.streams.items():
            stands: dict[int, Any] = {}
            for raw_id, fields in self._client.xrange(KEYS.bars(series)):
                stands.setdefault(int(raw_id.split(b"-")[0]), fields)
            recorded = {ms: entry.fields for ms, entry in stream.entries.items()}
            if stands != recorded:
                self._checker.fail(f"entries of {series} changed or went")
