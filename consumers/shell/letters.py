"""Dead letters: written before an entry is acknowledged, and handed over again on request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from redis.exceptions import ResponseError

from bus.connection import Client
from consumers.core.ids import EntryId
from consumers.core.lane import Lane
from consumers.core.lanes import Letter, Replayed
from consumers.core.work import Kind, Work
from consumers.errors import StreamRefused
from consumers.shell.intake import decode
from consumers.shell.streams import Fields, as_entry, translated
from consumers.shell.threads import Desk
from publisher.wire import EntryMalformed, Keys

log = structlog.get_logger("consumers")

DEAD_LETTERS_MAX: Final = 100_000
"""About so many dead letters are kept per group; beyond, the oldest go."""
TRACEBACK_LENGTH_MAX: Final = 16_000
"""Of a traceback the end is kept, which says where it happened."""
_ORIGINAL: Final = b"original."


@dataclass(slots=True)
class Letters:
    """The dead letters of one group; used by the reader's thread."""

    desk: Desk
    client: Client
    keys: Keys
    group: str
    member: str
    retry_ms: int
    due_ms: int = 0
    """Until then nothing is written, for the server refused the last one."""

    def write(self, now_ms: int) -> None:
        """Write what was given up on, and let it be acknowledged then."""
        if now_ms < self.due_ms:
            return
        while (letter := self._first()) is not None:
            try:
                self._write(letter)
            except StreamRefused as error:
                log.error("entry.dead_letter_failed", key=letter.source.key, error=str(error))
                self.due_ms = now_ms + self.retry_ms
                return
            with self.desk.lock:
                if letter in self.desk.lanes.letters:
                    self.desk.lanes.letters.remove(letter)
                    self.desk.lanes.acknowledge(letter.source, [letter.entry])
            self.desk.counts.dead_lettered += 1
            log.error(
                "entry.dead_lettered",
                key=letter.source.key,
                id=str(letter.entry),
                reason=letter.failure.reason,
            )

    def next_ms(self) -> int | None:
        """Return when a letter is to be written; None where there is none."""
        return None if self._first() is None else self.due_ms

    def _first(self) -> Letter | None:
        with self.desk.lock:
            return next(iter(self.desk.lanes.letters), None)

    def _write(self, letter: Letter) -> None:
        fields: dict[Any, Any] = {
            "reason": letter.failure.reason,
            "traceback": letter.failure.traceback[-TRACEBACK_LENGTH_MAX:],
            "key": letter.source.key,
            "id": str(letter.entry),
            "kind": letter.source.kind.value,
            "series": letter.source.lane.name,
            "attempts": letter.attempts,
            "consumer": self.member,
            "buried_ms": self.desk.clock.wall_ms(),
        }
        fields |= {_ORIGINAL + name: value for name, value in letter.fields.items()}
        key = self.keys.dead(self.group)
        with translated():
            try:
                self.client.xadd(key, fields, maxlen=DEAD_LETTERS_MAX, approximate=True)
            except ResponseError as error:
                raise StreamRefused(f"{key}: {error}") from error

    def replay(self, lane: Lane, letter_id: str) -> None:
        """Hand a dead letter over again; one that cannot be is let be, and told."""
        entry = EntryId.parse(letter_id)
        with self.desk.lock:
            if entry in self.desk.lanes.replaying:
                return
        key = self.keys.dead(self.group)
        try:
            with translated():
                found: Any = self.client.xrange(key, letter_id, letter_id, count=1)
            work = self._work(lane, entry, as_entry(found[0])[1] if found else {})
        except (EntryMalformed, StreamRefused, ValueError, KeyError) as error:
            self._forget(entry, f"it cannot be handed over: {error}")
            return
        with self.desk.lock:
            self.desk.lanes.replay(work)
        self.desk.worker_bell.ring()

    @staticmethod
    def _work(lane: Lane, letter: EntryId, fields: Fields) -> Work:
        if not fields:
            raise EntryMalformed("there is no such dead letter")
        kind = Kind(fields.get(b"kind", b"bars").decode())
        original = {
            name.removeprefix(_ORIGINAL): value
            for name, value in fields.items()
            if name.startswith(_ORIGINAL)
        }
        bar, event = decode(kind, lane.series, original)
        entry = EntryId.parse(fields[b"id"])
        return Work(lane, entry, kind, bar, event, fields=original, replay_of=letter)

    def end_replays(self) -> None:
        """Remove the dead letters that were handled, and keep those that failed again."""
        with self.desk.lock:
            ended = list(self.desk.lanes.replayed)
        for one in ended:
            self._end(one)
            with self.desk.lock:
                lanes = self.desk.lanes
                lanes.replaying.discard(one.letter)
                lanes.replayed = [x for x in lanes.replayed if x is not one]

    def _end(self, one: Replayed) -> None:
        if one.failure is not None:
            self._forget(one.letter, one.failure.reason)
            return
        with translated():
            self.client.xdel(self.keys.dead(self.group), str(one.letter))
            self.client.hdel(self.keys.group(self.group, "replays"), str(one.letter))
        self.desk.counts.replayed += 1
        log.info("dead_letter.replayed", id=str(one.letter), series=one.lane.name)

    def _forget(self, letter: EntryId, reason: str) -> None:
        with translated():
            self.client.hdel(self.keys.group(self.group, "replays"), str(letter))
        log.error("dead_letter.replay_failed", id=str(letter), error=reason)

    def replay_all(self, replays: Mapping[str, str], lanes: Mapping[str, Lane]) -> None:
        """Hand over again what was asked for, of the lanes held here."""
        for letter_id, name in replays.items():
            if name in lanes:
                self.replay(lanes[name], letter_id)
