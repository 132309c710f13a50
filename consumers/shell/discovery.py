"""Which lanes there could be: the series that are named or match, and the events."""

from __future__ import annotations

from dataclasses import dataclass, field

from consumers.core.lane import Lane, Source
from consumers.core.standing import EVENTS_NAME
from consumers.core.wishes import Wishes
from consumers.core.work import Kind
from consumers.shell.catalogue import Catalogue
from publisher.wire import Keys, Series


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
        matched = self.wishes.named
        if self.wishes.is_open:
            matched |= self.wishes.matched(self.catalogue.read())
        self.due_ms = now_ms + self.every_ms
        before, self._found = self._found, {str(x): x for x in sorted(matched)}
        return before.keys() != self._found.keys()

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
