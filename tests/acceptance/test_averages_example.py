"""The averages of `examples/averages.py` are those of the truth, with two copies and a kill."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from publisher.wire import Series
from tests.acceptance.rig import Rig
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
WINDOW = 20
SERIES = ["BTCUSDT-BINANCE-1m", "ETHUSDT-BINANCE-1m", "SOLUSDT-BINANCE-1m"]

Line = tuple[str, int, float, float]
"""Series, open time in ms, close, average."""


class Copy:
    """One process of the example, and what it printed."""

    def __init__(self, rig: Rig, number: int) -> None:
        self._out = rig.folder / f"copy{number}.txt"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TVBUS_")}
        with self._out.open("w") as out, (rig.folder / f"copy{number}.log").open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "averages.py"],
                cwd=rig.folder,
                env=clean | {"PYTHONPATH": str(ROOT), "TVBUS_REDIS_URL": rig.url},
                stdout=out,
                stderr=err,
            )

    def lines(self) -> list[Line]:
        lines = []
        for text in self._out.read_text().splitlines(keepends=True):
            if text.endswith("\n"):
                opened, series, close, average, *_ = text.split()
                opened_ms = int(datetime.fromisoformat(opened).timestamp() * 1000)
                lines.append((series, opened_ms, float(close), float(average)))
        return lines

    def seen(self, series: str) -> list[int]:
        return [opened_ms for name, opened_ms, *_ in self.lines() if name == series]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("averages")
    shutil.copy(ROOT / "examples" / "averages.py", folder)
    with Rig(folder, SERIES, speed=60) as running:
        running.publisher()
        eventually(running.live, "the three series are live")
        yield running


def expected(rig: Rig, series: str, first_ms: int, last_ms: int) -> dict[int, tuple[float, float]]:
    """Close and average of each bar between two times, from the simulator's truth."""
    stored = [bar.open_time_ms for bar in rig.stream(Series.parse(series))]
    truth = rig.simulator.truth(Series.parse(series), stored[0], last_ms + 1)
    closes = [(bar.start_ms, bar.values[4]) for bar in truth]
    wanted = {}
    for place, (opened_ms, close) in enumerate(closes):
        window = [one for _, one in closes[max(0, place - WINDOW + 1) : place + 1]]
        if opened_ms >= first_ms:
            wanted[opened_ms] = (close, sum(window) / len(window))
    return wanted


def test_each_average_is_right_and_no_bar_is_missed_when_a_copy_is_killed(rig: Rig) -> None:
    copies = [Copy(rig, 1)]
    eventually(lambda: all(len(copies[0].seen(one)) > 4 for one in SERIES), "it hears all")
    begun_ms = {one: copies[0].seen(one)[0] for one in SERIES}
    copies.append(Copy(rig, 2))
    eventually(copies[1].lines, "the second copy has a share")
    killed, other = copies
    killed.process.kill()
    killed.process.wait()
    last_ms = max(opened_ms for _, opened_ms, *_ in killed.lines() + other.lines())
    eventually(
        lambda: all(max(other.seen(one), default=0) > last_ms for one in SERIES),
        "the other one goes on with all three",
    )
    copies.append(Copy(rig, 3))
    eventually(copies[2].lines, "started again, it has a share")
    for series in SERIES:
        wanted = expected(rig, series, begun_ms[series], last_ms)
        assert len(wanted) > 4
        eventually(
            lambda s=series, w=wanted: set(w) <= {t for one in copies for t in one.seen(s)},
            f"every bar of {series} is handled",
        )
    for series in SERIES:
        said = [line for one in copies for line in one.lines() if line[0] == series]
        wanted = expected(rig, series, begun_ms[series], max(line[1] for line in said))
        for _, opened_ms, close, average in said:
            assert close == wanted[opened_ms][0]
            assert average == pytest.approx(wanted[opened_ms][1], rel=1e-12)
    for copy in copies[1:]:
        copy.process.terminate()
        assert copy.process.wait(15) == 0
