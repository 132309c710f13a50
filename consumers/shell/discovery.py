"""Which lanes there could be: the series that are named or match, and the events."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import structlog

from consumers.core.lane import Lane, Source
from consumers.core.standing import EVENTS_NAME
from consumers.core.wishes import Wishes
from consumers.core.work import Kind
from consumers.shell.catalogue import Catalogue
from publisher.wire import Keys, Series

log = structlog.get_logger("consumers")


@dataclass(slots=True)
class Discovery:
    """Keeps in step with the publisher's catalogue."""

    wishes: Wishes
    catalogue: Catalogue
    keys: Keys
    every_ms: int
    ordered: bool = True
    due_ms: int = 0
    """When the catalogue is read next."""
    _found: dict[str, Series] = field(default_factory=dict)

    def look(self, now_ms: int) -> bool:
        """Read the catalogue where it is due; tell whether anything changed."""
        if now_ms < self.due_ms:
            return False
        is_first = not self.due_ms
        known = self.catalogue.read() if is_first or self.wishes.is_open else set()
        matched = self.wishes.named | self.wishes.matched(known)
        if is_first:
            self._tell_unpublished(known, matched)
        self.due_ms = now_ms + self.every_ms
        before, self._found = self._found, {str(x): x for x in sorted(matched)}
        return before.keys() != self._found.keys()

    def _tell_unpublished(self, known: Collection[Series], matched: Collection[Series]) -> None:
        """Say so where nothing can come yet: a typing error looks like a quiet market."""
        for series in sorted(self.wishes.named - set(known)):
            log.warning("series.unpublished", series=str(series), cure=f"tvbus subscribe {series}")
        if self.wishes.is_open and not matched:
            log.warning("series.unmatched", published=len(known), cure="tvbus series lists them")

    @property
    def names(self) -> list[str]:
        """The leases that this member wants now."""
        return [*self._found, *([EVENTS_NAME] if self.wishes.events else [])]

    def lane(self, name: str) -> Lane:
        """Return a new lane for a name."""
        if name == EVENTS_NAME:
            return Lane(name, None, {Kind.EVENTS: self._source(self.keys.events, Kind.EVENTS)})
        series = self._found.get(name) or Series.parse(name)
        keys = {
            Kind.BARS: self.keys.bars(series),
            Kind.CORRECTIONS: self.keys.corrections(series),
        }
        sources = {x: self._source(keys[x], x) for x in self.wishes.kinds(series)}
        return Lane(name, series, sources)

    def _source(self, key: str, kind: Kind) -> Source:
        return Source(key, kind, self.ordered)
