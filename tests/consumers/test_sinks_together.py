"""Several processes that write the same bars into one directory at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import random, sys
from consumers.errors import SinkUnavailable
from consumers.sinks.open import open_sink
from publisher.wire import Bar, Series

target, seed = sys.argv[1], int(sys.argv[2])
btc = Series("BTCUSDT", "BINANCE", "1m")
end_ms = 1_793_491_200_000
order = [(n, revision) for n in range(-30, 30) for revision in (0, 1)]
random.Random(seed).shuffle(order)
sink = open_sink(target, "g")
print("ready", flush=True)
sys.stdin.readline()
while order:
    some, order = order[:7], order[7:]
    bars = [
        Bar(btc, end_ms + n * 3_600_000, 1.0, 1.0, 1.0, n + revision / 8, None, None, None, 5,
            "next", False, revision)
        for n, revision in some
    ]
    while True:
        try:
            sink.write(bars)
            break
        except SinkUnavailable as error:
            print(error, file=sys.stderr)
"""
EXPECTED = {n: n + 1 / 8 for n in range(-30, 30)}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_each_bar_stands_once_with_its_newest_revision(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "out"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, f"{kind}:{folder}", str(seed)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for seed in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=100)
        assert process.returncode == 0
    if kind == "csv":
        frame = pd.read_csv(folder / "BTCUSDT-BINANCE-1m.csv", parse_dates=["open_time"])
        assert frame["open_time"].is_monotonic_increasing
    else:
        frame = pd.read_parquet(folder)
        assert len(list(folder.rglob("month=2026-10/*"))) == 1
    hours = (frame["open_time"] - pd.Timestamp("2026-11-01", tz="UTC")) // pd.Timedelta(hours=1)
    assert len(frame) == len(EXPECTED)
    assert dict(zip(hours, frame["close"], strict=True)) == EXPECTED
