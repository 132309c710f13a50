"""Run every test with coverage and hold it against the limits: `python -m tests.run`.

Arguments go to pytest; where there are any, only a part runs and the limits are
shown but not enforced. Processes that tests start are measured too. The last line
is pytest's summary.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import coverage

ROOT: Final = Path(__file__).resolve().parents[1]
PERCENT_MIN: Final = 90.0
"""What `publisher/` and `consumers/` together must exceed."""
COMPLETE: Final = ("publisher/core/", "consumers/core/")
"""Where every line and branch must be run."""
WORKERS: Final = 3
"""Most tests wait for processes; more workers than this make two cores slower."""
SHOWN_MAX: Final = 10
"""How many of a file's lines are named."""

_SUMMARY: Final = re.compile(r"\b\d+ (?:passed|failed|error)")


def main(arguments: Sequence[str]) -> int:
    """Run the tests; 0 where they pass and, in a whole run, the limits hold."""
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory(prefix="tvbus-coverage-") as folder:
        data_file = str(Path(folder) / "data")
        status, summary = _run_tests(arguments, data_file)
        faults = shortfalls(_measure(data_file))
    for fault in faults:
        print(f"coverage: {fault}")
    if faults and not arguments and status == 0:
        status = 1
        print("The tests pass, the coverage does not.")
    print(summary)
    return status


def shortfalls(files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return where the measured files stay below the limits; paths are relative."""
    faults = []
    done = total = 0
    for path, file in sorted(files.items()):
        counts = file["summary"]
        if path.startswith(("publisher/", "consumers/")):
            done += counts["covered_lines"] + counts["covered_branches"]
            total += counts["num_statements"] + counts["num_branches"]
        missed = counts["missing_lines"] + counts["missing_branches"]
        if path.startswith(COMPLETE) and missed:
            lines = [str(line) for line in file["missing_lines"]]
            branches = [f"{start}->{end}" for start, end in file["missing_branches"]]
            shown = (lines or branches)[:SHOWN_MAX]
            faults.append(f"{path} must be complete, never run: {', '.join(shown)}")
    percent = 100 * done / total if total else 0.0
    if percent <= PERCENT_MIN:
        faults.append(
            f"publisher/ and consumers/ are covered to {percent:.1f} %, "
            f"must be more than {PERCENT_MIN:g} %"
        )
    return faults


def _run_tests(arguments: Sequence[str], data_file: str) -> tuple[int, str]:
    """Return pytest's exit status and its last line, having shown all before."""
    command = [sys.executable, "-m", "coverage", "run", "-m", "pytest"]
    command += arguments or ["-n", str(WORKERS)]
    environment = os.environ | {"COVERAGE_FILE": data_file, "PYTHONUNBUFFERED": "1"}
    summary = ""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if _SUMMARY.search(line) and " in " in line:
                summary = line.rstrip()
            else:
                print(line, end="", flush=True)
    return process.returncode, summary


def _measure(data_file: str) -> dict[str, Any]:
    """Combine what all processes measured, show it, and return it by file."""
    measured = coverage.Coverage(data_file=data_file)
    measured.combine()
    table = io.StringIO()
    measured.report(file=table)
    print(table.getvalue())
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        measured.json_report(outfile=file.name)
        files: dict[str, Any] = json.loads(Path(file.name).read_bytes())["files"]
    return files


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
