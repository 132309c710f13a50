"""A sink of files, killed before every single thing it does to the disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("sink_crashes.py")


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("kind", "deaths_min"), [("csv", 6), ("parquet", 40)])
def test_a_kill_anywhere_leaves_no_row_twice_and_none_lost(
    tmp_path: Path, kind: str, deaths_min: int
) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), kind, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= deaths_min
