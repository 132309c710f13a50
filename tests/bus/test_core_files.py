"""A process that holds secrets leaves no core file."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CRASH = "import os; from bus.core_files import forbid_core_files; {}; os.abort()"


def crash(folder: Path, guard: str) -> None:
    done = subprocess.run(
        [
            "sh",
            "-c",
            'ulimit -c unlimited; exec "$@"',
            "sh",
            sys.executable,
            "-c",
            CRASH.format(guard),
        ],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert done.returncode < 0, done.stderr


def test_a_crash_leaves_no_core_file(tmp_path: Path) -> None:
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("core files are forbidden on this machine")
    unguarded, guarded = tmp_path / "unguarded", tmp_path / "guarded"
    unguarded.mkdir()
    guarded.mkdir()
    crash(unguarded, "pass")
    if not list(unguarded.iterdir()):
        pytest.skip("core files go elsewhere on this machine")
    crash(guarded, "forbid_core_files()")
    assert list(guarded.iterdir()) == []
