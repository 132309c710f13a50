"""Bugs planted in the publisher.

Where two guards stand behind each other, one alone hides that the other is gone; such
a bug removes both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Final
from unittest import mock

from publisher.core import barriers, bars
from publisher.core.bars import Ledger
from publisher.core.decisions import Decision, Moment, Refuse
from publisher.delivery import BATCH_BARS_MAX, Delivery
from publisher.dialogue import Dialogue
from publisher.engine import Engine
from publisher.errors import AppendUnknown
from publisher.hearing import Hearing
from publisher.roster import Roster
from publisher.shell import store
from publisher.shell.lease import RedisLease
from publisher.token_keeper import TokenKeeper
from tests.simulation.plan import after_the_close
from tests.simulation.planting import Bug, Planting, always, method, script, silent, together


def _script(name: str, before: str, after: str) -> Planting:
    return script(store, name, (before, after))


@contextmanager
def _no_fence() -> Iterator[None]:
    with ExitStack() as stack:
        for name in ("_APPEND", "_PUT", "_DESCRIBE"):
            fence = "if seen > tonumber(token) then\n    return true"
            stack.enter_context(_script(name, fence, fence.replace("true", "false")))
        yield


def _no_lease() -> Planting:
    return method(RedisLease, "renew", lambda real: lambda self, token: bool(real(self, token) + 1))


def _no_succession() -> Planting:
    return _script("_APPEND", "elseif (tonumber(before) or 0) ~= last then", "elseif false then")


def _close_early() -> Planting:
    def make(real: Any) -> Any:
        def deadline_ms(self: Ledger, settle_ms: int) -> int | None:
            due_ms = real(self, settle_ms)
            return None if due_ms is None else due_ms - 25_000

        return deadline_ms

    return method(Ledger, "deadline_ms", make)


def _machines_clock() -> Planting:
    def make(real: Any) -> Any:
        def moment(self: Hearing, *arguments: Any) -> Moment:
            found: Moment = real(self, *arguments)
            return replace(found, server_ms=self._ports.clock.wall_ms())

        return moment

    return method(Hearing, "_moment", make)


def _no_comparison() -> Planting:
    def make(real: Any) -> Any:
        def finish_closed(self: Ledger, point: Any, at: Moment) -> list[Decision]:
            old = self.watermark_ms is not None and point.open_time_ms <= self.watermark_ms
            return [] if old else real(self, point, at)

        return finish_closed

    return method(Ledger, "_finish_closed", make)


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

    return method(Delivery, "_flush_bars", make)


def _keep_session() -> Planting:
    def make(real: Any) -> Any:
        def lose(self: Dialogue, link: Any, error: Any) -> None:
            session = link.session
            real(self, link, error)
            link.session = session

        return lose

    return method(Dialogue, "_lose", make)


def _stale_look() -> Planting:
    def make(real: Any) -> Any:
        def expire(self: Dialogue, link: Any, now_ms: int, drained_ms: int) -> None:
            if link.session is not None:
                self._hearing.expire(link.session, now_ms, now_ms)
            real(self, link, now_ms, drained_ms)

        return expire

    return method(Dialogue, "_expire", make)


def _refuse_and_forget() -> Planting:
    def refuse(self: Ledger, refused: Any, latest_ms: int, alone: bool) -> list[Decision]:
        return [Refuse(refused.reason, refused.open_time_ms)]

    return mock.patch.object(Ledger, "_refuse", refuse)


def _no_settling() -> Planting:
    def make(real: Any) -> Any:
        return lambda self, settle_ms: real(self, 0)

    return method(Ledger, "deadline_ms", make)


def _no_overlap() -> Planting:
    return mock.patch.object(bars, "OVERLAP_BARS", 0)


def _no_renewal() -> Planting:
    return mock.patch.object(TokenKeeper, "_is_due", lambda self, *_: self.token is None)


def _of(*kinds: str) -> frozenset[str]:
    return frozenset(kinds)


LONG_AWAY: Final = _of("all_publishers_killed", "refuse", "bus_away", "silence", "mute")
BUGS: Final = (
    Bug("ignores the fence", _no_fence, 2),
    Bug("ignores the lease, and the fence", lambda: together(_no_lease, _no_fence), 2),
    Bug("closes early", _close_early),
    Bug("does not wait for the settle time", _no_settling, 4),
    Bug("closes by the machine's clock", _machines_clock, 12, needs=_of("clock_jump")),
    Bug("closes although the socket was not read", _stale_look, 42, needs=_of("publisher_frozen")),
    Bug("ignores the delay of a symbol", silent(Ledger, "set_delay"), 5),
    Bug("publishes the forming bar of a history", always(Ledger, "_newest_ended", True)),
    Bug("compares nothing after an interruption", _no_comparison, 5),
    Bug("asks for no overlap", _no_overlap, 5),
    Bug("takes what comes for all there is", always(Ledger, "_missing", 0), 167),
    Bug("ignores corrections", always(Ledger, "_compare", []), 2),
    Bug(
        "says nothing of a gap on the bar",
        always(Ledger, "_gap_before", False),
        13,
        needs=LONG_AWAY,
    ),
    Bug(
        "says nothing of a gap in the events",
        silent(Hearing, "_tell_abandoned"),
        13,
        needs=LONG_AWAY,
    ),
    Bug("forgets that values were refused", _refuse_and_forget, 51, needs=_of("bad_values")),
    Bug("appends whatever was there before", _no_succession, 7),
    Bug(
        "drops bars whose reply was lost, and appends whatever was there before",
        lambda: together(_drop_unknown, _no_succession),
        13,
        only=frozenset({"cut", "reply_lost"}),
    ),
    Bug(
        "appends again under another ID",
        lambda: _script(
            "_APPEND",
            "present = present + 1",
            "redis.call('XADD', KEYS[1], open_time .. '-*', ARGV[4], payload)",
        ),
        3,
    ),
    Bug(
        "does not look at what a failover lost",
        silent(Roster, "doubt_all"),
        scenario=after_the_close,
    ),
    Bug("calls an interval complete at its first bar", always(barriers, "_belongs", False), 1),
    Bug("tells of no interval", silent(Engine, "_tell_completed"), 1),
    Bug("does not ask again after a reconnect", silent(Roster, "interrupt")),
    Bug("keeps the session of a lost connection", _keep_session),
    Bug("never renews a token", _no_renewal, 16),
)
