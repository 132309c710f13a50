"""What the handlers of a consumer want to be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from consumers.core.patterns import Pattern
from consumers.core.work import Kind
from publisher.wire import Series


@dataclass(frozen=True, slots=True)
class Wishes:
    """The series wanted of each kind, by name or pattern, and whether events are."""

    bars: Sequence[Pattern] = ()
    corrections: Sequence[Pattern] = ()
    forming: Sequence[Pattern] = ()
    """Held like the others, but read elsewhere: nothing of it is acknowledged."""
    events: bool = False

    @property
    def _all(self) -> tuple[Pattern, ...]:
        return (*self.bars, *self.corrections, *self.forming)

    @property
    def named(self) -> set[Series]:
        """The series that count whether or not the publisher knows them."""
        return {x.series for x in self._all if x.series is not None}

    @property
    def is_open(self) -> bool:
        """Whether the catalogue tells more of what is wanted."""
        return any(x.series is None for x in self._all)

    def matched(self, found: Iterable[Series]) -> set[Series]:
        """Return those of the found series that somebody wants."""
        return {x for x in found if any(pattern.matches(x) for pattern in self._all)}

    def kinds(self, series: Series) -> list[Kind]:
        """Return which streams of a series are read."""
        by_kind = {Kind.BARS: self.bars, Kind.CORRECTIONS: self.corrections}
        return [x for x, some in by_kind.items() if any(p.matches(series) for p in some)]
