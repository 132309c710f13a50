"""Gives series up in good order: acknowledged, with their positions kept, then released."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from consumers.core.ids import EntryId
from consumers.core.lane import Lane, Phase, Source
from consumers.errors import ConsumerError, GroupUnavailable, NameTaken
from consumers.shell.attach import checkpoint_name
from consumers.shell.group import Group, Leaving
from consumers.shell.letters import Letters
from consumers.shell.membership import Membership
from consumers.shell.threads import Desk, Tuning

log = structlog.get_logger("consumers")


@dataclass(slots=True)
class Departure:
    """Hands lanes over and keeps positions; used by the reader's thread."""

    desk: Desk
    group: Group
    membership: Membership
    letters: Letters
    tuning: Tuning
    _kept_ms: int = 0

    def hand_over(self) -> dict[str, int]:
        """Give up what is to be handed over and at no handler; return name → token."""
        with self.desk.lock:
            idle = [x for x in self.desk.lanes.held() if x.leaving and not x.out]
        return self._give_up(idle) if idle else {}

    def _give_up(self, lanes: list[Lane]) -> dict[str, int]:
        with self.desk.lock:
            leaving = [self._leaving(source) for lane in lanes for source in _read(lane)]
        outcomes = self.group.hand_over([x for _, x in leaving])
        for (source, one), outcome in zip(leaving, outcomes, strict=True):
            if outcome is None:
                with self.desk.lock:
                    source.acknowledged(one.acks)
        down = [x for x in outcomes if isinstance(x, GroupUnavailable)]
        if down:
            raise down[0]
        self._keep(lanes)
        released = {lane.name: lane.token for lane in lanes}
        with self.desk.lock:
            for lane in lanes:
                self.desk.lanes.drop(lane)
        for name in released:
            log.info("series.let_go", series=name, group=self.group.group)
        return released

    def _leaving(self, source: Source) -> tuple[Source, Leaving]:
        lane, lanes = source.lane, self.desk.lanes
        acks, untouched = lanes.done_of(source), lanes.is_untouched(source)
        return source, Leaving(source.key, lane.token, acks, untouched)

    def due_ms(self) -> int | None:
        """Return when positions are to be kept; None where none changed."""
        with self.desk.lock:
            changed = any(_changed(lane) for lane in self.desk.lanes.held())
        return self._kept_ms + self.tuning.checkpoint_ms if changed else None

    def keep_positions(self, now_ms: int) -> None:
        """Keep the positions that changed, where that is due."""
        if now_ms >= self._kept_ms + self.tuning.checkpoint_ms:
            with self.desk.lock:
                lanes = self.desk.lanes.held()
            self._kept_ms = now_ms
            self._keep(lanes)

    def _keep(self, lanes: Iterable[Lane]) -> None:
        positions: dict[str, EntryId] = {}
        tokens: dict[str, int] = {}
        with self.desk.lock:
            changed = [source for lane in lanes for source in _changed(lane)]
            for source in changed:
                positions[checkpoint_name(source)] = source.kept = source.position
                tokens[source.lane.name] = source.lane.token
        if positions:
            self.group.save_checkpoints(positions, tokens)

    def leave(self) -> None:
        """End cleanly: nothing is at a handler any more."""
        try:
            self.letters.write(self.desk.clock.monotonic_ms())
            self.letters.end_replays()
            with self.desk.lock:
                held = self.desk.lanes.held()
            self._give_up(held)
            self.membership.leave()
        except ConsumerError as error:
            log.warning("group.left_dirty", group=self.group.group, error=str(error))

    def abandon(self, error: BaseException) -> None:
        """End after a failure of our own: let the others have the series at once."""
        if isinstance(error, NameTaken):
            return
        try:
            self.membership.leave()
        except ConsumerError as second:
            log.warning("group.left_dirty", group=self.group.group, error=str(second))


def _read(lane: Lane) -> list[Source]:
    return [x for x in lane.sources.values() if x.phase is not Phase.OUTSIDE]


def _changed(lane: Lane) -> list[Source]:
    # Where members compete, none of them knows what the others still have in hand.
    return [x for x in _read(lane) if x.ordered and x.position != x.kept]
