"""Watch series without a group: nothing is acknowledged and nothing is remembered."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import structlog

from bus.connection import Client, connect_reader
from consumers.core.backoff import BUS_BACKOFF
from consumers.core.ids import EntryId
from consumers.core.patterns import Pattern
from consumers.core.start import Start
from consumers.errors import ConsumerError, GroupUnavailable, StreamRefused
from consumers.shell.bus import Bus
from consumers.shell.catalogue import Catalogue
from consumers.shell.streams import as_entry, start_position, translated
from consumers.shell.threads import Bell, SystemClock
from publisher.wire import Bar, EntryMalformed, Keys, Series, decode_bar

log = structlog.get_logger("consumers")
_clock = SystemClock()

BLOCK_MS: Final = 1_000
"""Longest wait in one call; also how often `stopped` is asked."""
COUNT: Final = 100
REPAIR_MS: Final = 200
"""Least wait after a key turned out not to be a stream."""


def follow(
    *patterns: str,
    start: str = "newest",
    forming: bool = False,
    redis_url: str | None = None,
    prefix: str | None = None,
    state_dir: Path | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Bar]:
    """Yield bars of the series named or matched as they come, until `stopped()`.

    `start` is as for `Consumer` and counts for each series when it is first
    seen. With `forming`, updates of the bar in progress come too, from now on;
    they have `closed_by == "forming"`. An entry that cannot be decoded is logged
    and left out. A server that goes away is waited for. Raises UsageError, and
    BusUnreachable where no bus is there at the start.
    """
    wanted = [Pattern.parse(x) for x in patterns]
    rule = Start.parse(start)
    bus = Bus.find(redis_url, prefix, state_dir)
    bus.open().close()
    client = connect_reader(bus.url())
    catalogue = Catalogue(client, bus.keys.catalogue)
    watch = Watch(client, bus.keys, catalogue, wanted, rule, forming)
    try:
        while not stopped():
            yield from watch.read()
    finally:
        client.close()


@dataclass(slots=True)
class Watch:
    """What is read of which stream next."""

    client: Client
    keys: Keys
    catalogue: Catalogue
    patterns: Sequence[Pattern]
    start: Start
    forming: bool
    after: dict[str, EntryId] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    failures: int = 0
    due_ms: int = 0

    def read(self) -> list[Bar]:
        """Return what came, after at most BLOCK_MS or a wait for the server."""
        try:
            self._discover()
            bars = self._read()
        except StreamRefused:
            self._check()
            Bell().wait(REPAIR_MS)
            return []
        except GroupUnavailable as error:
            self._lost(error)
            return []
        if self.failures:
            self.failures = 0
            log.info("bus.found")
        return bars

    def _lost(self, error: ConsumerError) -> None:
        self.failures += 1
        if self.failures == 1:
            log.warning("bus.lost", error=str(error))
        rng = random.Random()  # noqa: S311 - spreads retries, guards nothing
        Bell().wait(BUS_BACKOFF.wait_ms(self.failures, rng))

    def _discover(self) -> None:
        if _clock.monotonic_ms() < self.due_ms:
            return
        matched = {x.series for x in self.patterns if x.series is not None}
        unnamed = [x for x in self.patterns if x.series is None]
        if unnamed:
            found = self.catalogue.read()
            matched |= {x for x in found if any(p.matches(x) for p in unnamed)}
        for series in sorted(matched):
            self._begin(self.keys.bars(series), series, self.start)
            if self.forming:
                self._begin(self.keys.forming(series), series, Start("newest"))
        self.due_ms = _clock.monotonic_ms() + BLOCK_MS

    def _begin(self, key: str, series: Series, start: Start) -> None:
        if key in self.after or key in self.refused:
            return
        try:
            self.after[key] = start_position(self.client, key, start)
        except StreamRefused as error:
            self._refuse(key, error)
        else:
            self.series[key] = series

    def _check(self) -> None:
        """Find the stream that is none any more."""
        for key in list(self.after):
            try:
                start_position(self.client, key, Start("newest"))
            except StreamRefused as error:
                del self.after[key]
                self._refuse(key, error)

    def _refuse(self, key: str, error: ConsumerError) -> None:
        self.refused.add(key)
        log.error("series.refused", key=key, error=str(error))

    def _read(self) -> list[Bar]:
        if not self.after:
            Bell().wait(BLOCK_MS)
            return []
        after = {key: str(entry) for key, entry in self.after.items()}
        with translated():
            reply = self.client.xread(after, COUNT, BLOCK_MS)  # type: ignore[arg-type]
        bars = []
        for name, entries in cast(list[tuple[bytes, list[Any]]], reply):
            key = name.decode()
            for raw in entries:
                entry, fields = as_entry(raw)
                self.after[key] = entry
                try:
                    bars.append(decode_bar(self.series[key], fields))
                except EntryMalformed as error:
                    log.warning("entry.refused", key=key, id=str(entry), error=str(error))
        return bars
