"""Whole runs under faults: what must be true is true at every step, and all comes right after.

Each batch is a program of its own, so that nobody measures its coverage: that makes it slow,
and what is covered by chance is no test of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import __main__ as program
from tests.simulation import batch, planting
from tests.simulation.batch import Figures
from tests.simulation.bugs import BUGS
from tests.simulation.director import CONNECTION_KINDS, Director
from tests.simulation.plan import STRIKES, draw
from tests.simulation.world import Outcome, simulate

ROOT = Path(__file__).resolve().parents[2]
SEEDS = 50


def run(*arguments: str, hash_seed: str = "random") -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("COVERAGE", "COV_"))}
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT,
        env=kept | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(600)
def test_no_seed_finds_a_violation_and_every_fault_and_guard_was_there() -> None:
    done = run("--seeds", str(SEEDS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SEEDS} seeds, " in done.stdout


@pytest.mark.timeout(1_200)
def test_the_checker_finds_every_planted_bug() -> None:
    done = run("--bugs", "--known-first")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(BUGS)} of {len(BUGS)} bugs found" in done.stdout


@pytest.mark.timeout(300)
def test_a_seed_is_a_run() -> None:
    first, second = (run("--seed", "10", "--trace", hash_seed=seed) for seed in ("1", "2"))
    assert first.returncode == 0, first.stdout[-2_000:] + first.stderr
    assert first.stdout == second.stdout


def test_a_failure_names_its_seed_and_how_to_see_it_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--seed", "0", "--bug", "closes early"]
    assert program.main(arguments) == 1
    said = capsys.readouterr().out
    assert "published" in said
    assert "replay: python -m tests.simulation --seed 0 --trace --bug 'closes early'" in said


def test_a_crash_of_a_process_is_a_violation() -> None:
    crash = planting.silent(Director, "plan_strikes")
    assert not simulate(draw(0), bug=crash()).violation
    outcome = simulate(draw(0), bug=planting.method(Director, "plan_strikes", lambda real: None))
    assert outcome.violation.startswith("crash: Traceback")


def test_a_fault_or_guard_that_never_was_fails_the_batch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = Figures(seeds=1)
    figures.counts.update(dict.fromkeys((*batch.FAULTS, *batch.GUARDS), 1))
    monkeypatch.setattr(batch, "run", lambda *_, **__: figures)
    assert program.main(["--seeds", "1"]) == 0
    assert "never happened" not in capsys.readouterr().out
    del figures.counts["mute"]
    assert program.main(["--seeds", "1"]) == 1
    assert "never happened: mute" in capsys.readouterr().out


def test_a_violation_fails_the_batch_and_is_told_with_its_replay(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = dict.fromkeys((*batch.FAULTS, *batch.GUARDS), 1)
    found = Outcome(7, violation="Violation: a bar is wrong")
    found.counts.update(everything)
    monkeypatch.setattr(batch, "run_seed", lambda seed: found)
    assert program.main(["--seeds", "1", "--jobs", "1"]) == 1
    said = capsys.readouterr().out
    assert "seed 7 at " in said
    assert "replay: python -m tests.simulation --seed 7 --trace" in said
    assert "1 violations in" in said


def test_rare_guards_are_asked_for_in_large_batches_alone() -> None:
    figures = Figures(seeds=batch.LARGE - 1)
    figures.counts.update(dict.fromkeys((*batch.FAULTS, *batch.GUARDS), 1))
    assert figures.never() == []
    figures.seeds += 1
    assert figures.never() == list(batch.RARE)


def test_a_bug_that_is_not_found_fails_the_hunt(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, Outcome | None] = {name: Outcome(4, violation="found") for name in BUGS}
    monkeypatch.setattr(batch, "find_bugs", lambda *_, **__: found.items())
    assert program.main(["--bugs"]) == 0
    found["closes early"] = None
    assert program.main(["--bugs"]) == 1
    said = capsys.readouterr().out
    assert "closes early: NOT FOUND" in said
    assert f"{len(BUGS) - 1} of {len(BUGS)} bugs found" in said


def test_every_kind_of_fault_befalls_somebody() -> None:
    for kind in STRIKES:
        assert kind in CONNECTION_KINDS or hasattr(Director, f"_{kind}"), kind
