"""Brings what the server gave to the desk: decoded, and judged for what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from bus.connection import Client
from consumers.core.arrivals import Arrival, Doubt, Sifted, judge, sift
from consumers.core.ids import EntryId
from consumers.core.lane import Source
from consumers.core.work import Gap, Kind
from consumers.errors import ConsumerError
from consumers.shell.streams import Entry, as_entry, translated
from consumers.shell.threads import Desk
from publisher.wire import EntryMalformed, Series, decode_bar

log = structlog.get_logger("consumers")


@dataclass(slots=True)
class Intake:
    """Puts entries on the desk; used by the reader's thread."""

    desk: Desk
    client: Client

    def deliver(self, source: Source, arrivals: Iterable[Arrival]) -> None:
        """Put what a stream gave, in ascending order, on the desk."""
        with self.desk.lock:
            found = sift(source, arrivals)
        for doubt in found.doubts:
            doubt.work.gap = self._judged(source, doubt)
        with self.desk.lock:
            lanes = self.desk.lanes
            lanes.letters += found.letters
            lanes.acknowledge(source, (*found.repeated, *found.gone))
            lanes.deliver(source.lane, found.works)
        if found.works:
            self.desk.worker_bell.ring()
        self._tell(source, found)

    def _judged(self, source: Source, doubt: Doubt) -> Gap | None:
        """Look at the stream; what cannot be looked at now is told as it seems."""
        previous = f"{doubt.previous_ms}-0"
        try:
            with translated():
                pipeline = self.client.pipeline(transaction=False)
                pipeline.xrange(source.key, previous, previous, count=1)
                pipeline.xrange(source.key, count=1)
                found, first = pipeline.execute()
        except ConsumerError as error:
            log.debug("gap.unjudged", series=source.lane.name, error=str(error))
            return judge(doubt, True, None)
        return judge(doubt, bool(found), as_entry(first[0])[0] if first else None)

    def _tell(self, source: Source, found: Sifted) -> None:
        counts, name = self.desk.counts, source.lane.name
        gaps = [x.gap for x in found.works if x.gap is not None]
        counts.gaps += len(gaps)
        for gap in gaps:
            log.warning(
                "gap.seen", series=name, from_ms=gap.from_ms, to_ms=gap.to_ms, reason=gap.reason
            )
        if found.trimmed:
            counts.trimmed += found.trimmed
            log.error("entry.trimmed", series=name, entries=found.trimmed)
        if found.repeated:
            counts.repeated += len(found.repeated)
            log.info("entry.repeated", series=name, entries=len(found.repeated))


def arrivals_of(
    source: Source, entries: Iterable[Entry], attempts: Mapping[EntryId, int]
) -> list[Arrival]:
    """Return what the entries hold, decoded; attempts are 1 where nothing else is said."""
    return [_arrival(source, x, attempts.get(x[0], 1)) for x in entries]


def _arrival(source: Source, entry: Entry, attempt: int) -> Arrival:
    entry_id, fields = entry
    if not fields:
        return Arrival(entry_id, attempt)
    try:
        bar, event = decode(source.kind, source.lane.series, fields)
    except EntryMalformed as error:
        return Arrival(entry_id, attempt, fault=str(error), fields=fields)
    return Arrival(entry_id, attempt, bar, event, fields=fields)


def decode(kind: Kind, series: Series | None, fields: Mapping[bytes, bytes]) -> tuple[Any, Any]:
    """Return the bar or the event of an entry. Raises EntryMalformed."""
    if kind is not Kind.EVENTS and series is not None:
        return decode_bar(series, fields), None
    try:
        event = orjson.loads(fields[b"event"])
    except (KeyError, ValueError) as error:
        raise EntryMalformed(f"field 'event' cannot be decoded: {error!r}") from error
    if not isinstance(event, dict):
        raise EntryMalformed(f"an event must be a map, was {type(event).__name__}")
    return None, event
