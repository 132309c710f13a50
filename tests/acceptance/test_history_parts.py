"""What `tvbus history` makes of the publisher's answers, and of bars that it writes."""

from __future__ import annotations

import builtins
import csv
import json
import stat
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from consumers.errors import SinkUnavailable, UsageError
from publisher.wire.answers import HistoryBar
from tvbus import bar_files
from tvbus.bar_files import save, table, to_csv, to_json

BTC = "BTCUSDT-BINANCE-1m"
OPENED_MS = 1_700_000_040_000
# 2023-11-14T22:14:00Z and the minute after.
BARS = (
    HistoryBar(OPENED_MS, 0.1, 1e16, 5e-324, 37898.88, 195.86836000000048, None),
    HistoryBar(OPENED_MS + 60_000, 1.0, 2.0, 0.5, 1.5, None, OPENED_MS + 120_000),
)


def test_a_table_shows_every_digit() -> None:
    heading, first, second = table(BARS).splitlines()
    assert heading.split() == ["open", "time", "(UTC)", "open", "high", "low", "close", "volume"]
    assert first.split() == [
        *("2023-11-14", "22:14:00Z", "0.1", "1e+16", "5e-324", "37898.88", "195.86836000000048"),
    ]
    assert second.split() == ["2023-11-14", "22:15:00Z", "1", "2", "0.5", "1.5", "-"]
    assert len({len(line) for line in (heading, first, second)}) == 1, "aligned"


def test_csv_has_iso_times_and_the_very_doubles() -> None:
    heading, *rows = csv.reader(to_csv(BARS).decode().splitlines())
    assert heading == list(bar_files.COLUMNS)
    assert [row[0] for row in rows] == ["2023-11-14T22:14:00Z", "2023-11-14T22:15:00Z"]
    assert [tuple(map(float, row[1:5])) for row in rows] == [bar[1:5] for bar in BARS]
    assert [row[5:] for row in rows] == [
        ["195.86836000000048", ""],
        ["", "2023-11-14T22:16:00Z"],
    ]


def test_json_is_one_array_with_the_contracts_keys() -> None:
    rows = json.loads(to_json(BARS))
    assert [tuple(row.values()) for row in rows] == list(BARS)
    assert {tuple(row) for row in rows} == {("t", "o", "h", "l", "c", "v", "e")}
    assert to_json(BARS).count(b"\n") == 4, "each bar has a line"


@pytest.mark.parametrize("bars", [BARS, ()])
def test_parquet_has_types_of_its_own_for_times(tmp_path: Path, bars: tuple[Any, ...]) -> None:
    save(tmp_path / "x.parquet", bars)
    frame = pd.read_parquet(tmp_path / "x.parquet")
    assert list(frame.columns) == list(bar_files.COLUMNS)
    assert {str(frame[name].dtype) for name in ("open_time", "end_time")} == {"datetime64[ms, UTC]"}
    assert {str(frame[name].dtype) for name in bar_files.COLUMNS[1:6]} == {"float64"}
    assert list(frame["high"]) == [bar.high for bar in bars]


def test_without_bars_every_format_is_readable_still() -> None:
    assert json.loads(to_json(())) == []
    assert to_csv(()).decode() == ",".join(bar_files.COLUMNS) + "\n"
    assert len(table(()).splitlines()) == 1


def test_a_file_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "x.CSV"
    path.write_text("old")
    save(path, BARS)
    assert path.read_bytes() == to_csv(BARS)
    assert [one.name for one in tmp_path.iterdir()] == ["x.CSV"]
    assert not stat.S_IMODE(path.stat().st_mode) & stat.S_IXUSR


def test_a_failure_leaves_the_older_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.csv"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bar_files.os, "fsync", full)
    with pytest.raises(SinkUnavailable, match=r"cannot write .*x.csv': No space left on device"):
        save(path, BARS)
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["x.csv"]


def test_nobody_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.csv"
    seen = []
    monkeypatch.setattr(bar_files.os, "fsync", lambda _: seen.append(path.exists()))
    save(path, BARS)
    assert seen == [False]


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(UsageError, match="is a directory: name a file"):
        bar_files.check_target(tmp_path / "x.csv")


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'tvbus\[parquet\]'"):
        bar_files.check_target(tmp_path / "x.parquet")
    bar_files.check_target(tmp_path / "x.csv")
