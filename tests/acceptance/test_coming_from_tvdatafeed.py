"""Programs as tvDatafeed's users write them, with nothing but their import changed.

A publisher, the simulator and the embedded server; each program is a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import bus.errors
from bus import embedded
from bus.connection import connect_writer
from consumers import errors
from publisher.simulator import Simulator
from publisher.wire import Keys, Series, Summary
from tests.acceptance.rig import Process
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
KEYS = Keys()
SPEED = 3_600
"""An hour lasts a second."""
HOUR_MS = 3_600_000
BEGIN_MS = 1_787_668_805_000
COLUMNS = ["symbol", "open", "high", "low", "close", "volume"]


@dataclass
class Desk:
    """What runs while the programs are tried."""

    folder: Path
    simulator: Simulator
    settings: dict[str, str]
    client: Any

    def start(self, program: str) -> subprocess.Popen[str]:
        """Run a program with only its import changed; its local time is India's."""
        path = self.folder / "program.py"
        path.write_text(program.replace("from tvDatafeed", "from consumers.tvdatafeed"))
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TVBUS_")}
        return subprocess.Popen(
            [sys.executable, "-W", "error", str(path)],
            env=clean | self.settings | {"PYTHONPATH": str(ROOT), "TZ": "Asia/Kolkata"},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run_plain(self, program: str) -> str:
        """Run a program as it stands; return what it prints."""
        process = self.start(program)
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, err
        return out

    def run(self, program: str) -> tuple[list[Any], str]:
        """Return the JSON lines that a program prints until it ends, and what it says besides."""
        process = self.start(program)
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, err
        return [json.loads(line) for line in out.splitlines()], err

    def truth(self, series: str, first_ms: int, last_ms: int) -> list[list[Any]]:
        """The true bars between two open times, both included."""
        bars = self.simulator.truth(Series.parse(series), first_ms, last_ms + 1)
        return [[bar.start_ms, *bar.values[1:]] for bar in bars]

    def state(self, series: str) -> str | None:
        """What the catalogue says of a series."""
        text = self.client.hget(KEYS.catalogue, series)
        return None if text is None else Summary.decode(series.encode(), text).state


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    """A publisher that is told of no series, on the embedded server."""
    with tempfile.TemporaryDirectory(prefix="tv-") as name:
        folder = Path(name)
        with Simulator(seed=7, speed=SPEED, start_ms=BEGIN_MS) as simulator:
            settings = {
                "TVBUS_STATE_DIR": str(folder / "state"),
                "TVBUS_WEB_URL": simulator.web_url,
                "TVBUS_SEARCH_URL": simulator.search_url,
                "TVBUS_HISTORY_REQUESTS_PER_HOUR_MAX": "1000",
            }
            arguments = ["publish", "--ws-url", simulator.url, "--history-bars", "20"]
            publisher = Process([*arguments, "--listen", ""], folder, settings).start()
            try:
                eventually(lambda: embedded.find_url(folder / "state"), "the server is there")
                url = embedded.find_url(folder / "state")
                assert url is not None
                client = connect_writer(url)
                eventually(lambda: client.hget(KEYS.publisher, "holder"), "it publishes")
                yield Desk(folder, simulator, settings, client)
                client.close()
            finally:
                publisher.stop()


SHOW = """
import json

def show(data):
    times = [int(time.timestamp() * 1000) for time in data.index.tz_localize("Asia/Kolkata")]
    rows = data[["open", "high", "low", "close", "volume"]].values.tolist()
    bars = [[time, *row] for time, row in zip(times, rows)]
    print(json.dumps([list(data.columns), data.index.name, sorted(set(data["symbol"])), bars]))
"""

HISTORY = f"""
from tvDatafeed import TvDatafeed, Interval
{SHOW}
tv = TvDatafeed("someone", "a secret word")

show(tv.get_hist(symbol="NIFTY", exchange="NSE", interval=Interval.in_1_hour, n_bars=1000))
show(tv.get_hist(symbol="NIFTY", exchange="NSE", interval=Interval.in_1_hour, n_bars=1000,
                 fut_contract=1))
show(tv.get_hist(symbol="CRUDEOIL", exchange="MCX", interval=Interval.in_1_hour, n_bars=5000,
                 fut_contract=1))
show(tv.get_hist(symbol="EICHERMOT", exchange="NSE", interval=Interval.in_1_hour, n_bars=500,
                 extended_session=False))
show(tv.get_hist("NSE:BAJAJ-AUTO"))
"""


def test_history_is_the_truth_in_the_shape_that_programs_know(desk: Desk) -> None:
    begun_ms = desk.simulator.now_ms()
    frames, said = desk.run(HISTORY)
    expected = [
        ("NIFTY-NSE-1H", "NSE:NIFTY", 1000),
        ("NIFTY1!-NSE-1H", "NSE:NIFTY1!", 1000),
        ("CRUDEOIL1!-MCX-1H", "MCX:CRUDEOIL1!", 5000),
        ("EICHERMOT-NSE-1H", "NSE:EICHERMOT", 500),
        ("BAJAJ-AUTO-NSE-1D", "NSE:BAJAJ-AUTO", 10),
    ]
    for (columns, index, symbols, bars), (series, symbol, count) in zip(
        frames, expected, strict=True
    ):
        assert (columns, index, symbols) == (COLUMNS, "datetime", [symbol])
        # Without an account TradingView gives 5,000 bars, of which one may be forming.
        short = count == 5000 and len(bars) == count - 1
        assert len(bars) == count or short, series
        assert said.count(f" series={series}") == short
        truth = desk.truth(series, bars[0][0], bars[-1][0])
        # An index has no volume: 0 in the frame, as programs know it.
        assert bars == [bar if len(bar) == 6 else [*bar, 0.0] for bar in truth], series
        assert bars[-1][0] > begun_ms - 5 * 24 * HOUR_MS, "the newest ones"
    assert said.count("credentials.ignored") == 1
    assert "someone" not in said
    assert "secret word" not in said


SEARCH = """
import json
from tvDatafeed import TvDatafeed
tv = TvDatafeed()
found = tv.search_symbol("CRUDE", "MCX")
print(json.dumps(found))
contract = found[0]["contracts"][0]
data = tv.get_hist(f"{contract['exchange']}:{contract['symbol']}", n_bars=3)
print(len(data))
"""


def test_a_search_finds_what_history_takes(desk: Desk) -> None:
    (found, bars), said = desk.run(SEARCH)
    assert [(one["symbol"], one["exchange"], one["type"]) for one in found] == [
        ("CRUDEOIL", "MCX", "futures")
    ]
    assert found[0]["description"] == "CRUDE OIL FUTURES"
    assert found[0]["contracts"][0]["symbol"] == "CRUDEOIL1!"
    assert (bars, said) == (3, "")


LIVE = f"""
from tvDatafeed import TvDatafeedLive, Interval
import threading
{SHOW}
tvl = TvDatafeedLive("someone", "a secret word")

seis = tvl.new_seis("ETHUSDT", "BINANCE", Interval.in_1_hour, timeout=60)
seis2 = tvl.new_seis("ETHUSDT", "BINANCE", Interval.in_2_hour, timeout=60)
done = threading.Event()
seen = {{1: [], 2: [], 3: []}}

def consumer_func1(seis, data):
    seen[1].append(["Open of", seis.symbol, seis.exchange, seis.interval.name, data.open[0]])
    bars.append(data)

def consumer_func2(seis, data):
    seen[2].append(["Volume of", seis.symbol, seis.exchange, seis.interval.name, data.volume[0]])

def consumer_func3(seis, data):
    seen[3].append(["Close of", seis.symbol, seis.exchange, seis.interval.name, data.close[0]])
    if len(seen[3]) == 3:
        done.set()

bars = []
consumer1 = tvl.new_consumer(seis, consumer_func1)
consumer2 = seis.new_consumer(consumer_func2)
consumer3 = seis.new_consumer(consumer_func3)
assert seis.get_consumers() == [consumer1, consumer2, consumer3]
assert done.wait(60)

tvl.del_consumer(consumer1)
seis.del_consumer(consumer2)
consumer3.del_consumer()
assert seis.get_consumers() == []

import pandas
show(pandas.concat(bars))
show(tvl.get_hist("ETHUSDT", "BINANCE", interval=Interval.in_daily, n_bars=10, fut_contract=None,
                  extended_session=False, timeout=-1))
show(seis.get_hist(n_bars=10, timeout=-1))
print(json.dumps(seen[1][:3]))

tvl.del_seis(seis)
seis2.del_seis()
"""


def test_live_bars_reach_every_callback_and_the_program_ends_when_told(desk: Desk) -> None:
    (live, daily, hourly, opens), said = desk.run(LIVE)
    assert said.count("credentials.ignored") == 1
    for columns, index, symbols, bars in (live, daily, hourly):
        assert (columns, index, symbols) == (COLUMNS, "datetime", ["BINANCE:ETHUSDT"])
        times = [bar[0] for bar in bars]
        step_ms = 24 * HOUR_MS if bars is daily[3] else HOUR_MS
        assert times == list(range(times[0], times[-1] + 1, step_ms)), "each once, in order"
    assert len(live[3]) >= 3
    for bars in (live[3], hourly[3]):
        assert bars == desk.truth("ETHUSDT-BINANCE-1H", bars[0][0], bars[-1][0])
    assert daily[3] == desk.truth("ETHUSDT-BINANCE-1D", daily[3][0][0], daily[3][-1][0])
    assert opens == [["Open of", "ETHUSDT", "BINANCE", "in_1_hour", bar[1]] for bar in live[3][:3]]
    # What the program subscribed is given up again.
    assert desk.state("ETHUSDT-BINANCE-1H") == "removed"
    assert desk.state("ETHUSDT-BINANCE-2H") == "removed"


ERRORS = """
import json
from tvDatafeed import TvDatafeedLive, Interval
tvl = TvDatafeedLive()
for call in (
    lambda: tvl.new_seis("NOSUCH", "BINANCE", Interval.in_1_hour),
    lambda: tvl.get_hist("NOSUCH", "BINANCE"),
    lambda: tvl.get_hist("BTCUSDT", "BINANCE", n_bars=0),
    lambda: tvl.get_hist("BTCUSDT", "BINANCE", Interval.in_1_hour, fut_contract="first"),
):
    try:
        print(json.dumps(["no error", str(call())]))
    except ValueError as error:
        print(json.dumps([type(error).__name__, str(error)]))
tvl.del_tvdatafeed()
"""


def test_what_cannot_be_had_is_an_error_with_a_reason(desk: Desk) -> None:
    told, _ = desk.run(ERRORS)
    assert [name for name, _ in told] == [*["SymbolUnknown"] * 2, *["ArgumentInvalid"] * 2]
    assert "does not know BINANCE:NOSUCH" in told[0][1]
    assert told[2][1] == "n_bars must be a whole number from 1 on, was 0"
    assert told[3][1] == "fut_contract must be 1, 2, … or None, was 'first'"
    assert desk.state("NOSUCH-BINANCE-1H") == "removed", "nothing is left subscribed"


PAGE = (ROOT / "docs" / "migration.md").read_text()


def test_the_programs_of_the_migration_page_run(desk: Desk) -> None:
    history, live, failing = (part.split("```")[0] for part in PAGE.split("```python\n")[1:])
    shown = desk.run_plain(history)
    assert "BINANCE:BTCUSDT" in shown
    assert "BINANCE ETHUSDT ETH / TetherUS" in shown
    assert desk.run_plain(live.replace("in_1_minute", "in_1_hour")).startswith("BTCUSDT 20")
    assert "does not know BINANCE:NOSUCH" in desk.run_plain(failing)


def test_every_error_that_the_page_names_exists() -> None:
    table = PAGE.split("**Errors**")[1].split("So `if data")[0]
    named = re.findall(r"^\| `(\w+)`(, a ValueError)?", table, re.MULTILINE)
    assert len(named) == 4
    for name, is_value_error in named:
        kind = getattr(errors, name, None) or getattr(bus.errors, name)
        assert issubclass(kind, ValueError) == bool(is_value_error), name
