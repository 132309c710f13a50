"""A program that kills a sink before every single thing it does to the disk, in turn.

Called with the name of a sink and an empty directory, it prints how many deaths there
were, or what was wrong after one. For each death a process of its own is forked, and
another one looks at what it left. The driver itself never uses the sink, for a process
with threads must not be forked.
"""

from __future__ import annotations

import csv
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow.parquet

import consumers.sinks.parquet  # noqa: F401 - once here, not in every child
from consumers.sinks.open import open_sink
from publisher.wire import Bar, Series

BTC = Series("BTCUSDT", "BINANCE", "1m")
HOUR_MS = 3_600_000
MONTH_END_MS = 1_793_491_200_000
"""2026-11-01T00:00:00Z"""
EFFECTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate"}


def bar(hour: int, revision: int = 0) -> Bar:
    """The bar that opens so many hours after the end of October."""
    opened_ms = MONTH_END_MS + hour * HOUR_MS
    price = 100.0 + hour + revision / 8
    received_ms = opened_ms + 60_041 + revision
    return Bar(
        *(BTC, opened_ms, price, price, price, price, 1.0, opened_ms + 60_000, None),
        *(received_ms, "next", False, revision),
    )


BASE = [bar(hour) for hour in range(-80, -2)]
"""What is stored and acknowledged before."""
BATCH = [bar(-50, 1), bar(-90), *(bar(hour) for hour in range(-2, 3))]
"""What a process is killed at: a correction, a late bar, and bars of the next month."""


def rows_of_csv(folder: Path) -> list[tuple[str, float]]:
    """Return what a reader sees: open times and closes, whole lines only."""
    rows = []
    for path in folder.glob("*.csv"):
        with path.open(newline="") as file:
            lines = [line for line in file if line.endswith("\n")]
        rows += [(row["open_time"], float(row["close"])) for row in csv.DictReader(lines)]
    return rows


def rows_of_parquet(folder: Path) -> list[tuple[str, float]]:
    """The same."""
    rows = []
    for path in folder.rglob("*.parquet"):
        with pyarrow.parquet.ParquetFile(path) as file:
            table = file.read(["open_time", "close"]).to_pydict()
        times = [f"{time:%Y-%m-%dT%H:%M:%S}.000Z" for time in table["open_time"]]
        rows += zip(times, table["close"], strict=True)
    return rows


READERS = {"csv": rows_of_csv, "parquet": rows_of_parquet}
FILES_MAX = {"csv": 1, "parquet": 2}


def expected(bars: Iterable[Bar]) -> dict[str, float]:
    return {f"{x.open_time:%Y-%m-%dT%H:%M:%S}.000Z": x.close for x in bars}


def fork(work: Callable[[], None]) -> int:
    """Do something in a process of its own; return what `os.wait` says of its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - whatever it is, it is told
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitpid(child, 0)[1]


def arm(folder: Path, deadly: int) -> None:
    """Kill this process before it does to the directory what has this number."""
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if done == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def step(event: str, arguments: tuple[object, ...]) -> None:
        if event in EFFECTS and str(arguments[0]).startswith(str(folder)):
            count()

    sync = os.fsync

    def fsync(file: int) -> None:
        count()
        sync(file)

    os.fsync = fsync
    sys.addaudithook(step)


def main(kind: str, root: Path) -> None:
    """Go through all deaths of one sink."""
    read = READERS[kind]

    def store(folder: Path, bars: list[Bar], deadly: int = 0) -> None:
        sink = open_sink(f"{kind}:{folder}", "g")
        assert sink is not None
        arm(folder, deadly)
        sink.write(bars)

    def look(folder: Path, at_least: dict[str, float]) -> None:
        rows = read(folder)
        assert len(rows) == len(dict(rows)), "a row stands twice"
        missing = {time for time in at_least if time not in dict(rows)}
        assert not missing, f"rows are missing: {sorted(missing)}"

    def recover(folder: Path) -> None:
        look(folder, {})
        open_sink(f"{kind}:{folder}", "g")
        look(folder, expected(BASE))
        store(folder, BASE[-5:] + BATCH)
        assert dict(read(folder)) == expected(BASE + BATCH)
        files = [path.name for path in folder.rglob("*") if path.is_file()]
        visible = [name for name in files if not name.startswith(".")]
        assert len(visible) == FILES_MAX[kind], visible
        assert files == visible, "something is left over"

    base = root / "base"
    assert fork(lambda: store(base, BASE)) == 0
    deaths = 0
    while True:
        folder = root / str(deaths)
        shutil.copytree(base, folder)
        end = fork(lambda at=folder, n=deaths + 1: store(at, BATCH, n))
        if fork(lambda at=folder: recover(at)):
            sys.exit(f"wrong after death {deaths + 1}")
        if end == 0:
            break
        assert os.WTERMSIG(end) == signal.SIGKILL, end
        deaths += 1
    print(deaths)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
