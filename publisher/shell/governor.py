"""Keeps the record of sign-ins on disk and on the bus, and asks it before each sign-in.

On disk, `STATE_DIR/signin/attempts`, so that a crash loop is counted without a bus;
on the bus, so that all publishers of one account share the budget. Each read merges
both. One place is enough; where neither takes the record, no password is sent.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import structlog
from pydantic import ValidationError
from redis.exceptions import RedisClusterException, RedisError

from bus import locks
from bus.connection import Client
from bus.errors import BusError
from bus.files import make_private, read_private, write_private
from bus.locks import FileLock
from bus.scripts import Call, Script, run
from publisher.core import governor as rules
from publisher.core.governor import Budget, MarkKind, Record
from publisher.core.totp import next_try
from publisher.errors import SignInError
from publisher.ports import Clock

RECORD_BYTES_MAX: Final = 65_536
RACES_MAX: Final = 20
"""How often the record on the bus is read again because another publisher wrote it."""
LOCK_MS_MAX: Final = 10_000
"""How long another process of this machine may hold the record."""
LOCK_POLL_MS: Final = 20

_SWAP: Final = Script.read("publisher.shell", "signin")
Change = Callable[[Record, int], Record]
"""Takes the record and the time in ms; may raise instead of changing it."""

Place = Literal["disk", "bus"]

log = structlog.get_logger("publisher")


@dataclass(frozen=True, slots=True)
class Forgiven:
    """What counts no longer, and where that is written down."""

    kinds: tuple[str, ...]
    places: tuple[Place, ...]


class Governor:
    """The budget of sign-ins of one account."""

    def __init__(
        self, state_dir: Path, shared: SharedRecord | None, clock: Clock, budget: Budget
    ) -> None:
        self._folder = state_dir.absolute() / "signin"
        self._shared = shared
        self._clock = clock
        self._budget = budget
        self._rng = random.SystemRandom()

    def check(self) -> None:
        """Return where a sign-in may be tried. Raises SignInError kinds that say why not."""
        rules.check(self._read(), self._clock.wall_ms(), self._budget)

    def check_ban(self) -> None:
        """Raise AccountStopped where TradingView stopped the account."""
        rules.check_ban(self._read())

    def begin(self, *, person: bool = False) -> None:
        """Count a sign-in, before it is made, so that one that crashes counts too.

        `person`: somebody at a terminal wants it in spite of what the budget says.
        Raises what `check` raises, and SignInError where it cannot be written down.
        """
        name = f"{self._rng.getrandbits(64):016x}"

        def count(record: Record, now_ms: int) -> Record:
            if not person:
                rules.check(record, now_ms, self._budget)
            return rules.with_attempt(record, name, now_ms)

        if not self._update(count):
            raise SignInError(
                "neither the state directory nor the bus can keep count of sign-ins, so none is "
                f"made: make {self._folder} writable, or set TVBUS_STATE_DIR"
            )

    def next_step(self, server_ms: int) -> tuple[int, int]:
        """Return the next time step that nobody has tried, and the ms until it begins."""
        return next_try(server_ms, self._read().step)

    def claim_step(self, server_ms: int) -> tuple[int, int]:
        """Take the next time step that nobody has tried; return it and the ms until it begins."""
        claimed = next_try(server_ms, 0)

        def claim(record: Record, _: int) -> Record:
            nonlocal claimed
            claimed = next_try(server_ms, record.step)
            return rules.with_step(record, claimed[0])

        self._update(claim)
        return claimed

    def note(self, kind: MarkKind, reason: str) -> None:
        """Remember what TradingView said, so that nothing is tried too soon."""
        self._update(lambda record, now_ms: rules.with_mark(record, kind, reason, now_ms))

    def stop(self, reason: str) -> None:
        """Remember a ban: nothing is tried any more until a person acts."""
        self.note("ban", reason)

    def stopped(self) -> str | None:
        """Return why TradingView stopped the account, None where it did not."""
        return self._read().ban

    def forgive(self) -> Forgiven:
        """Let bans and cool-downs count no longer, for a person has acted."""
        forgotten: list[str] = []

        def forgive(record: Record, now_ms: int) -> Record:
            forgotten[:] = sorted(record.marks)
            return rules.forgiven(record, now_ms)

        places = self._update(forgive)
        return Forgiven(tuple(forgotten), places)

    def _read(self) -> Record:
        known = self._read_disk()
        if self._shared is not None:
            with _telling("bus"):
                known = rules.merge(known, self._shared.read()[0])
        return rules.settle(known, self._clock.wall_ms())

    def _update(self, change: Change) -> tuple[Place, ...]:
        """Change the record in every place; return those that took it."""
        places: list[Place] = []
        with self._alone():
            known = self._read_disk()
            changed: Record | None = None
            if self._shared is not None:
                with _telling("bus"):
                    changed = self._shared.update(known, self._decide(change))
                    places.append("bus")
            if changed is None:
                changed = self._decide(change)(known)
            with _telling("disk"):
                write_private(self._file, changed.model_dump_json().encode())
                places.append("disk")
        return tuple(places)

    def _decide(self, change: Change) -> Callable[[Record], Record]:
        def decide(record: Record) -> Record:
            now_ms = self._clock.wall_ms()
            return change(rules.settle(record, now_ms), now_ms)

        return decide

    @property
    def _file(self) -> Path:
        return self._folder / "attempts"

    def _read_disk(self) -> Record:
        try:
            data = read_private(self._file, RECORD_BYTES_MAX)
            return Record() if data is None else Record.model_validate_json(data)
        except ValidationError:
            return self._damaged()
        except OSError as error:
            log.warning("signin.unrecorded", place="disk", reason=str(error))
            return Record()

    def _damaged(self) -> Record:
        """Let sign-ins rest for a while, for nobody knows what was tried before."""
        reason = f"the record of sign-ins {self._file} was damaged"
        with contextlib.suppress(OSError):
            damaged_ms = self._file.stat().st_mtime_ns // 1_000_000
            return rules.with_mark(Record(), "lock", reason, damaged_ms)
        return Record()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process of this machine change the record at a time, as far as it can."""
        lock = FileLock(self._folder / "lock")
        with _telling("disk"):
            make_private(self._folder)
            deadline_ms = self._clock.monotonic_ms() + LOCK_MS_MAX
            while locks.SUPPORTED and not lock.acquire():
                if self._clock.monotonic_ms() > deadline_ms:
                    raise OSError("another process holds the record for too long")
                time.sleep(LOCK_POLL_MS / 1000)
        try:
            yield
        finally:
            lock.release()


class SharedRecord:
    """The record on the bus; connects when it is asked, for the bus may be away."""

    def __init__(self, connect: Callable[[], Client], key: str) -> None:
        self._connect = connect
        self._key = key
        self._client: Client | None = None

    def read(self) -> tuple[Record, bytes]:
        """Return the record and its text as it stands on the bus.

        Raises what redis-py raises, or BusError.
        """
        data: Any = self._reach().get(self._key)
        text = data or b""
        try:
            return (Record.model_validate_json(text) if text else Record()), text
        except ValidationError:
            # Whoever wrote it, the disk still counts; the next write puts it right.
            log.warning("signin.unrecorded", place="bus", reason=f"{self._key} is no record")
            return Record(), text

    def update(self, known: Record, decide: Callable[[Record], Record]) -> Record:
        """Put what is decided of both records together. Raises like `read`, and what it raises."""
        for _ in range(RACES_MAX):
            there, text = self.read()
            changed = decide(rules.merge(known, there))
            call = Call(_SWAP, (self._key,), (text, changed.model_dump_json().encode()))
            [reply] = run(self._reach(), [call])
            if isinstance(reply, RedisError):
                raise reply
            if reply:
                return changed
        raise RedisError("others write the record all the time")

    def _reach(self) -> Client:
        if self._client is None:
            self._client = self._connect()
        return self._client


@contextlib.contextmanager
def _telling(place: Place) -> Iterator[None]:
    """Go on without a place that cannot be used, and say so."""
    try:
        yield
    except (OSError, RedisError, RedisClusterException, BusError) as error:
        log.warning("signin.unrecorded", place=place, reason=str(error))
