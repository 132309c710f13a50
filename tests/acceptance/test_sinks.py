"""What a sink keeps of a real publisher's bars is what stands on the bus."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest

from consumers import read_bars
from publisher.wire import Bar
from tests.acceptance.rig import Process, Rig
from tests.waiting import eventually

COLUMNS = ("open", "high", "low", "close", "volume")
Row = tuple[float | None, ...]


def of_csv(folder: Path, series: str) -> dict[int, Row]:
    path = folder / f"{series}.csv"
    if not path.exists():
        return {}
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    frame = pd.DataFrame(csv.DictReader(lines), columns=["open_time", *COLUMNS])
    frame["open_time"] = pd.to_datetime(frame["open_time"])
    return rows(frame.astype(dict.fromkeys(COLUMNS, float)))


def of_parquet(folder: Path, series: str) -> dict[int, Row]:
    if not any(folder.rglob("*.parquet")):
        return {}
    frame = pd.read_parquet(folder)
    return rows(frame[frame["series"] == series])


def rows(frame: pd.DataFrame) -> dict[int, Row]:
    times = frame["open_time"].dt.as_unit("ms").astype("int64")
    found = dict(zip(times, zip(*(frame[name] for name in COLUMNS), strict=True), strict=True))
    assert len(found) == len(frame), "a row stands twice"
    return found


def values(bar: Bar) -> Row:
    return tuple(getattr(bar, name) for name in COLUMNS)


@pytest.mark.parametrize(("kind", "read"), [("csv", of_csv), ("parquet", of_parquet)])
def test_a_sink_keeps_what_the_publisher_published(tmp_path: Path, kind: str, read: object) -> None:
    assert callable(read)
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m", "ETHUSDT-BINANCE-5m"]) as rig:
        rig.publisher()
        eventually(rig.live, "the publisher publishes")
        arguments = ["consume", f"{kind}:{tmp_path}/out", "--group", "files", "--start", "oldest"]
        rig.processes.append(Process(arguments, tmp_path, rig.settings).start())

        def kept(wanted: int) -> bool:
            for series in rig.series:
                bars = read_bars(series, redis_url=rig.url)
                found = read(tmp_path / "out", str(series))
                if len(bars) < wanted or any(found.get(x.open_time_ms) != values(x) for x in bars):
                    return False
            return True

        eventually(lambda: kept(51), "history and a live bar are kept as they are on the bus")
