"""One run: calm, storm, calm, judgement, figures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import redis

from publisher.wire import Series
from tests.chaos.figures import Figures, print_figures
from tests.chaos.memory import Memory
from tests.chaos.plan import UNSEEN, Planned
from tests.chaos.rig import PUBLISHERS, SPEED, ChaosRig
from tests.chaos.storm import Storm
from tests.chaos.verdict import SHOWN_MAX, Values, Verdict, judge
from tests.chaos.witness import Witness, decode
from tests.waiting import eventually

AUDIT_BARS: Final = 21
"""After so many bars of a series it is compared with history again."""
QUIET_S: Final = 120.0
"""How long everything may take, besides the audit, to be right once nothing breaks."""
YOUNG_S: Final = 5.0
"""Bars that ended in so many real seconds before the comparison may be on their way."""
CORRECTED: Final = ("BTCUSD-BITFINEX-1m",)
"""TradingView itself changes bars of these after their end."""
HANDLED_S_MAX: Final = 60.0
SAMPLE_S: Final = 1.0
"""How often the publishers' memory is looked at."""
TAKE_OVER_S_MAX: Final = 6.5
"""The lease's 5 s, and what it takes to look and to run."""


class Run:
    """Everything of one run but the processes, which the rig has."""

    def __init__(self, rig: ChaosRig) -> None:
        self._rig = rig
        self._witness = Witness(rig.url, rig.series)
        self._storm = Storm(rig, self._witness)
        self._memory = Memory()
        self._looked_s = 0.0
        self._faults: list[str] = []

    def go(self, plan: Sequence[Planned], length_s: float) -> bool:
        """Return whether all is as it must be."""
        self._storm.begin()
        self._witness.start()
        eventually(self._rig.live, "all series are live", 60)
        self._witness.reset_outages()
        self._storm.run(plan, length_s, self._note_memory)
        self._witness.note_pause()
        self._storm.calm()
        calm_s = time.monotonic()
        verdicts = self._settle()
        settled_s = time.monotonic() - calm_s
        self._witness.stop()
        handled = self._count_handled()
        self._gather(verdicts)
        if not UNSEEN & {planned.kind for planned in plan}:
            self._faults += _premature(verdicts)
        print_figures(
            Figures(
                self._storm,
                self._witness,
                verdicts,
                self._rig.simulator.faults.counts,
                self._memory,
                settled_s,
                handled,
                self._faults,
            )
        )
        return not self._faults

    def _note_memory(self, past_s: float) -> None:
        if past_s < self._looked_s + SAMPLE_S:
            return
        self._looked_s = past_s
        for name in PUBLISHERS:
            if resident_kib := self._rig.resident_kib(name):
                started_s = self._storm.started_s[name]
                self._memory.note(name, started_s, time.monotonic(), resident_kib)

    # Judgement.

    def _settle(self) -> dict[Series, Verdict]:
        """Wait until every stream is the truth, no longer than an audit of all takes."""
        longest_ms = max(series.interval_ms for series in self._rig.series)
        end_s = time.monotonic() + AUDIT_BARS * longest_ms / 1000 / SPEED + QUIET_S
        while True:
            verdicts = self._judge_all()
            is_right = not any(verdict.faults for verdict in verdicts.values())
            if (is_right and self._rig.live()) or time.monotonic() > end_s:
                return verdicts
            time.sleep(1.0)

    def _judge_all(self) -> dict[Series, Verdict]:
        until_ms = self._rig.simulator.now_ms() - int(YOUNG_S * SPEED * 1000)
        return {series: self._judge(series, until_ms) for series in self._rig.series}

    def _judge(self, series: Series, until_ms: int) -> Verdict:
        keys = self._rig.keys
        try:
            bars: Any = self._rig.client.xrange(keys.bars(series))
            changed: Any = self._rig.client.xrange(keys.corrections(series))
        except redis.RedisError as error:
            self._faults.append(f"the streams cannot be read: {error}")
            return Verdict(lost=[0])
        entries = [decode(*entry) for entry in bars]
        corrections = [decode(*entry) for entry in changed]
        if not entries:
            return Verdict(lost=[0])
        truth = self._truth(series, entries[0].open_time_ms, until_ms)
        return judge(entries, corrections, truth, self._witness.abandoned[series])

    def _truth(self, series: Series, from_ms: int, until_ms: int) -> list[Values]:
        bars = self._rig.simulator.truth(series, from_ms, None)
        delay_ms = until_ms - self._rig.simulator.now_ms()
        newest_ms = max((bar.end_ms for bar in bars), default=0)
        # Of delayed symbols the truth ends earlier, so young is what its own end says.
        limit_ms = min(until_ms, newest_ms + delay_ms)
        return [tuple(bar.values) for bar in bars if bar.end_ms <= limit_ms]

    def _gather(self, verdicts: dict[Series, Verdict]) -> None:
        self._faults += self._witness.faults + self._storm.faults
        self._faults += [
            f"{series}: {verdict}" for series, verdict in verdicts.items() if verdict.faults
        ]
        for series in self._rig.series:
            self._faults += self._check_ever(series)
            self._faults += self._check_kept(series)
        self._faults += self._memory.faults()
        slow = [took_s for took_s in self._storm.take_overs_s if took_s > TAKE_OVER_S_MAX]
        self._faults += [f"a take-over took {took_s:.1f} s" for took_s in slow]

    def _check_ever(self, series: Series) -> list[str]:
        """Every bar that ever stood in the stream, also in one that was flushed, is real."""
        times = self._witness.ever[series]
        truth = self._rig.simulator.truth(series, min(times, default=0), None)
        invented = times - {round(bar.values[0] * 1000) for bar in truth}
        if not invented:
            return []
        return [f"{series}: once held bars that never were: {sorted(invented)[:5]}"]

    def _check_kept(self, series: Series) -> list[str]:
        """What was read once stands there still, unchanged."""
        seen = self._witness.entries[series]
        bars: Any = self._rig.client.xrange(self._rig.keys.bars(series))
        now = [decode(*entry) for entry in bars]
        if now[: len(seen)] == seen:
            return []
        return [f"{series}: entries changed or vanished after they were read"]

    def _count_handled(self) -> tuple[int, int, int]:
        """Return how many bars the consumer handled, how many twice, and how many never."""
        end_s = time.monotonic() + HANDLED_S_MAX
        while True:
            handled = self._rig.handled()
            missing = 0
            for series in self._rig.series:
                times = [entry.open_time_ms for entry in self._witness.entries[series]]
                missing += len(set(times) - set(handled.get(str(series), [])))
            if not missing or time.monotonic() > end_s:
                break
            time.sleep(1.0)
        total = sum(len(times) for times in handled.values())
        return total, total - sum(len(set(times)) for times in handled.values()), missing


def _premature(verdicts: dict[Series, Verdict]) -> list[str]:
    """What was published before it was final, though nothing hid the final values."""
    return [
        f"{series}: {len(verdict.premature)} published before they were final: "
        f"{verdict.premature[:SHOWN_MAX]}"
        for series, verdict in verdicts.items()
        if verdict.premature and str(series) not in CORRECTED
    ]
