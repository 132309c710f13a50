"""One run: the plan's steps upon real processes, and the figures at the end."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.acceptance.rig import Process
from tests.group_chaos.plan import Step
from tests.group_chaos.rig import GROUP, GroupRig
from tests.group_chaos.verdict import Record, Verdict, judge
from tests.group_chaos.watch import Watch
from tests.waiting import eventually

LEASE_S: Final = 5.0
STOP_S_MAX: Final = LEASE_S + 1.0
"""The longest that a series may wait for its next member."""
EVEN_S_MAX: Final = 3.0
"""The longest until the shares are even after a change."""
STEP_S: Final = 0.05


@dataclass(slots=True)
class Outcome:
    """What a run found."""

    verdict: Verdict
    settled_s: Sequence[float]
    done: Counter[str]
    exit_codes: Sequence[int]
    timings: list[str] = field(default_factory=list)
    """Which of the two times were too long; a busy machine may be to blame."""


@dataclass(slots=True)
class Run:
    """Carries out the plan; `go` returns what was found."""

    rig: GroupRig
    seed: int
    _asleep: dict[int, tuple[Process, float]] = field(default_factory=dict)
    _done: Counter[str] = field(default_factory=Counter)
    _codes: list[int] = field(default_factory=list)

    def go(self, plan: Sequence[Step], length_s: float) -> Outcome:
        """Start everything, change the members as planned, wait for the last bars, judge."""
        self.rig.publisher()
        eventually(self.rig.live, "all series are live", 100)
        watch = Watch(self.rig.url, self.rig.series, GROUP)
        rng = random.Random(self.seed)
        begun_s = time.monotonic()
        self._step(plan[0], rng)
        eventually(lambda: len(watch.shares().members) == 1, "the first member is there")
        watch.start()
        left = list(plan[1:])
        while (past_s := time.monotonic() - begun_s) < length_s:
            while left and left[0].at_s <= past_s:
                self._step(left.pop(0), rng)
            self._wake(time.monotonic())
            time.sleep(STEP_S)
        self._wake(float("inf"))
        return self._end(watch)

    def _step(self, step: Step, rng: random.Random) -> None:
        if step.action == "add":
            self.rig.member()
        else:
            awake = [one for one in self.rig.members if id(one) not in self._asleep]
            if len(awake) < 2:
                return
            member = rng.choice(awake)
            if step.action == "kill":
                self.rig.kill(member)
            elif step.action == "leave":
                self._codes.append(self.rig.leave(member))
            else:
                self.rig.pause(member)
                self._asleep[id(member)] = (member, time.monotonic() + step.pause_s)
        self._done[step.action] += 1

    def _wake(self, now_s: float) -> None:
        for name, (member, until_s) in list(self._asleep.items()):
            if until_s <= now_s:
                del self._asleep[name]
                self.rig.resume(member)

    def _end(self, watch: Watch) -> Outcome:
        eventually(lambda: watch.evenness.unsettled_s(0) == 0, "the shares are even at the end")
        watch.stop()
        self._wait_for(watch)
        verdict = judge(watch.published, self._judged(watch))
        self._codes += [self.rig.leave(member) for member in list(self.rig.members)]
        outcome = Outcome(verdict, watch.evenness.settled_s, self._done, self._codes)
        if verdict.longest_stop_s > STOP_S_MAX:
            outcome.timings.append(
                f"{verdict.stopped_series} stood still for {verdict.longest_stop_s:.2f} s"
            )
        if max(outcome.settled_s, default=0.0) > EVEN_S_MAX:
            outcome.timings.append(f"shares were uneven for {max(outcome.settled_s):.2f} s")
        return outcome

    def _wait_for(self, watch: Watch) -> None:
        """Wait until every bar that the watch saw has been handled."""
        wanted = {(name, time_ms) for name, bars in watch.published.items() for time_ms in bars}

        def missing() -> int:
            return len(wanted - {(x.series, x.open_time_ms) for x in self.rig.records()})

        eventually(lambda: not missing(), lambda: f"all bars are handled, {missing()} are not")

    def _judged(self, watch: Watch) -> list[Record]:
        """Return the records of bars that the watch saw; those that came later are left out."""
        newest = {name: max(bars) for name, bars in watch.published.items()}
        return [x for x in self.rig.records() if x.open_time_ms <= newest[x.series]]
