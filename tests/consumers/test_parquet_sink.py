"""Bars as Parquet: each row once, in one file, readable by pandas, polars and DuckDB."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet

from consumers.core.rows import COLUMNS
from consumers.errors import SinkUnavailable
from consumers.sinks import files
from consumers.sinks.parquet import ParquetSink
from publisher.wire import Bar, Series

BTC = Series("BTCUSDT", "BINANCE", "1m")
HOURLY = Series("ES1!", "CME_MINI", "1H", extended=True)
ODD = [
    Series("BRK/B", "NYSE", "1D"),
    Series("BRK", "NYSE", "1D"),
    Series("BRK-NYSE-1D.B", "NYSE", "1D"),
    Series("M&M", "NSE", "5m"),
    Series("005930", "KRX", "1D", currency="EUR"),
    Series("A=B+C", "X", "1W"),
    Series('50% Ä"', "X", "1M"),
]
MINUTE = timedelta(minutes=1)
OCTOBER = datetime(2026, 10, 31, 23, 30, tzinfo=UTC)


def bar(series: Series, opened: datetime, **changes: Any) -> Bar:
    opened_ms = round(opened.timestamp() * 1000)
    price = (opened - datetime(2026, 1, 1, tzinfo=UTC)) / timedelta(hours=1)
    ended_ms = opened_ms + 60_000
    made = Bar(
        *(series, opened_ms, price, price + 1.5, price - 0.25, price + 0.1, 7.5),
        *(ended_ms, None, ended_ms + 41, "next"),
    )
    return replace(made, **changes)


def minutes(first: datetime, count: int, series: Series = BTC) -> list[Bar]:
    return [bar(series, first + number * MINUTE) for number in range(count)]


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def pandas_rows(root: Path) -> list[tuple[str, datetime, float]]:
    frame = pd.read_parquet(root)
    times = [time.to_pydatetime() for time in frame["open_time"]]
    return sorted(zip(frame["series"], times, frame["close"], strict=True))


def polars_rows(root: Path) -> list[tuple[str, datetime, float]]:
    frame = pl.read_parquet(root / "**/*.parquet", hive_partitioning=True)
    return sorted(frame.select("series", "open_time", "close").iter_rows())


def duckdb_rows(root: Path) -> list[tuple[str, datetime, float]]:
    with duckdb.connect() as connection:
        connection.sql("SET TimeZone = 'UTC'")
        found = connection.sql(f"SELECT series, open_time, close FROM '{root}/**/*.parquet'")
        return sorted(found.fetchall())


READERS = [pandas_rows, polars_rows, duckdb_rows]


def expected(bars: list[Bar]) -> list[tuple[str, datetime, float]]:
    return sorted((str(x.series), x.open_time, x.close) for x in bars)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def sink(root: Path) -> ParquetSink:
    return ParquetSink(root)


def test_rows_lie_by_exchange_symbol_interval_and_month(sink: ParquetSink, root: Path) -> None:
    sink.write([bar(BTC, OCTOBER), bar(HOURLY, OCTOBER), bar(HOURLY, OCTOBER - timedelta(days=31))])
    assert tree(root) == [
        "exchange=BINANCE/symbol=BTCUSDT/interval=1m/month=2026-10/2026-10-31.parquet",
        "exchange=CME_MINI/symbol=ES1!/interval=1H+extended/month=2026-09/2026-09.parquet",
        "exchange=CME_MINI/symbol=ES1!/interval=1H+extended/month=2026-10/2026-10.parquet",
    ]


def test_columns_have_the_types_that_the_guide_states(sink: ParquetSink, root: Path) -> None:
    sink(bar(BTC, OCTOBER, volume=None, end_time_ms=None, gap=True))
    (path,) = root.rglob("*.parquet")
    time = pa.timestamp("ms", tz="UTC")
    assert {field.name: field.type for field in parquet.read_schema(path)} == {
        "series": pa.string(),
        "open_time": time,
        **dict.fromkeys(("open", "high", "low", "close", "volume"), pa.float64()),
        "end_time": time,
        "received_time": time,
        "closed_by": pa.string(),
        "gap": pa.bool_(),
        "revision": pa.int32(),
    }
    assert ["series", *COLUMNS] == parquet.read_schema(path).names
    (row,) = pq_rows(path)
    assert (row["volume"], row["end_time"], row["gap"], row["closed_by"]) == (
        *(None, None),
        *(True, "next"),
    )
    guide = (Path(__file__).parents[2] / "docs/sinks.md").read_text()
    kinds = {"string": "text", "double": "float64", "bool": "bool", "int32": "int32"}
    for field in parquet.read_schema(path):
        kind = kinds.get(str(field.type), "timestamp in ms, UTC")
        assert f"| `{field.name}` | {kind} |" in guide


def pq_rows(path: Path) -> list[dict[str, Any]]:
    with parquet.ParquetFile(path) as file:
        rows: list[dict[str, Any]] = file.read().to_pylist()
    return rows


@pytest.mark.parametrize("read", READERS)
def test_every_reader_finds_every_row_with_its_time_and_price(
    sink: ParquetSink, root: Path, read: Any
) -> None:
    bars = minutes(OCTOBER, 60)
    bars += [bar(series, OCTOBER + 0.5 * hour * MINUTE) for series in ODD for hour in range(3)]
    sink.write(bars)
    assert read(root) == expected(bars)


@pytest.mark.parametrize("series", ODD)
def test_directories_read_back_as_the_parts_of_the_series(
    sink: ParquetSink, root: Path, series: Series
) -> None:
    sink.write([bar(series, OCTOBER), bar(BTC, OCTOBER)])
    found = {
        str(row["series"]): (row["exchange"], str(row["symbol"]), row["interval"], row["month"])
        for row in pl.read_parquet(root / "**/*.parquet", hive_partitioning=True).to_dicts()
    }
    interval = str(series).rpartition("-")[2]
    assert found[str(series)] == (series.exchange, series.symbol, interval, "2026-10")
    frame = pd.read_parquet(root)
    (at,) = frame.index[frame["series"] == str(series)]
    parts = ("exchange", "symbol", "interval", "month")
    assert tuple(frame.loc[at, part] for part in parts) == found[str(series)]
    with duckdb.connect() as connection:
        rows = connection.sql(
            f"SELECT exchange, symbol, interval, month FROM '{root}/**/*.parquet' "
            f"WHERE series = $name",
            params={"name": str(series)},
        ).fetchall()
    assert rows == [found[str(series)]]


def test_a_month_that_is_over_becomes_one_file(sink: ParquetSink, root: Path) -> None:
    start = datetime(2026, 9, 29, 12, tzinfo=UTC)
    bars = [bar(BTC, start + hour * 60 * MINUTE) for hour in range(24 * 34)]
    for first in range(0, len(bars), 50):
        sink.write(bars[first : first + 50])
    place = "exchange=BINANCE/symbol=BTCUSDT/interval=1m/month="
    assert tree(root) == [
        f"{place}2026-09/2026-09.parquet",
        f"{place}2026-10/2026-10.parquet",
        f"{place}2026-11/2026-11-01.parquet",
        f"{place}2026-11/2026-11-02.parquet",
    ]
    assert pandas_rows(root) == expected(bars)
    october = pq_rows(root / f"{place}2026-10/2026-10.parquet")
    times = [row["open_time"] for row in october]
    assert times == sorted(times)
    assert len(times) == 31 * 24


def test_a_month_that_was_over_while_nobody_ran_becomes_one_file_too(
    sink: ParquetSink, root: Path
) -> None:
    bars = minutes(OCTOBER - 1440 * MINUTE, 3) + minutes(OCTOBER, 3)
    sink.write(bars)
    november = root / "exchange=BINANCE/symbol=BTCUSDT/interval=1m/month=2026-11"
    november.mkdir()
    assert len(tree(root)) == 2
    again = ParquetSink(root)
    again.write(minutes(OCTOBER + 60 * MINUTE, 2))
    assert [name.rpartition("/")[2] for name in tree(root)] == [
        "2026-10.parquet",
        "2026-11-01.parquet",
    ]
    assert duckdb_rows(root) == expected(bars + minutes(OCTOBER + 60 * MINUTE, 2))


@pytest.mark.parametrize("series", [BTC, HOURLY])
@pytest.mark.parametrize("batch", [1, 7, 100])
def test_bars_that_come_again_or_late_stand_once(
    sink: ParquetSink, root: Path, batch: int, series: Series
) -> None:
    rng = random.Random(batch)
    bars = [bar(series, OCTOBER + 5 * number * MINUTE) for number in range(40)]
    order = list(range(40)) * 2
    rng.shuffle(order)
    for first in range(0, len(order), batch):
        sink.write([bars[number] for number in order[first : first + batch]])
    assert polars_rows(root) == expected(bars)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.parquet")}
    sink.write(bars)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.parquet")} == before


def test_a_correction_takes_the_place_of_the_row_also_in_a_month_that_is_over(
    sink: ParquetSink, root: Path
) -> None:
    bars = minutes(OCTOBER, 60)
    bars[3] = replace(bars[3], gap=True)
    sink.write(bars)
    for number in (3, 50):
        corrected = replace(bars[number], revision=1, close=-1.5, gap=False)
        sink.correct(corrected)
    sink.write(bars)
    found = [row for path in sorted(root.rglob("*.parquet")) for row in pq_rows(path)]
    assert [(row["close"], row["revision"], row["gap"]) for row in (found[3], found[50])] == [
        (-1.5, 1, True),
        (-1.5, 1, False),
    ]
    assert [row["close"] for row in found if not row["revision"]] == [
        x.close for number, x in enumerate(bars) if number not in {3, 50}
    ]
    assert len(tree(root)) == 2


def test_a_file_of_somebody_else_is_left_alone(sink: ParquetSink, root: Path) -> None:
    sink(bar(BTC, OCTOBER))
    (path,) = root.rglob("*.parquet")
    path.write_bytes(b"PAR1 nonsense")
    with pytest.raises(SinkUnavailable, match="is none of ours: move it away"):
        sink(bar(BTC, OCTOBER + MINUTE))
    assert path.read_bytes() == b"PAR1 nonsense"
    parquet.write_table(pa.table({"date": [1]}), path)
    with pytest.raises(SinkUnavailable, match="is none of ours: move it away"):
        sink(bar(BTC, OCTOBER + MINUTE))
    path.unlink()
    sink(bar(BTC, OCTOBER + MINUTE))
    assert len(pandas_rows(root)) == 1


def test_files_that_are_not_ours_in_the_directory_do_no_harm(root: Path) -> None:
    root.mkdir()
    for name in (".DS_Store", ".x.part", ".x.y.whole", ".a.b.c"):
        (root / name).write_text("mine")
    sink = ParquetSink(root)
    sink(bar(BTC, OCTOBER))
    assert (root / ".x.y.whole").read_text() == "mine"
    assert len(pandas_rows(root)) == 1


def test_what_a_living_process_is_at_is_left_to_it(sink: ParquetSink, root: Path) -> None:
    sink(bar(BTC, OCTOBER))
    folder = root / "exchange=BINANCE/symbol=BTCUSDT/interval=1m"
    part = root / ".BTCUSDT-BINANCE-1m.part"
    part.write_text("in progress")
    with files.locked_folder(folder):
        ParquetSink(root)
        assert part.exists()
    ParquetSink(root)
    assert not part.exists()


def test_another_process_is_waited_for_but_not_for_ever(
    sink: ParquetSink, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink(bar(BTC, OCTOBER))
    monkeypatch.setattr(files, "LOCK_WAIT_S_MAX", 0.05)
    folder = root / "exchange=BINANCE/symbol=BTCUSDT/interval=1m"
    with files.locked_folder(folder), pytest.raises(SinkUnavailable, match="another process"):
        sink(bar(BTC, OCTOBER + MINUTE))
    sink(bar(BTC, OCTOBER + MINUTE))
    assert len(pandas_rows(root)) == 2
