"""What a run of chaos prints at its end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from publisher.simulator import Kind
from publisher.wire import Series
from tests.chaos.memory import Memory
from tests.chaos.storm import Storm
from tests.chaos.verdict import Verdict
from tests.chaos.witness import PAUSE_S_MIN, Witness

EVENTS_SHOWN: Final = (
    *("session.lost", "session.opened", "store.lost", "store.found", "series.interrupted"),
    *("series.checked", "series.silent", "bar.corrected", "bar.late", "gap.abandoned"),
    *("signin.succeeded", "signin.failed", "pace.slowed", "publisher.started"),
)
KINDS_OF_FINDINGS: Final = (
    *("lost", "announced", "late", "premature", "wrong", "invented", "duplicated", "disordered"),
)
REASONS_SHOWN: Final = 6


@dataclass(frozen=True, slots=True)
class Figures:
    """All that is told of one run."""

    storm: Storm
    witness: Witness
    verdicts: Mapping[Series, Verdict]
    happened: Mapping[Kind, int]
    """Faults at TradingView that befell something, by kind."""
    memory: Memory
    settled_s: float
    handled: tuple[int, int, int]
    """Bars that the consumer handled, how many of them again, and how many it never saw."""
    faults: Sequence[str]


def print_figures(figures: Figures) -> None:
    """Print everything, what is wrong last."""
    _print_faults(figures)
    _print_events(figures.witness)
    _print_times(figures)
    _print_bars(figures)
    for life in figures.memory.shown():
        print(f"memory: {life}")
    used = os.times()
    ended_s = used.children_user + used.children_system
    print(
        f"processor time: {used.user + used.system:.0f} s here, {ended_s:.0f} s of ended processes"
    )
    for fault in figures.faults:
        print(f"WRONG: {fault}")
    if figures.faults:
        print("what was done:", *figures.storm.log, sep="\n  ")


def _print_faults(figures: Figures) -> None:
    storm = figures.storm
    print("\nfaults, as planned:")
    for kind in sorted(storm.injected | storm.skipped):
        skipped = f", {storm.skipped[kind]} skipped" if storm.skipped[kind] else ""
        print(f"  {kind:16} {storm.injected[kind]:4}{skipped}")
    happened = sorted(figures.happened.items())
    print("  at TradingView: " + ", ".join(f"{kind} {count}" for kind, count in happened))


def _print_events(witness: Witness) -> None:
    print("what was said:")
    print("  " + ", ".join(f"{name} {witness.events[name]}" for name in EVENTS_SHOWN))
    for name, reasons in witness.reasons.items():
        for reason, count in reasons.most_common(REASONS_SHOWN):
            print(f"  {name} {count} times: {reason}")


def _print_times(figures: Figures) -> None:
    witness, took = figures.witness, sorted(figures.storm.take_overs_s)
    pauses_s = sorted(witness.pauses_s)
    middle_s = pauses_s[len(pauses_s) // 2] if pauses_s else 0.0
    print(
        f"recoveries: {len(pauses_s)}, from pauses of more than {PAUSE_S_MIN:.0f} s without "
        f"a new bar of any series, {middle_s:.1f} s in the middle"
    )
    crypto = [s for s in figures.verdicts if s.interval == "1m" and "USDT" in s.symbol]
    longest = max(crypto, key=lambda s: witness.outage_s[s], default=None)
    if longest is not None:
        print(f"longest outage: {witness.outage_s[longest]:.1f} s ({longest})")
    if took:
        print(f"take-overs after kill -9: {len(took)}, {took[0]:.1f} to {took[-1]:.1f} s")
    print(f"kills with another fault before the take-over: {figures.storm.disturbed}")
    print(f"right and quiet {figures.settled_s:.1f} s after the last fault")


def _print_bars(figures: Figures) -> None:
    witness, verdicts = figures.witness, figures.verdicts.values()
    print(f"bus: data lost or read anew {witness.epochs - 1} times")
    compared = sum(verdict.compared for verdict in verdicts)
    ever = sum(len(times) for times in witness.ever.values())
    print(f"bars published: {ever}, compared with the truth: {compared}")
    totals = {
        name: sum(len(getattr(verdict, name)) for verdict in verdicts) for name in KINDS_OF_FINDINGS
    }
    print("  " + ", ".join(f"{name} {count}" for name, count in totals.items()))
    print("consumer: handled {}, of which again {}, never {}".format(*figures.handled))
