"""Bugs that are planted to see whether the checker finds them.

Where two guards stand behind each other, one alone hides that the other is gone; such
a bug removes both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final
from unittest import mock

from bus.scripts import Script
from consumers.core.lane import Lane
from consumers.shell.attach import Attacher
from consumers.shell.competing import Claimed, Competing
from consumers.shell.worker import Worker
from publisher.core.bars import Ledger
from publisher.core.decisions import Decision, Moment, Refuse
from publisher.delivery import BATCH_BARS_MAX, Delivery
from publisher.dialogue import Dialogue
from publisher.errors import AppendUnknown
from publisher.hearing import Hearing
from publisher.roster import Roster
from publisher.shell import store
from publisher.shell.lease import RedisLease
from publisher.token_keeper import TokenKeeper
from tests.simulation.plan import Plan, after_the_close, draw
from tests.simulation.world import Outcome, simulate

Planting = AbstractContextManager[Any]


SEEDS: Final = 200
"""Within so many seeds every bug must be found."""


@dataclass(frozen=True)
class Bug:
    """A bug, how to plant it, and where to look."""

    name: str
    plant: Callable[[], Planting]
    seeds: tuple[int, ...] = ()
    """Found with these before, so they come first."""
    scenario: Callable[[], Plan] | None = None
    """The one course of things in which it shows, where others hide it."""
    only: frozenset[str] = frozenset()
    """The faults that show it and nothing else, where others would show another."""

    def plans(self) -> Iterator[Plan]:
        """Yield what to try, in order."""
        if self.scenario is not None:
            yield self.scenario()
            return
        for seed in dict.fromkeys((*self.seeds, *range(SEEDS))):
            plan = draw(seed)
            yield replace(plan, mix=self.only, strikes=()) if self.only else plan

    def hunt(self) -> Outcome | None:
        """Plant it and return the first run in which the checker found something."""
        for plan in self.plans():
            outcome = simulate(plan, bug=self.plant())
            if outcome.violation:
                return outcome
        return None


def _method(owner: Any, name: str, make: Callable[[Any], Any]) -> Planting:
    """Replace a method by what `make` makes of it."""
    return mock.patch.object(owner, name, make(getattr(owner, name)))


def _script(name: str, before: str, after: str) -> Planting:
    """Change the text of a script."""
    script: Script = getattr(store, name)
    assert before in script.text, f"{name} has changed: {before!r}"
    text = script.text.replace(before, after)
    sha = hashlib.sha1(text.encode()).hexdigest()
    return mock.patch.object(store, name, Script(text, sha))


@contextmanager
def _both(*plantings: Callable[[], Planting]) -> Iterator[None]:
    with ExitStack() as stack:
        for plant in plantings:
            stack.enter_context(plant())
        yield


@contextmanager
def _no_fence() -> Iterator[None]:
    with ExitStack() as stack:
        for name in ("_APPEND", "_PUT", "_DESCRIBE"):
            fence = "if seen > tonumber(token) then\n    return true"
            stack.enter_context(_script(name, fence, fence.replace("true", "false")))
        yield


def _no_lease() -> Planting:
    return _method(
        RedisLease, "renew", lambda real: lambda self, token: bool(real(self, token) + 1)
    )


def _no_succession() -> Planting:
    return _script("_APPEND", "elseif (tonumber(before) or 0) ~= last then", "elseif false then")


def _close_early() -> Planting:
    def make(real: Any) -> Any:
        def deadline_ms(self: Ledger, settle_ms: int) -> int | None:
            due_ms = real(self, settle_ms)
            return None if due_ms is None else due_ms - 25_000

        return deadline_ms

    return _method(Ledger, "deadline_ms", make)


def _machines_clock() -> Planting:
    def make(real: Any) -> Any:
        def moment(self: Hearing, *arguments: Any) -> Moment:
            found: Moment = real(self, *arguments)
            return replace(found, server_ms=self._ports.clock.wall_ms())

        return moment

    return _method(Hearing, "_moment", make)


def _no_comparison() -> Planting:
    def make(real: Any) -> Any:
        def finish_closed(self: Ledger, point: Any, at: Moment) -> list[Decision]:
            old = self.watermark_ms is not None and point.open_time_ms <= self.watermark_ms
            return [] if old else real(self, point, at)

        return finish_closed

    return _method(Ledger, "_finish_closed", make)


def _drop_unknown() -> Planting:
    def make(real: Any) -> Any:
        def flush_bars(self: Delivery, publications: Any, flushed: Any) -> None:
            waiting = list(publications)
            try:
                real(self, waiting, flushed)
            except AppendUnknown:
                for publication in waiting:
                    for _ in range(min(BATCH_BARS_MAX, len(publication.outbox))):
                        publication.outbox.popleft()
                raise

        return flush_bars

    return _method(Delivery, "_flush_bars", make)


def _keep_session() -> Planting:
    def make(real: Any) -> Any:
        def lose(self: Dialogue, link: Any, error: Any) -> None:
            session = link.session
            real(self, link, error)
            link.session = session

        return lose

    return _method(Dialogue, "_lose", make)


def _stale_look() -> Planting:
    def make(real: Any) -> Any:
        def expire(self: Dialogue, link: Any, now_ms: int, drained_ms: int) -> None:
            if link.session is not None:
                self._hearing.expire(link.session, now_ms, now_ms)
            real(self, link, now_ms, drained_ms)

        return expire

    return _method(Dialogue, "_expire", make)


def _acknowledge_first() -> Planting:
    def make(real: Any) -> Any:
        def handle(self: Worker, work: Any) -> None:
            with self.desk.lock:
                self.desk.lanes.finish(work)
            self._report()
            for handler in self._handlers_of(work.bar.series):
                handler(work.bar)

        return handle

    return _method(Worker, "_handle", make)


def _no_claims() -> Planting:
    def take_over(self: Competing, keys: Any, idle_ms: int) -> dict[str, tuple[int, int]]:
        return dict.fromkeys(keys, (0, 0))

    def claim(self: Competing, keys: Any, idle_ms: int, count: int) -> Mapping[str, Claimed]:
        return {key: Claimed([], 0) for key in keys}

    return _both(
        lambda: mock.patch.object(Competing, "take_over", take_over),
        lambda: mock.patch.object(Competing, "claim", claim),
    )


def _nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


def _silent(owner: Any, name: str) -> Callable[[], Planting]:
    return lambda: mock.patch.object(owner, name, _nothing)


def _refuse_and_forget() -> Planting:
    def refuse(self: Ledger, refused: Any, latest_ms: int, alone: bool) -> list[Decision]:
        return [Refuse(refused.reason, refused.open_time_ms)]

    return mock.patch.object(Ledger, "_refuse", refuse)


BUGS: Final = (
    Bug("ignores the fence", _no_fence, (0,)),
    Bug("ignores the lease, and the fence", lambda: _both(_no_lease, _no_fence), (0,)),
    Bug("closes early", _close_early, (0,)),
    Bug("closes by the machine's clock", _machines_clock, (7,)),
    Bug("closes although the socket was not read", _stale_look, (85,)),
    Bug(
        "publishes the forming bar of a history",
        lambda: mock.patch.object(Ledger, "_newest_ended", return_value=True),
        (0,),
    ),
    Bug("compares nothing after an interruption", _no_comparison, (5,)),
    Bug(
        "ignores corrections",
        lambda: mock.patch.object(Ledger, "_compare", return_value=[]),
        (0,),
    ),
    Bug(
        "says nothing of a gap",
        lambda: mock.patch.object(Ledger, "_gap_before", return_value=False),
        (2,),
    ),
    Bug("forgets that values were refused", _refuse_and_forget, (4,)),
    Bug("appends whatever was there before", _no_succession, (0,)),
    Bug(
        "drops bars whose reply was lost, and appends whatever was there before",
        lambda: _both(_drop_unknown, _no_succession),
        (0,),
        only=frozenset({"cut", "reply_lost"}),
    ),
    Bug(
        "appends again under another ID",
        lambda: _script(
            "_APPEND",
            "present = present + 1",
            "redis.call('XADD', KEYS[1], open_time .. '-*', ARGV[4], payload)",
        ),
        (0,),
    ),
    Bug(
        "does not look at what a failover lost",
        _silent(Roster, "doubt_all"),
        scenario=after_the_close,
    ),
    Bug("does not ask again after a reconnect", _silent(Roster, "interrupt"), (3,)),
    Bug("keeps the session of a lost connection", _keep_session, (3,)),
    Bug(
        "never renews a token",
        lambda: mock.patch.object(TokenKeeper, "_is_due", lambda self, *_: self.token is None),
        (6,),
    ),
    Bug("acknowledges before the handler", _acknowledge_first, (0,)),
    Bug("does not read again what a lost reply held", _silent(Lane, "rewind"), (35,)),
    Bug("takes over nothing", _no_claims, (6,)),
    Bug("does not make a lost group again", _silent(Attacher, "repair"), (23,)),
)
