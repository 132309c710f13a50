"""Hands works to handlers: plain ones in this thread one at a time, `async` ones beside it.

A series has one work (or one batch) at a handler at a time, so its order holds.
Works go on from handler to handler; after the last one they can be acknowledged.
What a handler raised is judged by the policy: tried again, or given up.
"""

from __future__ import annotations

import inspect
import queue
import random
from collections.abc import Awaitable, Container, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from consumers.core.facts import place, told, traceback_of
from consumers.core.policy import GiveUp, Policy, Retry
from consumers.core.wants import Subscription, Subscriptions
from consumers.core.work import Failure, Work
from consumers.errors import HandlerFailed
from consumers.shell.calling import Caller
from consumers.shell.forming import FormingCalls
from consumers.shell.loop import Loop
from consumers.shell.threads import Desk

log = structlog.get_logger("consumers")

REPORT_BARS: Final = 64
"""The reader is woken to acknowledge after so many bars,"""
REPORT_MS: Final = 20
"""or so long after the last time, or when nothing is left to do."""
WAIT_MS_MAX: Final = 60_000
AWAITED_MAX: Final = 100
"""Calls of `async` handlers on the way at once; nothing more is taken meanwhile."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of a handler."""

    subscription: Subscription
    works: Sequence[Work]


@dataclass(slots=True)
class Worker:
    """Takes works from the desk until it is asked to stop."""

    desk: Desk
    subscriptions: Subscriptions
    caller: Caller
    policy: Policy = field(default_factory=Policy)
    rng: random.Random = field(default_factory=random.Random)
    loop: Loop = field(default_factory=Loop)
    raise_errors: bool = False
    """For tests: what a handler raised goes through; the entry counts as done."""
    _forming: FormingCalls = field(init=False)
    _awaited: int = 0
    _ended: queue.SimpleQueue[tuple[Call, BaseException | None]] = field(
        default_factory=queue.SimpleQueue
    )
    _unreported: int = 0
    _reported_ms: int = 0

    def __post_init__(self) -> None:
        self._forming = FormingCalls(
            self.desk, self.subscriptions, self.caller, self.loop, self.raise_errors
        )

    def run(self) -> None:
        """Handle works until the desk stops; what is at a handler then is finished first."""
        try:
            while not self.desk.stopping:
                wait_ms = self.step()
                if wait_ms > 0 and not self.desk.stopping:
                    self.desk.worker_bell.wait(wait_ms)
            # What ended may have rung together with the stop, so it is looked at first.
            self.go_on()
            while self.awaited:
                self.desk.worker_bell.wait(WAIT_MS_MAX)
                self.go_on()
        finally:
            self.loop.close()

    def step(self) -> int:
        """Hand the next work to its handlers; return in how many ms there may be one."""
        self.go_on()
        if self.desk.stopping or self._awaited >= AWAITED_MAX:
            return WAIT_MS_MAX
        desk = self.desk
        with desk.lock:
            works = desk.lanes.take_batch(desk.clock.monotonic_ms(), self._batch_of)
            due_ms = desk.lanes.next_due_ms()
        if works:
            self._begin(works)
            return 0
        if self._forming.step():
            return 0
        self._report()
        return WAIT_MS_MAX if due_ms is None else max(0, due_ms - desk.clock.monotonic_ms())

    @property
    def awaited(self) -> int:
        """How many calls of `async` handlers are on the way."""
        return self._awaited + self._forming.awaited

    def _batch_of(self, work: Work) -> tuple[Hashable, int]:
        subscription = self._next(work)
        if subscription is None or not subscription.batch or self._goes_alone(work):
            return None, 1
        return subscription, subscription.batch

    def _goes_alone(self, work: Work) -> bool:
        return work.alone or work.replay_of is not None or self._overdue(work) is not None

    def _next(self, work: Work) -> Subscription | None:
        every = self.subscriptions.of(work)
        return every[work.handlers_done] if work.handlers_done < len(every) else None

    def _overdue(self, work: Work) -> GiveUp | None:
        return self.policy.overdue(work.attempt)

    def _begin(self, works: Sequence[Work]) -> None:
        """Take on what was handed out: all of it is for the same handler."""
        first = works[0]
        subscription = self._next(first)
        if subscription is None:
            self._finish(works)
        elif (overdue := self._overdue(first)) is not None:
            reason = (
                f"handed over {first.attempt - 1} times without success; the last time its "
                "process ended before the handler returned"
            )
            self._give_up(first, subscription, overdue, reason, None)
        else:
            self._call(Call(subscription, works))

    def _call(self, call: Call | None) -> None:
        """Call handler after handler, until one is awaited or the works are done with."""
        while call is not None:
            try:
                outcome = self.caller.call(call.subscription, call.works)
            except Exception as error:  # noqa: BLE001 - a handler may raise anything
                self._failed(call, error)
                return
            if inspect.isawaitable(outcome):
                self._await(call, outcome)
                return
            call = self._succeeded(call)

    def _await(self, call: Call, outcome: Awaitable[object]) -> None:
        self._awaited += 1

        def ended(error: BaseException | None) -> None:
            self._ended.put((call, error))
            self.desk.worker_bell.ring()

        self.loop.run(outcome, ended)

    def go_on(self) -> None:
        """Go on with works whose handlers were awaited."""
        self._forming.raise_failure()
        while not self._ended.empty():
            call, error = self._ended.get()
            self._awaited -= 1
            if error is None:
                self._call(self._succeeded(call))
            elif isinstance(error, Exception):
                self._failed(call, error)
            else:
                raise error

    def _succeeded(self, call: Call) -> Call | None:
        """Note that a handler took the works; return what comes at once."""
        for work in call.works:
            work.handlers_done += 1
            work.failures = 0
        if len(call.works) == 1:
            (work,) = call.works
            subscription = self._next(work)
            if subscription is not None and not subscription.batch and not work.dropped:
                return Call(subscription, call.works)
        self._finish([x for x in call.works if self._next(x) is None])
        self._give_back(x for x in call.works if self._next(x) is not None)
        return None

    def _finish(self, works: Sequence[Work]) -> None:
        with self.desk.lock:
            for work in works:
                self.desk.lanes.finish(work)
        self.desk.counts.handled += len(works)
        self._unreported += len(works)
        unreported_ms = self.desk.clock.monotonic_ms() - self._reported_ms
        if self._unreported >= REPORT_BARS or unreported_ms >= REPORT_MS:
            self._report()

    def _give_back(self, works: Iterable[Work]) -> None:
        with self.desk.lock:
            for work in works:
                self.desk.lanes.give_back(work)

    def _failed(self, call: Call, error: Exception) -> None:
        self.desk.counts.failed += 1
        if self.raise_errors:
            self._finish(call.works)
            raise error
        if len(call.works) > 1 and getattr(error, "retryable", None) is not True:
            # Which of them it was is found by handing each over by itself.
            for work in call.works:
                work.alone = True
            self._tell(call, error, retry_in_ms=0, exc_info=True)
            self._give_back(call.works)
            return
        firsts = {id(x.lane): x for x in reversed(call.works)}.values()
        for work in firsts:
            work.failures += 1
        most = max(firsts, key=lambda x: x.failures)
        verdict = self.policy.judge(error, most.attempt, most.failures, self.rng)
        if call.works[0].replay_of is not None:
            # A person asked for it, and asks again.
            verdict = GiveUp("dead-letter")
        if isinstance(verdict, GiveUp):
            (work,) = call.works
            reason = f"{call.subscription.handler.name}: {type(error).__name__}: {error}"
            self._give_up(work, call.subscription, verdict, reason, error)
            return
        # What is waited out is the outside world's: its one line says enough.
        exc_info = most.failures == 1 and verdict.counted
        self._tell(call, error, retry_in_ms=verdict.wait_ms, exc_info=exc_info)
        self._park(call.works, set(firsts), verdict)

    def _park(self, works: Sequence[Work], firsts: Container[Work], verdict: Retry) -> None:
        """Try the first of each series again later; what follows it waits for it."""
        with self.desk.lock:
            due_ms = self.desk.clock.monotonic_ms() + verdict.wait_ms
            for work in works:
                if work in firsts:
                    self.desk.lanes.park(work, due_ms, counted=verdict.counted)
                else:
                    self.desk.lanes.give_back(work)

    def _give_up(
        self,
        work: Work,
        subscription: Subscription,
        verdict: GiveUp,
        reason: str,
        error: Exception | None,
    ) -> None:
        log.error(
            "handler.gave_up",
            **told(work),
            handler=subscription.handler.name,
            reason=reason,
            attempt=work.attempt,
            then=verdict.ending,
            exc_info=error,
        )
        if verdict.ending == "stop":
            self._give_back([work])
            failed = HandlerFailed(f"{reason}; {place(work)} stays pending, failure='stop'")
            failed.__cause__ = error
            self.desk.stop(failed)
            return
        with self.desk.lock:
            if verdict.ending == "dead-letter":
                self.desk.lanes.bury(work, Failure(reason, traceback_of(error)))
            else:
                self.desk.lanes.finish(work)
        if verdict.ending == "skip":
            self.desk.counts.skipped += 1
        self._report()

    def _tell(self, call: Call, error: Exception, **fields: object) -> None:
        first = call.works[0]
        log.warning(
            "handler.failed",
            **told(first),
            handler=call.subscription.handler.name,
            error=f"{type(error).__name__}: {error}",
            attempt=first.attempt,
            bars=len(call.works),
            **fields,
        )

    def _report(self) -> None:
        self._unreported = 0
        self._reported_ms = self.desk.clock.monotonic_ms()
        self.desk.reader_bell.ring()
