"""`tvbus history` with real processes, each bar compared with the simulator's truth."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from publisher.simulator import Limits
from publisher.wire import Series
from tests.acceptance.rig import Rig
from tests.acceptance.test_command_line import tvbus
from tests.waiting import eventually

LIVE = "ETHUSDT-BINANCE-1m"
BTC = Series.parse("BTCUSDT-BINANCE-1m")
AAPL = Series.parse("AAPL-NASDAQ-5m")
BEGIN_MS = 1_787_668_805_000
COLUMNS = ["open", "high", "low", "close", "volume"]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A publisher of one series, at a TradingView with small pages and a small window."""
    folder = tmp_path_factory.mktemp("history")
    limits = Limits(window_bars=2_500, answer_bars=400)
    # A minute lasts a second: bars end while pages are fetched.
    with Rig(folder, [LIVE], speed=60, start_ms=BEGIN_MS, limits=limits) as running:
        running.settings["TVBUS_HISTORY_REQUESTS_PER_HOUR_MAX"] = "1000"
        running.publisher()
        eventually(running.live, "the live series is live")
        yield running


def history(rig: Rig, *arguments: str) -> subprocess.CompletedProcess[str]:
    return tvbus("history", *arguments, folder=rig.folder, timeout_s=60, **rig.settings)


def iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()


def truth_of(rig: Rig, series: Series, first_ms: int, last_ms: int) -> list[tuple[Any, ...]]:
    """The true bars between two open times, both included: open time in ms, prices, volume."""
    bars = rig.simulator.truth(series, first_ms, last_ms + 1)
    return [(bar.start_ms, *bar.values[1:]) for bar in bars]


def rows_of(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    """A file's rows in the shape of the truth."""
    opened = pd.to_datetime(frame["open_time"], utc=True).astype("datetime64[ms, UTC]")
    times = opened.astype("int64").tolist()
    numbers = frame[COLUMNS].itertuples(index=False, name=None)
    return [(time, *row) for time, row in zip(times, numbers, strict=True)]


def read(path: Path) -> list[tuple[Any, ...]]:
    """Read a file back as people do."""
    if path.suffix == ".json":
        return [tuple(row[key] for key in "tohlcv") for row in json.loads(path.read_text())]
    if path.suffix == ".csv":
        return rows_of(pd.read_csv(path))
    return rows_of(pd.read_parquet(path))


@pytest.mark.parametrize("ending", [".csv", ".json", ".parquet"])
def test_the_newest_bars_of_several_pages_are_the_truth(rig: Rig, ending: str) -> None:
    path = rig.folder / f"newest{ending}"
    begun_ms = rig.simulator.now_ms()
    done = history(rig, str(BTC), "--bars", "1500", "--out", str(path))
    ended_ms = rig.simulator.now_ms()
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout == f"1500 bars in {path}\n"
    rows = read(path)
    assert len(rows) == 1_500
    assert rows == truth_of(rig, BTC, rows[0][0], rows[-1][0])
    # The newest one ended before the answer came, and not long before it was asked for.
    assert rows[-1][0] + 60_000 <= ended_ms
    assert rows[-1][0] + 4 * 60_000 > begun_ms
    assert not list(rig.folder.glob("*.part")), "nothing is left beside it"


@pytest.mark.parametrize(
    ("series", "from_h", "to_h", "ending"),
    [(AAPL, 24, 19, ".csv"), (BTC, 20, 18, ".parquet")],
)
def test_a_span_of_time_is_the_truth_its_end_left_out(
    rig: Rig, series: Series, from_h: int, to_h: int, ending: str
) -> None:
    from_ms, to_ms = BEGIN_MS - from_h * 3_600_000, BEGIN_MS - to_h * 3_600_000
    path = rig.folder / f"span{ending}"
    span = ("--from", iso(from_ms), "--to", iso(to_ms))
    done = history(rig, str(series), *span, "--out", str(path))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    expected = truth_of(rig, series, from_ms, to_ms - 1)
    assert len(expected) > 50
    assert read(path) == expected


def test_daily_bars_are_not_bounded_by_the_window(rig: Rig) -> None:
    done = history(rig, "BTCUSDT-BINANCE-1D", "--bars", "3000", "--json")
    assert done.returncode == 0, done.stderr
    rows = [tuple(row[key] for key in "tohlcv") for row in json.loads(done.stdout)]
    assert len(rows) == 3_000
    series = Series.parse("BTCUSDT-BINANCE-1D")
    assert rows == truth_of(rig, series, rows[0][0], rows[-1][0])


def test_a_span_that_is_not_reached_is_written_with_a_warning(rig: Rig) -> None:
    path = rig.folder / "short.csv"
    from_ms = BEGIN_MS - 2_600 * 60_000
    done = history(rig, str(BTC), "--from", str(from_ms), "--out", str(path))
    assert done.returncode == 0
    assert done.stderr.startswith("tvbus: warning: ")
    assert "TradingView gives this account no older ones" in done.stderr
    assert done.stderr.count("\n") == 1
    rows = read(path)
    assert rows[0][0] > from_ms
    assert rows == truth_of(rig, BTC, rows[0][0], rows[-1][0])


def test_without_a_terminal_the_output_is_csv(rig: Rig) -> None:
    done = history(rig, "RUT-TVC-1D", "--bars", "3")
    heading, *lines = done.stdout.splitlines()
    assert heading == "open_time,open,high,low,close,volume,end_time"
    assert len(lines) == 3
    assert all(line.split(",")[0].endswith("Z") for line in lines)
    assert all(line.split(",")[5] == "" for line in lines), "the index has no volume"


def test_on_a_terminal_the_output_is_a_table_with_progress_before(rig: Rig) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tvbus", "history", str(BTC), "--bars", "900"],
        env=os.environ
        | rig.settings
        | {"PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm", "COLUMNS": "120"},
        cwd=rig.folder,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait(10) == 0
    before, _, lines = shown.decode().partition("open time (UTC)")
    assert "/900" in before
    assert str(BTC) in before
    rows = [line.split() for line in lines.splitlines()[1:]]
    assert len(rows) == 900
    opened = datetime.fromisoformat(f"{rows[-1][0]} {rows[-1][1]}")
    [true] = truth_of(rig, BTC, *[round(opened.timestamp() * 1000)] * 2)
    assert [float(text) for text in rows[-1][2:]] == list(true[1:])


def test_an_unknown_symbol_is_told_in_one_line(rig: Rig) -> None:
    done = history(rig, "NOPE-X-1m")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("tvbus: TradingView does not know X:NOPE")
    assert done.stderr.count("\n") == 1


def test_history_leaves_the_bus_as_it_was(rig: Rig) -> None:
    done = history(rig, str(BTC), "--bars", "5", "--json")
    assert len(json.loads(done.stdout)) == 5
    assert rig.client.hkeys("tv:catalogue") == [LIVE.encode()]
    assert rig.client.exists(f"tv:bars:{{{BTC}}}") == 0
    assert rig.client.keys("tv:replies:*") == []
    # A minute is a second here, and the live series missed none of them.
    assert rig.check_streams(rig.simulator.now_ms()) > 50


def test_a_spent_budget_says_when_to_ask_again(tmp_path: Path) -> None:
    with Rig(tmp_path, [LIVE], limits=Limits(answer_bars=100)) as own:
        own.settings["TVBUS_HISTORY_REQUESTS_PER_HOUR_MAX"] = "2"
        own.publisher()
        eventually(own.live, "the live series is live")
        assert history(own, str(BTC), "--bars", "50").returncode == 0
        partly = history(own, str(BTC), "--bars", "250", "--json")
        assert partly.returncode == 0
        assert 90 <= len(json.loads(partly.stdout)) <= 100
        assert "TVBUS_HISTORY_REQUESTS_PER_HOUR_MAX" in partly.stderr
        done = history(own, str(BTC), "--bars", "50")
        assert (done.returncode, done.stdout) == (1, "")
        assert "ask again in 60 min" in done.stderr


def test_a_connection_that_breaks_in_the_middle_costs_a_second_attempt(tmp_path: Path) -> None:
    with Rig(tmp_path, [LIVE], limits=Limits(answer_bars=100)) as own:
        own.publisher()
        eventually(own.live, "the live series is live")
        own.simulator.faults.inject("late", duration_s=30.0)
        arguments = ("history", str(BTC), "--bars", "1000", "--json")
        asking = subprocess.Popen(
            [sys.executable, "-m", "tvbus", *arguments],
            env=os.environ | own.settings | {"PYTHONPATH": str(Path(__file__).parents[2])},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
        )

        def told(event: str) -> bool:
            entries: Any = own.client.xrange("tv:events")
            return any(event.encode() in fields[b"event"] for _, fields in entries)

        eventually(lambda: told("history.started"), "the request has its turn")
        own.simulator.faults.inject("reset")
        output, _ = asking.communicate(timeout=60)
        assert asking.returncode == 0
        assert told("history.interrupted")
        rows = [tuple(row[key] for key in "tohlcv") for row in json.loads(output)]
        assert len(rows) == 1_000
        assert rows == truth_of(own, BTC, rows[0][0], rows[-1][0])


MISTAKES: list[tuple[tuple[str, ...], int, str]] = [
    ((), 2, "Missing argument"),
    (("7x",), 2, "'7x' is not a series"),
    ((str(BTC), "--bars", "0"), 2, "--bars"),
    ((str(BTC), "--bars", "40001"), 2, "40000"),
    ((str(BTC), "--bars", "5", "--from", "2026-01-01T00:00:00Z"), 2, "give --bars or --from"),
    ((str(BTC), "--to", "2026-01-01T00:00:00Z"), 2, "--to goes with --from"),
    ((str(BTC), "--from", "yesterday"), 2, "--from: time must be written as"),
    ((str(BTC), "--from", "2026-01-01T00:00:00"), 2, "such as a Z at the end"),
    ((str(BTC), "--from", "1000", "--to", "1000"), 2, "--to must be later than --from"),
    ((str(BTC), "--from", "999999999999999"), 2, "from_ms must be a whole number"),
    ((str(BTC), "--out", "x.xlsx"), 2, "--out must end in .csv, .json, .parquet"),
    ((str(BTC), "--out", "nowhere/x.csv"), 2, "there is no directory 'nowhere'"),
    ((str(BTC), "--out", "x.csv", "--json"), 2, "give --out or --json"),
    ((str(BTC),), 1, "no bus: start one with `tvbus publish`"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), MISTAKES)
def test_a_mistake_is_told_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = tvbus("history", *arguments, folder=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    if done.stderr.startswith("tvbus:"):
        assert done.stderr.count("\n") == 1


def test_without_a_publisher_it_says_how_to_start_one(tmp_path: Path) -> None:
    with Rig(tmp_path, [LIVE]) as own:
        done = history(own, str(BTC))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "tvbus: no publisher is running: start one with `tvbus publish`\n"
        assert own.client.exists("tv:commands") == 0


def test_the_command_explains_itself_with_an_example(tmp_path: Path) -> None:
    done = tvbus("history", "--help", folder=tmp_path)
    assert done.returncode == 0
    assert "Example: tvbus history" in " ".join(done.stdout.split())
