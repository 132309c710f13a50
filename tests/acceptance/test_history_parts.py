"""What `tvbus history` makes of the publisher's answers, and of bars that it writes."""

from __future__ import annotations

import builtins
import csv
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bus.errors import BusUnreachable
from consumers.errors import SinkUnavailable, UsageError
from publisher.answers import Chunk, HistoryBar, Progress, Reply
from publisher.commands import Answer, Command
from publisher.errors import RequestRefused
from publisher.wire import Series
from tests.acceptance.rig import Rig
from tvbus import bar_files, fetching
from tvbus.bar_files import save, table, to_csv, to_json
from tvbus.fetching import History, ask_history, history_command
from tvbus.shared import Bus

BTC = "BTCUSDT-BINANCE-1m"
OPENED_MS = 1_700_000_040_000
# 2023-11-14T22:14:00Z and the minute after.
BARS = (
    HistoryBar(OPENED_MS, 0.1, 1e16, 5e-324, 37898.88, 195.86836000000048, None),
    HistoryBar(OPENED_MS + 60_000, 1.0, 2.0, 0.5, 1.5, None, OPENED_MS + 120_000),
)


def some(*minutes: int) -> Chunk:
    return Chunk(
        BTC,
        tuple(HistoryBar(OPENED_MS + m * 60_000, 1.0, 2.0, 0.5, 1.5, 9.0, None) for m in minutes),
    )


def ended(count: int, *, accepted: bool = True, complete: bool = True) -> Answer:
    return Answer(BTC, accepted, f"{count} bars", complete=complete, count=count)


# Asking.


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A server alone; the tests play the publisher."""
    with Rig(tmp_path_factory.mktemp("asking"), []) as running:
        yield running


@pytest.fixture
def bus(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bus]:
    """A bus with a publisher that holds the lease, and little patience."""
    monkeypatch.setattr(fetching, "SILENCE_S_MAX", 2)
    monkeypatch.setattr(fetching, "DEAD_S", 1)
    rig.client.flushall()
    rig.client.hset("tv:publisher", mapping={"holder": "x", "token": 1, "expires_ms": 10**14})
    bus = Bus.at(rig.url)
    yield bus
    bus.client.close()


def answered(bus: Bus, *replies: Reply) -> tuple[History, list[Progress]]:
    """Ask with the answers there already."""
    command = history_command(Series.parse(BTC), 5, None, None)
    seen: list[Progress] = []
    for reply in replies:
        bus.client.rpush(bus.keys.replies(command.id), reply.encode())
    return ask_history(bus, command, seen.append), seen


def test_what_is_asked_stands_on_the_bus_and_the_bars_come_in_order(bus: Bus) -> None:
    history, seen = answered(bus, Progress(BTC, 2, 5), some(0, 1), some(2), ended(3))
    assert [bar.open_time_ms for bar in history.bars] == [OPENED_MS + m * 60_000 for m in range(3)]
    assert (history.complete, history.message, seen) == (True, "3 bars", [Progress(BTC, 2, 5)])
    [(_, fields)] = bus.client.xrange("tv:commands")
    command = Command.decode(fields[b"command"])
    assert (command.action, command.series, command.bars) == ("history", (BTC,), 5)


def test_what_comes_twice_is_taken_once(bus: Bus) -> None:
    history, _ = answered(bus, some(0, 1), some(2), some(0, 1), some(2), some(3), ended(4))
    assert len(history.bars) == 4


def test_an_incomplete_answer_says_so(bus: Bus) -> None:
    history, _ = answered(bus, some(0), ended(1, complete=False))
    assert not history.complete


def test_bars_that_were_lost_on_the_way_are_noticed(bus: Bus) -> None:
    with pytest.raises(RequestRefused, match="1 of 3 bars arrived"):
        answered(bus, some(0), ended(3))


def test_a_refusal_is_told_with_its_reason(bus: Bus) -> None:
    with pytest.raises(RequestRefused, match="ask again in 12 min"):
        answered(bus, some(0), Answer(BTC, False, "spent: ask again in 12 min", "budget_spent"))


def test_an_answer_that_cannot_be_understood_is_shown(bus: Bus) -> None:
    command = history_command(Series.parse(BTC), 5, None, None)
    bus.client.rpush(bus.keys.replies(command.id), b'{"news":1}')
    with pytest.raises(RequestRefused, match=r"cannot be understood.*news"):
        ask_history(bus, command, print)


def test_a_publisher_that_says_nothing_is_not_waited_for_without_end(bus: Bus) -> None:
    with pytest.raises(RequestRefused, match="no answer from the publisher for 2 s"):
        answered(bus)


def test_a_publisher_that_went_away_is_told(bus: Bus, rig: Rig) -> None:
    command = history_command(Series.parse(BTC), 5, None, None)

    def go_away(_: Progress) -> None:
        rig.client.delete("tv:publisher")

    bus.client.rpush(bus.keys.replies(command.id), Progress(BTC, 2, 5).encode())
    with pytest.raises(RequestRefused, match="the publisher is gone"):
        ask_history(bus, command, go_away)


def test_a_bus_that_fails_meanwhile_is_told(bus: Bus, rig: Rig) -> None:
    command = history_command(Series.parse(BTC), 5, None, None)
    bus.client.set(bus.keys.replies(command.id), "a text of somebody else")
    with pytest.raises(BusUnreachable, match=r"the bus at unix://.* failed"):
        ask_history(bus, command, print)
    assert rig.client.ping()


def test_what_the_publisher_would_not_understand_is_not_asked() -> None:
    with pytest.raises(UsageError, match="bars must be a whole number"):
        history_command(Series.parse(BTC), 10**6, None, None)


# Writing.


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
