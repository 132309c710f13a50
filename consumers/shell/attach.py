"""Which series are read: found by name or in the catalogue, begun, let go, made again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from consumers.core.ids import EntryId
from consumers.core.lane import Lane
from consumers.core.patterns import Pattern
from consumers.core.start import START_FORMS, Start
from consumers.errors import ConsumerError, GroupLost, GroupUnavailable, StartRequired, UsageError
from consumers.shell.catalogue import Catalogue
from consumers.shell.competing import Competing
from consumers.shell.threads import Desk, Tuning
from publisher.wire import Keys, Series

log = structlog.get_logger("consumers")


@dataclass(slots=True)
class Attacher:
    """Keeps the desk's lanes in step with what the patterns match."""

    desk: Desk
    group: Competing
    catalogue: Catalogue
    keys: Keys
    patterns: Sequence[Pattern]
    start: Start | None
    tuning: Tuning
    due_ms: int = 0
    """When the catalogue is read next."""
    _begun: bool = False
    _refused: dict[Series, int] = field(default_factory=dict)

    def discover(self, now_ms: int) -> None:
        """Begin with series that newly match and let go of those that are gone."""
        if now_ms < self.due_ms:
            return
        matched = self._matched()
        with self.desk.lock:
            wanted = {lane.series for lane in self.desk.lanes.wanted()}
        self._refused = {x: due for x, due in self._refused.items() if x in matched}
        waiting = {x for x, due in self._refused.items() if due > now_ms}
        for series in wanted - matched:
            self._let_go(series)
        self._attach(sorted(matched - wanted - waiting), now_ms)
        self._begun = True
        self.due_ms = now_ms + self.tuning.catalogue_ms

    def _matched(self) -> set[Series]:
        named = {x.series for x in self.patterns if x.series is not None}
        open_patterns = [x for x in self.patterns if x.series is None]
        if not open_patterns:
            return named
        found = self.catalogue.read()
        return named | {x for x in found if any(p.matches(x) for p in open_patterns)}

    def _let_go(self, series: Series) -> None:
        with self.desk.lock:
            self.desk.lanes.by_series[series].wanted = False
        log.info("series.let_go", series=str(series), group=self.group.group)

    def _attach(self, found: Sequence[Series], now_ms: int) -> None:
        states = self.group.look([self.keys.bars(x) for x in found])
        for series, state in zip(found, states, strict=True):
            if isinstance(state, GroupUnavailable):
                raise state
            if isinstance(state, ConsumerError):
                self._refuse(series, str(state), now_ms)
                continue
            try:
                self._begin(series, None if state is None else state.position)
            except ConsumerError as error:
                if error.retryable or (isinstance(error, UsageError) and not self._begun):
                    raise
                self._refuse(series, str(error), now_ms)

    def _begin(self, series: Series, position: EntryId | None) -> None:
        key = self.keys.bars(series)
        known = self.desk.lanes.by_series.get(series)
        lane = known or Lane(series, key)
        if position is None:
            position = lane.position if known else self._first_position(series, key)
            created = self.group.create({key: position})[key]
            if isinstance(created, ConsumerError):
                raise created
            if created:
                with self.desk.lock:
                    self.desk.lanes.restart(lane)
        with self.desk.lock:
            lane.wanted = True
            lane.processed = max(lane.processed, position)
            lane.rewind()
            self.desk.lanes.add(lane)
        self._refused.pop(series, None)
        log.info("series.attached", series=str(series), group=self.group.group, after=str(position))

    def _first_position(self, series: Series, key: str) -> EntryId:
        if self.start is None:
            raise StartRequired(
                f"group {self.group.group!r} sees {series} for the first time: "
                f"choose where it starts, {START_FORMS}"
            )
        return self.group.start_position(key, self.start)

    def _refuse(self, series: Series, error: str, now_ms: int) -> None:
        if series not in self._refused:
            log.error("series.refused", series=str(series), group=self.group.group, error=error)
        self._refused[series] = now_ms + self.tuning.refused_ms

    def repair(self) -> None:
        """Make again every group that is gone, at the last position of this process."""
        with self.desk.lock:
            lanes = self.desk.lanes.wanted()
            positions = {lane.key: lane.position for lane in lanes}
        outcomes = self.group.create(positions)
        for lane in lanes:
            outcome = outcomes[lane.key]
            if isinstance(outcome, GroupUnavailable | GroupLost):
                raise outcome
            if isinstance(outcome, ConsumerError):
                self._let_go(lane.series)
                self._refuse(lane.series, str(outcome), self.due_ms)
            elif outcome:
                self._remade(lane, positions[lane.key])

    def _remade(self, lane: Lane, position: EntryId) -> None:
        with self.desk.lock:
            self.desk.lanes.restart(lane)
        self.desk.counts.groups_lost += 1
        log.warning(
            "group.lost",
            series=str(lane.series),
            group=self.group.group,
            resumed_after=str(position),
        )
