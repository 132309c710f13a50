"""The run of the tests itself: its limits, and that it measures what tests start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import coverage
import pytest

from tests.run import shortfalls

ROOT = Path(__file__).resolve().parents[2]


def _file(lines: int, missed_lines: int, missed_branches: int = 0) -> dict[str, Any]:
    return {
        "summary": {
            "num_statements": lines,
            "covered_lines": lines - missed_lines,
            "missing_lines": missed_lines,
            "num_branches": 10,
            "covered_branches": 10 - missed_branches,
            "missing_branches": missed_branches,
        },
        "missing_lines": list(range(1, missed_lines + 1)),
        "missing_branches": [[7, 9]] * missed_branches,
    }


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"publisher/engine.py": _file(90, 9)}, []),
        ({"publisher/engine.py": _file(90, 10)}, ["90.0 %"]),
        ({"publisher/engine.py": _file(90, 0), "tvbus/x.py": _file(900, 900)}, []),
        ({"publisher/engine.py": _file(90, 8, 3)}, ["89.0 %"]),
        (
            {"consumers/core/lane.py": _file(90, 0, 1)},
            ["lane.py must be complete, never run: 7->9"],
        ),
        ({"publisher/core/bars.py": _file(90, 2)}, ["bars.py must be complete, never run: 1, 2"]),
        ({}, ["0.0 %"]),
    ],
)
def test_what_is_not_covered_enough_is_named(files: dict[str, Any], words: list[str]) -> None:
    faults = shortfalls(files)
    assert len(faults) == len(words)
    assert all(word in fault for word, fault in zip(words, faults, strict=True))


WAITING = "import signal, time\nfrom bus import locks\nprint('ready', flush=True)\ntime.sleep(60)\n"
STOPPED = WAITING.replace("print", "signal.signal(signal.SIGTERM, lambda *_: exit(0))\nprint")


@pytest.mark.parametrize("program", [WAITING, STOPPED], ids=["unprepared", "handling it"])
def test_a_process_ended_by_sigterm_is_measured(tmp_path: Path, program: str) -> None:
    (tmp_path / "program.py").write_text(program)
    environment = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    environment |= {
        "COVERAGE_PROCESS_START": str(ROOT / "pyproject.toml"),
        "COVERAGE_FILE": str(tmp_path / "data"),
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
    (found,) = tmp_path.glob("data.*")
    measured = coverage.CoverageData(str(found))
    measured.read()
    assert any(name.endswith("bus/locks.py") for name in measured.measured_files())
