"""What this member holds: beats, and lanes that come and go with their leases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import structlog

from consumers.core.lane import Lane
from consumers.core.standing import Standing
from consumers.errors import Fenced
from consumers.shell.discovery import Discovery
from consumers.shell.letters import Letters
from consumers.shell.membership import Membership
from consumers.shell.threads import Desk

log = structlog.get_logger("consumers")

BEAT_MS_MAX: Final = 1_000
"""Between two beats, however long the lease is: what others gave up is noticed by then."""


@dataclass(slots=True)
class Tenure:
    """Keeps the desk's lanes in step with the leases; used by the reader's thread."""

    desk: Desk
    membership: Membership
    discovery: Discovery
    letters: Letters
    group: str
    due_ms: int = 0
    """When the next beat is."""
    _floor: int = 0
    _released: dict[str, int] = field(default_factory=dict)
    """Name → token, given back by the next beat."""

    def release(self, leases: dict[str, int]) -> None:
        """Give leases back; the next beat is due at once then."""
        if leases:
            self._released |= leases
            self.due_ms = 0

    def beat(self, now_ms: int) -> None:
        """Beat where it is due. Raises as `Membership.beat` does."""
        if self.discovery.look(now_ms):
            self.due_ms = now_ms
        if now_ms < self.due_ms:
            return
        names = self.discovery.names
        standing = self.membership.beat(names, self._released, now_ms, self._floor)
        self._released, self._floor = {}, 0
        self.due_ms = now_ms + min(standing.again_ms, BEAT_MS_MAX)
        with self.desk.lock:
            lost = self._stand(standing)
            held = {x.name: x for x in self.desk.lanes.held()}
        self.desk.worker_bell.ring()
        for name in lost:
            self._tell_lost(name, "the lease ended")
        self.letters.replay_all(standing.replays, held)

    def _stand(self, standing: Standing) -> list[str]:
        lanes, lost = self.desk.lanes, []
        for lane in lanes.held():
            if standing.leases.get(lane.name) != lane.token:
                lanes.drop(lane)
                lost.append(lane.name)
        for name, token in standing.leases.items():
            if name not in lanes.by_name:
                lanes.by_name[name] = self.discovery.lane(name)
            lane = lanes.by_name[name]
            lane.token = token
            lanes.set_leaving(lane, name in standing.handing_over)
        lanes.valid_until_ms = standing.valid_until_ms
        return lost

    def fenced(self, lane: Lane, error: Fenced) -> None:
        """Let a lane go that a higher token rules; the next lease's must be higher still."""
        if not lane.token:
            return
        self._floor = max(self._floor, error.token)
        self.release({lane.name: lane.token})
        with self.desk.lock:
            self.desk.lanes.drop(lane)
        self._tell_lost(lane.name, str(error))

    def _tell_lost(self, name: str, reason: str) -> None:
        log.warning("lease.lost", series=name, group=self.group, reason=reason)
