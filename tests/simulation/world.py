"""One run: everything is made, faults strike, then none, and what must be true is checked."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final
from unittest import mock

import structlog

from consumers.shell import tenure
from publisher import roster, watching
from publisher.wire import MINUTE_MS
from tests.simulation.bus import Bus
from tests.simulation.checker import Checker, Violation
from tests.simulation.clients import Command, virtual_time
from tests.simulation.consuming import BEAT_MS_MAX, GROUPS, ConsumerProcess, group_of
from tests.simulation.director import Director
from tests.simulation.ending import LATE_MS, Ending
from tests.simulation.loop import Livelock, Loop, Trace
from tests.simulation.plan import Plan
from tests.simulation.publishing import KEYS, PublisherProcess
from tests.simulation.tradingview import TradingView
from tests.simulation.truth import Truth

RECOVERY_MS_MAX: Final = 60 * MINUTE_MS
"""How long after the last fault everything may take to become true: what a connection lost
unnoticed is found when a series is compared with history, after so many of its bars."""
LOOK_MS: Final = 30_000
QUIET_MS: Final = 4 * MINUTE_MS
"""How long everything must then stay true while the markets go on."""
COMES_MS: Final = (1_000, 180_000)
"""When another member of a group comes for the first time."""
BACK_MS: Final = (500, 20_000)
"""How long after its end a consumer is started again."""
PUBLISHERS: Final = ("north", "south")


@dataclass
class Outcome:
    """What a run came to."""

    seed: int
    virtual_ms: int = 0
    recovery_ms: int = 0
    bars: int = 0
    events: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    violation: str = ""
    """Empty where everything was as it must be."""
    lines: list[str] = field(default_factory=list)


def simulate(
    plan: Plan, *, trace: bool = False, bug: AbstractContextManager[Any] | None = None
) -> Outcome:
    """Run a plan to its end or its first violation."""
    noted = Trace(wanted=trace)
    loop = Loop(plan.start_ms, noted)
    outcome = Outcome(plan.seed, counts=noted.counts, lines=noted.lines)
    with virtual_time(loop), _logs(loop), _patched(plan), bug or nullcontext():
        world = World(loop, plan)
        try:
            world.run()
        except (Violation, Livelock) as error:
            outcome.violation = f"{type(error).__name__}: {error}"
        except Exception:  # noqa: BLE001 - whatever a process does not catch ends it in life too
            outcome.violation = f"crash: {traceback.format_exc()}"
        outcome.recovery_ms = world.recovery_ms
        outcome.bars = world.checker.bars
    outcome.virtual_ms = loop.now_ms - plan.start_ms
    outcome.events = loop.events
    return outcome


class World:
    """Everything in one run."""

    def __init__(self, loop: Loop, plan: Plan) -> None:
        self.loop = loop
        self.plan = plan
        truths = {series: Truth(plan.market, series, plan.start_ms) for series in plan.series}
        self.service = TradingView(loop, plan, truths)
        self.bus = Bus(loop, plan)
        self.checker = Checker(loop, plan, truths, self.bus)
        self.ending = Ending(self.checker, self.bus)
        self.publishers: dict[str, PublisherProcess] = {}
        self.consumers: dict[str, ConsumerProcess] = {}
        self.recovery_ms = 0
        self._started: Counter[str] = Counter()
        self._rng = plan.rng("processes")
        self.bus.observers.append(self._tell_consumers)
        self.director = Director(self)

    def run(self) -> None:
        """Let faults strike, then none, and everything come true. Raises Violation."""
        for place in PUBLISHERS:
            self.start_publisher(place)
        self.start_members()
        self.director.plan_strikes()
        self.loop.run_until(self.plan.end_ms)
        self.director.heal()
        self._recover()
        self._stay()
        self.ending.unchanged()
        self._count()

    def _recover(self) -> None:
        begun_ms = self.loop.now_ms
        deadline_ms = begun_ms + RECOVERY_MS_MAX
        if not self.plan.right_at_once:
            # Something of the bars that form now may have been lost.
            self.loop.run_until(begun_ms + self.plan.longest_ms + LATE_MS)
        while missing := self.ending.missing():
            if self.loop.now_ms > deadline_ms:
                self.checker.fail("; ".join(missing[:3]))
            self.loop.run_until(self.loop.now_ms + LOOK_MS)
        self.recovery_ms = self.loop.now_ms - begun_ms
        self.ending.quiet_ms = self.loop.now_ms + LATE_MS

    def _stay(self) -> None:
        self.loop.run_until(self.loop.now_ms + QUIET_MS)
        until_ms = self.loop.now_ms + MINUTE_MS
        # A bar may be on its way to a handler in any one moment.
        while (missing := self.ending.missing()) and self.loop.now_ms < until_ms:
            self.loop.run_until(self.loop.now_ms + 1_000)
        if missing:
            self.checker.fail("not any more: " + "; ".join(missing[:3]))

    def _count(self) -> None:
        everybody: list[PublisherProcess | ConsumerProcess] = [*self.publishers.values()]
        for process in [*everybody, *self.consumers.values()]:
            if process.alive:
                process.kill()

    def start_publisher(self, place: str) -> None:
        """Start a publisher where none runs."""
        if place not in self.publishers or not self.publishers[place].alive:
            self._started[place] += 1
            name = f"{place}:{self._started[place]}"
            rng = self.plan.rng(name)
            process = PublisherProcess(self.bus, self.service, self.plan, name, rng)
            self.publishers[place] = process
            process.start()

    def start_members(self) -> None:
        """Let the groups come: their first members now, the others one by one."""
        for group in GROUPS:
            for number in range(1, self.plan.members + 1):
                comes_ms = 0 if number == 1 else self._rng.randrange(*COMES_MS)
                self.loop.after(comes_ms, self._starting(group, number))

    def _starting(self, group: str, number: int) -> Callable[[], None]:
        return lambda: self.start_consumer(f"{group}-{number}")

    def _replace(self, place: str) -> None:
        """Start a consumer again that ended, as whoever runs it would."""
        self.loop.after(self._rng.randrange(*BACK_MS), lambda: self.start_consumer(place))

    def start_consumer(self, place: str) -> None:
        """Start a consumer where none runs: in one group it always has the same name."""
        if place not in self.consumers or not self.consumers[place].alive:
            self._started[place] += 1
            group, life = group_of(place), self._started[place]
            assert group is not None
            rng = self.plan.rng(f"{place}:{life}")
            process = ConsumerProcess(
                self.bus,
                self.plan,
                group,
                place if group == GROUPS[0] else f"{place}.{life}",
                tuple(map(str, self.plan.series)) if group == GROUPS[0] else ("*",),
                self.checker.reading.handled,
                lambda: self._replace(place),
                rng,
            )
            self.consumers[place] = process
            process.start()

    def _tell_consumers(self, name: str, command: Command, reply: Any) -> None:
        if group_of(name) is not None or command[0] != "EVALSHA":
            return
        if str(command[3]).startswith(f"{KEYS.prefix}:bars:"):
            for consumer in self.consumers.values():
                consumer.appended()


@contextmanager
def _patched(plan: Plan) -> Iterator[None]:
    with (
        mock.patch.object(roster, "OUTBOX_BARS_MAX", plan.outbox_bars_max),
        mock.patch.object(watching, "AUDIT_BARS", plan.audit_bars),
        mock.patch.object(tenure, "BEAT_MS_MAX", BEAT_MS_MAX),
    ):
        yield


@contextmanager
def _logs(loop: Loop) -> Iterator[None]:
    """Let the product's logs go to the trace, or nowhere."""
    before = structlog.get_config() if structlog.is_configured() else None

    def note(_: Any, method: str, fields: MutableMapping[str, Any]) -> Any:
        event = fields.pop("event")
        loop.trace.say(loop.now_ms, "log", f"{method} {event} {dict(fields)}")
        raise structlog.DropEvent

    level = 10 if loop.trace.wanted else 50
    wrapper = structlog.make_filtering_bound_logger(level)
    structlog.configure(processors=[note], wrapper_class=wrapper, cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.reset_defaults()
        if before is not None:
            structlog.configure(**before)
