"""Begins to read the streams of leases that came to this member; makes lost groups again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from consumers.core.ids import EntryId
from consumers.core.lane import Phase, Source
from consumers.core.start import START_FORMS, Start
from consumers.core.work import Kind
from consumers.errors import (
    ConsumerError,
    Fenced,
    GroupLost,
    GroupUnavailable,
    StartRequired,
    UsageError,
)
from consumers.shell.group import Group, TakenOver
from consumers.shell.threads import Desk, Tuning

log = structlog.get_logger("consumers")

_FROM_NOW_ON = Start("newest")


def checkpoint_name(source: Source) -> str:
    """Return under which name a stream's position is kept."""
    name = source.lane.name
    return f"@corrections:{name}" if source.kind is Kind.CORRECTIONS else name


@dataclass(slots=True)
class Attacher:
    """Takes over streams, each at the place where the group left it."""

    desk: Desk
    group: Group
    start: Start | None
    tuning: Tuning
    _begun: bool = False
    _due: dict[Source, int] = field(default_factory=dict)
    """When a stream that was lost or refused is tried again."""
    _refused: set[Source] = field(default_factory=set)

    def due_ms(self) -> int | None:
        """Return when the next stream is tried again."""
        return min(self._due.values(), default=None)

    def attach(self, now_ms: int) -> list[tuple[Source, Fenced]]:
        """Begin with the streams that are held and not read yet.

        Returns those that are another member's by now. Raises GroupUnavailable,
        and StartRequired where nothing else was begun before.
        """
        with self.desk.lock:
            outside = [
                source
                for lane in self.desk.lanes.held()
                if not lane.leaving
                for source in lane.sources.values()
                if source.phase is Phase.OUTSIDE
            ]
        self._due = {x: due for x, due in self._due.items() if x in outside}
        fresh = [x for x in outside if self._due.get(x, 0) <= now_ms]
        if not fresh:
            return []
        taken = self._taken(fresh)
        lost = [x for x in fresh if isinstance(taken[x.key], GroupLost)]
        checkpoints = self._checkpoints(fresh)
        if lost:
            made = self._make(lost, checkpoints, now_ms)
            taken |= self._taken(made)
            fresh = [x for x in fresh if x not in lost or x in made]
        self._begun = True
        return self._begin(fresh, taken, checkpoints, now_ms)

    def _taken(self, sources: Sequence[Source]) -> dict[str, TakenOver | ConsumerError]:
        return self.group.take_over({x.key: x.lane.token for x in sources})

    def _checkpoints(self, sources: Iterable[Source]) -> dict[Source, EntryId]:
        names = {x: checkpoint_name(x) for x in sources}
        found = self.group.checkpoints(list(names.values()))
        return {x: found[name] for x, name in names.items() if name in found}

    def _make(
        self, lost: Sequence[Source], checkpoints: Mapping[Source, EntryId], now_ms: int
    ) -> list[Source]:
        """Create groups where they are missing; return the streams that have one now."""
        positions: dict[Source, EntryId] = {}
        for source in lost:
            try:
                positions[source] = self._position(source, checkpoints.get(source))
            except ConsumerError as error:
                if error.retryable or (isinstance(error, UsageError) and not self._begun):
                    raise
                self._refuse(source, error, now_ms)
        outcomes = self.group.create({x.key: position for x, position in positions.items()})
        made = []
        for source, position in positions.items():
            outcome = outcomes[source.key]
            if isinstance(outcome, ConsumerError):
                self._postpone(source, outcome, now_ms)
            else:
                made.append(source)
                self._tell_made(source, position, source in checkpoints)
        return made

    def _tell_made(self, source: Source, position: EntryId, known: bool) -> None:
        if known or source.attached:
            self.desk.counts.groups_lost += 1
            log.warning(
                "group.lost",
                series=source.lane.name,
                key=source.key,
                group=self.group.group,
                resumed_after=str(position),
            )

    def _position(self, source: Source, checkpoint: EntryId | None) -> EntryId:
        """Return where a group that does not exist begins; never again where it was before."""
        known = [] if checkpoint is None else [checkpoint]
        known += [source.position] if source.attached else []
        if known:
            return max(known)
        if source.kind is Kind.EVENTS:
            return self.group.start_position(source.key, _FROM_NOW_ON)
        if self.start is None:
            raise StartRequired(
                f"group {self.group.group!r} sees {source.lane.name} for the first time: "
                f"choose where it starts, {START_FORMS}"
            )
        return self.group.start_position(source.key, self.start)

    def _begin(
        self,
        fresh: Iterable[Source],
        taken: Mapping[str, TakenOver | ConsumerError],
        checkpoints: Mapping[Source, EntryId],
        now_ms: int,
    ) -> list[tuple[Source, Fenced]]:
        fenced = []
        for source in fresh:
            outcome = taken[source.key]
            if isinstance(outcome, Fenced):
                fenced.append((source, outcome))
            elif isinstance(outcome, ConsumerError):
                self._postpone(source, outcome, now_ms)
            else:
                self._attached(source, outcome, checkpoints.get(source))
        return fenced

    def _attached(self, source: Source, taken: TakenOver, checkpoint: EntryId | None) -> None:
        position = taken.position
        if taken.trimmed:  # acknowledged, and still to be told
            position = min(position, taken.trimmed[0].before())
        with self.desk.lock:
            source.attach(position, taken.delivered, checkpoint)
            source.trimmed = taken.trimmed
        self._due.pop(source, None)
        self._refused.discard(source)
        self.desk.counts.claimed += taken.entries
        if taken.entries:
            log.info("entry.claimed", series=source.lane.name, entries=taken.entries)
        log.info(
            "series.attached",
            series=source.lane.name,
            kind=source.kind.value,
            group=self.group.group,
            after=str(taken.position),
            token=source.lane.token,
        )

    def _postpone(self, source: Source, error: ConsumerError, now_ms: int) -> None:
        if isinstance(error, GroupUnavailable):
            raise error
        if error.retryable:
            log.debug("group.doubted", key=source.key, error=str(error))
            self._due[source] = now_ms + self.tuning.repair_ms
        else:
            self._refuse(source, error, now_ms)

    def _refuse(self, source: Source, error: ConsumerError, now_ms: int) -> None:
        if source not in self._refused:
            self._refused.add(source)
            name, group = source.lane.name, self.group.group
            log.error("series.refused", series=name, group=group, error=str(error))
        self._due[source] = now_ms + self.tuning.refused_ms

    def lose(self, source: Source, error: ConsumerError, now_ms: int) -> None:
        """Let go of a stream that was lost or refused; `attach` comes back to it."""
        with self.desk.lock:
            self.desk.lanes.lose(source)
        self._postpone(source, error, now_ms)
