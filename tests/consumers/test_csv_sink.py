"""Bars as CSV files: each row once, sorted, whole lines only, whatever happened before."""

from __future__ import annotations

import csv
import errno
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from consumer_world import BTC, ETH, MINUTE_MS, T0, Events

from consumers.errors import SinkRejected, SinkUnavailable, UsageError
from consumers.sinks import files
from consumers.sinks.csv import HEADER, CsvSink
from publisher.wire import Bar, Series

SAFE = [
    (BTC, "BTCUSDT-BINANCE-1m.csv"),
    (Series("BRK/B", "NYSE", "1D"), "BRK%2FB-NYSE-1D.csv"),
    (Series('A\\B:C*D?"<>|', "X", "1H"), "A%5CB%3AC%2AD%3F%22%3C%3E%7C-X-1H.csv"),
    (Series("..", "X", "5m", extended=True, currency="EUR"), "..-X-5m+extended+EUR.csv"),
    (Series("50% Ä", "X", "1W"), "50%25%20%C3%84-X-1W.csv"),
]


def bar(number: int, series: Series = BTC, **changes: Any) -> Bar:
    opened = T0 + number * MINUTE_MS
    made = Bar(
        *(series, opened, 100.1 + number, 101.5 + number, 99.25, 100.2 + number, 7.5),
        *(opened + MINUTE_MS, opened - MINUTE_MS, opened + MINUTE_MS + 41, "next"),
    )
    return replace(made, **changes)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(path: Path) -> list[int]:
    """Which bars stand in the file, in order."""
    minutes = []
    for row in rows(path):
        hour, minute = row["open_time"][11:16].split(":")
        minutes.append((int(row["open_time"][8:10]) * 24 + int(hour)) * 60 + int(minute))
    return [minute - (9 * 24 + 8) * 60 - 54 for minute in minutes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "BTCUSDT-BINANCE-1m.csv"


@pytest.fixture
def sink(path: Path) -> CsvSink:
    return CsvSink(path.parent)


def test_a_row_says_what_the_bar_says(sink: CsvSink, path: Path) -> None:
    sink(bar(0))
    sink(bar(1, volume=None, end_time_ms=None, gap=True, closed_by="history"))
    assert path.read_text().splitlines() == [
        "open_time,open,high,low,close,volume,end_time,received_time,closed_by,gap,revision",
        "2025-10-09T08:54:00.000Z,100.1,101.5,99.25,100.2,7.5,2025-10-09T08:55:00.000Z,"
        "2025-10-09T08:55:00.041Z,next,false,0",
        "2025-10-09T08:55:00.000Z,101.1,102.5,99.25,101.2,,,2025-10-09T08:56:00.041Z,"
        "history,true,0",
    ]


def test_prices_are_read_back_exactly(sink: CsvSink, path: Path) -> None:
    prices = [0.1 + 0.2, 1e-9, 123456789.123456789, 1e22, 5e-324, -37.63]
    sink.write([bar(number, close=price) for number, price in enumerate(prices)])
    assert [float(row["close"]) for row in rows(path)] == prices


@pytest.mark.parametrize(("series", "name"), SAFE)
def test_each_series_has_a_file_whose_name_reads_back(
    sink: CsvSink, path: Path, series: Series, name: str
) -> None:
    sink.write([bar(0, series), bar(0, ETH)])
    assert {x.name for x in path.parent.iterdir()} == {name, "ETHUSDT-BINANCE-1m.csv"}
    assert Series.parse(name.removesuffix(".csv")) == series


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_bars_that_come_again_stand_once(sink: CsvSink, path: Path, batch: int) -> None:
    rng = random.Random(batch)
    for first in range(0, 60, batch):
        again = max(0, first - rng.randint(0, 20))
        sink.write([bar(number) for number in range(again, first + batch)])
    assert numbers(path) == list(range(len(rows(path))))
    before = path.read_bytes()
    for number in range(len(rows(path))):
        sink(bar(number))
    assert path.read_bytes() == before


def test_bars_in_any_order_are_sorted(sink: CsvSink, path: Path) -> None:
    order = list(range(80))
    random.Random(5).shuffle(order)
    for first in range(0, 80, 7):
        sink.write([bar(number) for number in order[first : first + 7]])
    assert numbers(path) == list(range(80))


def test_a_correction_takes_the_place_of_the_row_and_stays(sink: CsvSink, path: Path) -> None:
    sink.write([bar(number, gap=number == 2) for number in range(5)])
    sink.correct(bar(2, revision=1, close=1.5))
    sink.write([bar(number, gap=number == 2) for number in range(6)])
    shown = [(row["close"], row["gap"], row["revision"]) for row in rows(path)]
    assert shown[2] == ("1.5", "true", "1")
    assert [row[0] for row in shown[:2] + shown[3:]] == [
        "100.2",
        "101.2",
        "103.2",
        "104.2",
        "105.2",
    ]
    assert numbers(path) == list(range(6))


def test_a_late_bar_goes_where_it_belongs(sink: CsvSink, path: Path) -> None:
    sink.write([bar(number) for number in (3, 4, 9)])
    for number in (0, 6, 7):
        sink.correct(bar(number, revision=1))
    assert numbers(path) == [0, 3, 4, 6, 7, 9]


def test_a_last_line_cut_anywhere_is_removed_and_written_again(
    sink: CsvSink, path: Path, events: Events
) -> None:
    sink.write([bar(number) for number in range(3)])
    whole = path.read_bytes()
    two = whole.rstrip(b"\n").rindex(b"\n") + 1
    for cut in range(two, len(whole)):
        path.write_bytes(whole[:cut])
        sink(bar(2))
        assert path.read_bytes() == whole
    assert len(events.named("sink.mended")) == len(whole) - two - 1
    assert events.named("sink.mended")[0]["cut"] == "2"


def test_a_header_cut_anywhere_is_written_again(sink: CsvSink, path: Path) -> None:
    for cut in range(len(HEADER)):
        path.write_bytes(HEADER[:cut])
        sink(bar(0))
        assert numbers(path) == [0]


def test_a_file_without_rows_is_begun(sink: CsvSink, path: Path) -> None:
    path.write_bytes(HEADER)
    sink(bar(0))
    assert numbers(path) == [0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"date,price\n", "does not begin as ours do"),
        (HEADER + b"x\n", "a line that is none of ours"),
        (HEADER + b"2025-10-09,1,1,1,1,1,,2025-10-09T00:00:00Z,next,false,0\n", "none of ours"),
        (HEADER + b"y" * 20_000, "none of ours"),
        (HEADER + b"\n\xff\xfe\n", "none of ours"),
    ],
)
def test_a_file_of_somebody_else_is_left_alone(
    sink: CsvSink, path: Path, content: bytes, words: str
) -> None:
    path.write_bytes(content)
    with pytest.raises(SinkUnavailable, match=words) as caught:
        sink(bar(0))
    assert path.read_bytes() == content
    assert str(path) in str(caught.value)
    assert "move it away" in str(caught.value)


def test_a_file_that_is_deleted_or_replaced_is_begun_anew(sink: CsvSink, path: Path) -> None:
    sink(bar(0))
    path.unlink()
    sink(bar(1))
    assert numbers(path) == [1]


def test_what_was_written_is_on_the_disk_before_the_call_returns(
    sink: CsvSink, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = os.fsync

    def note(file: int) -> None:
        synced.append(os.fstat(file).st_size)
        sync(file)

    monkeypatch.setattr(os, "fsync", note)
    for number in range(3):
        sink(bar(number))
        assert synced[-1] == path.stat().st_size


def test_another_process_is_waited_for_but_not_for_ever(
    sink: CsvSink, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink(bar(0))
    monkeypatch.setattr(files, "LOCK_WAIT_S_MAX", 0.05)
    with path.open("rb") as other:
        assert files.try_lock(other.fileno())
        with pytest.raises(SinkUnavailable, match=r"another process .* for 0.05 s"):
            sink(bar(1))
    sink(bar(1))
    assert numbers(path) == [0, 1]


def test_a_file_replaced_while_it_was_waited_for_is_opened_again(
    sink: CsvSink, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink(bar(0))
    lock, turns = files.lock, iter([True, False])

    def replaced(file: int, at: Path) -> None:
        lock(file, at)
        if next(turns):
            copy = path.with_suffix(".copy")
            copy.write_bytes(path.read_bytes())
            copy.replace(path)

    monkeypatch.setattr(files, "lock", replaced)
    sink(bar(1))
    assert numbers(path) == [0, 1]


def test_a_full_disk_is_told_and_tried_again(
    sink: CsvSink, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink(bar(0))

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(SinkUnavailable, match="No space left on device") as caught:
            sink(bar(1))
    assert caught.value.retryable
    sink(bar(1))
    assert numbers(path) == [0, 1]


def test_a_name_that_no_file_can_have_is_rejected(sink: CsvSink) -> None:
    with pytest.raises(SinkRejected, match="File name too long"):
        sink(bar(0, Series("Ä" * 100, "X", "1m")))


def test_a_file_system_that_takes_a_month_for_a_minute_is_refused(tmp_path: Path) -> None:
    (tmp_path / "X-1m.csv").touch()
    files.check_case(tmp_path / "X-1m.csv")
    with pytest.raises(SinkRejected, match="tells 1M from 1m"):
        files.check_case(tmp_path / "X-1M.csv")


def test_a_directory_that_cannot_be_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be a directory"):
        CsvSink(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot be a directory"):
        CsvSink(tmp_path / "file" / "below")
