"""`tvbus verify` with real processes: what is whole passes, each damage is found and named."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from publisher.simulator import Limits
from publisher.wire import Bar, Series, encode_bar, entry_id
from tests.acceptance.rig import Rig
from tests.acceptance.test_command_line import tvbus
from tests.waiting import eventually

LIVE = "ETHUSDT-BINANCE-1m"
CORRECTED = "BTCUSD-BITFINEX-1m"
BTC = Series.parse("BTCUSDT-BINANCE-1m")
KEY = f"tv:bars:{{{BTC}}}"
CORRECTIONS = f"tv:corrections:{{{BTC}}}"
MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A publisher of three series, a minute a second; the third stream is left alone then."""
    folder = tmp_path_factory.mktemp("verify")
    limits = Limits(window_bars=2_000)
    with Rig(folder, [LIVE, CORRECTED, str(BTC)], speed=60, limits=limits) as running:
        running.settings["TVBUS_HISTORY_REQUESTS_PER_HOUR_MAX"] = "1000"
        running.publisher()
        eventually(running.live, "the series are live")
        eventually(lambda: running.client.xlen(KEY) >= 53, "bars came live")
        done = tvbus("unsubscribe", str(BTC), folder=folder, **running.settings)
        assert done.returncode == 0, done.stderr
        yield running


@pytest.fixture
def whole(rig: Rig) -> Iterator[list[Bar]]:
    """The third stream's bars; it is mended afterwards."""
    bars = rig.stream(BTC)
    yield bars
    rewrite(rig, bars)
    rig.client.delete(CORRECTIONS)


def rewrite(rig: Rig, bars: list[Bar]) -> None:
    """Let the stream hold these bars alone."""
    rig.client.delete(KEY)
    for bar in bars:
        add(rig, KEY, entry_id(bar.open_time_ms), bar)


def add(rig: Rig, key: str, entry: str, bar: Bar) -> None:
    name, payload = encode_bar(bar)
    fields: Any = {name: payload}
    rig.client.xadd(key, fields, entry)


def verify(rig: Rig, *arguments: str) -> subprocess.CompletedProcess[str]:
    return tvbus("verify", *arguments, folder=rig.folder, timeout_s=60, **rig.settings)


def verified(rig: Rig, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code and what is told of the one series; the event on the bus says the same."""
    done = verify(rig, *(arguments or (str(BTC),)), "--json")
    assert done.stderr == ""
    line = json.loads(done.stdout)
    event = rig.events(f"stream.{line['outcome']}")[-1]
    assert event["series"] == line["series"]
    assert event["differences"] == line["differences"]
    return done.returncode, line


def test_streams_that_are_whole_pass(rig: Rig) -> None:
    done = verify(rig, LIVE, "BITFINEX:BTCUSD@1m")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == [CORRECTED, LIVE]
    assert all("verified: " in line for line in done.stdout.splitlines())
    event = rig.events("stream.verified")[-1]
    assert (event["series"], event["level"], event["differences"]) == (LIVE, "info", {})
    assert event["compared"] == event["bars"] >= 53


def test_corrections_are_applied_before_the_comparison(rig: Rig) -> None:
    eventually(lambda: rig.events("bar.corrected"), "a bar was corrected")
    code, line = verified(rig, CORRECTED)
    assert (code, line["outcome"]) == (0, "verified"), line
    assert line["corrections"] >= 1


def test_all_means_every_series_of_the_bus(rig: Rig) -> None:
    done = verify(rig, "--all", "--json")
    assert done.returncode == 0, done.stdout
    lines = [json.loads(text) for text in done.stdout.splitlines()]
    assert [line["series"] for line in lines] == sorted([LIVE, CORRECTED])


def test_a_stream_that_was_trimmed_passes(rig: Rig, whole: list[Bar]) -> None:
    rig.client.xtrim(KEY, maxlen=20, approximate=False)
    code, line = verified(rig)
    assert (code, line["bars"], line["compared"]) == (0, 20, 20)
    assert line["newer"] >= 1, "bars closed since nobody publishes it"


def test_a_deleted_entry_is_found_twice(rig: Rig, whole: list[Bar]) -> None:
    rig.client.xdel(KEY, entry_id(whole[30].open_time_ms))
    code, line = verified(rig)
    assert (code, line["outcome"]) == (1, "differed")
    assert line["differences"] == {"discontinuous": 1, "missing": 1}
    assert {one["kind"]: one["open_time_ms"] for one in line["shown"]} == {
        "discontinuous": whole[31].open_time_ms,
        "missing": whole[30].open_time_ms,
    }
    event = rig.events("stream.differed")[-1]
    assert event["level"] == "error"
    assert event["first"].startswith("discontinuous")


def test_a_changed_value_is_found_and_shown(rig: Rig, whole: list[Bar]) -> None:
    other = replace(whole[20], volume=(whole[20].volume or 0) + 1)
    rewrite(rig, [*whole[:20], other, *whole[21:]])
    done = verify(rig, str(BTC))
    assert done.returncode == 1
    difference, summary = done.stdout.splitlines()
    assert difference.startswith(f"{BTC}  different ")
    assert f"{whole[20].open_time:%Y-%m-%dT%H:%M:%SZ}" in difference
    assert str(other.volume) in difference
    assert str(whole[20].volume) in difference
    assert summary.startswith(f"{BTC}  differed: {len(whole)} bars ")
    assert summary.endswith("; differences: 1 different")


def test_an_invented_bar_is_found(rig: Rig, whole: list[Bar]) -> None:
    between = replace(
        whole[20],
        open_time_ms=whole[20].open_time_ms + 30_000,
        previous_open_time_ms=whole[20].open_time_ms,
    )
    after = replace(whole[21], previous_open_time_ms=between.open_time_ms)
    rewrite(rig, [*whole[:21], between, after, *whole[22:]])
    code, line = verified(rig)
    assert (code, line["differences"]) == (1, {"extra": 1})
    assert line["shown"][0]["open_time_ms"] == between.open_time_ms


def test_a_bar_from_the_future_is_found(rig: Rig, whole: list[Bar]) -> None:
    opened_ms = rig.simulator.now_ms() + 365 * 86_400_000
    last = whole[-1]
    future = replace(last, open_time_ms=opened_ms, previous_open_time_ms=last.open_time_ms)
    add(rig, KEY, entry_id(opened_ms), future)
    for arguments in ((str(BTC),), (str(BTC), "--offline")):
        code, line = verified(rig, *arguments)
        assert code == 1
        assert line["differences"]["future"] == 1


def test_an_entry_under_another_id_is_found(rig: Rig, whole: list[Bar]) -> None:
    rewrite(rig, whole[:20])
    add(rig, KEY, f"{whole[20].open_time_ms}-7", whole[20])
    for bar in whole[21:]:
        add(rig, KEY, entry_id(bar.open_time_ms), bar)
    code, line = verified(rig)
    assert (code, line["differences"]) == (1, {"misplaced": 1})


def test_values_that_cannot_be_a_bar_are_found(rig: Rig, whole: list[Bar]) -> None:
    rewrite(rig, [*whole[:20], replace(whole[20], high=0.5), *whole[21:]])
    code, line = verified(rig, str(BTC), "--offline")
    assert (code, line["differences"]) == (1, {"unsound": 1})
    assert line["compared"] == 0


def test_what_cannot_be_read_is_found(rig: Rig, whole: list[Bar]) -> None:
    rewrite(rig, whole[:20])
    rig.client.xadd(KEY, {"bar": b"\xc1"}, entry_id(whole[20].open_time_ms))
    for bar in whole[21:]:
        add(rig, KEY, entry_id(bar.open_time_ms), bar)
    rig.client.xadd(CORRECTIONS, {"news": "none"})
    code, line = verified(rig)
    assert (code, line["differences"]) == (1, {"malformed": 2, "missing": 1})


def test_a_correction_that_history_does_not_know_is_found(rig: Rig, whole: list[Bar]) -> None:
    add(rig, CORRECTIONS, "5-0", replace(whole[20], volume=1.0, revision=1))
    code, line = verified(rig)
    assert (code, line["differences"]) == (1, {"different": 1})


def test_a_correction_that_does_not_rise_is_found(rig: Rig, whole: list[Bar]) -> None:
    for place in (5, 6):
        add(rig, CORRECTIONS, f"{place}-0", replace(whole[20], revision=1))
    code, line = verified(rig)
    assert (code, line["differences"]) == (1, {"correction": 1})


def test_no_more_differences_are_shown_than_a_few(rig: Rig, whole: list[Bar]) -> None:
    rewrite(rig, [*whole[:2], *(replace(bar, volume=0.5) for bar in whole[2:42]), *whole[42:]])
    done = verify(rig, str(BTC))
    lines = done.stdout.splitlines()
    assert (done.returncode, len(lines)) == (1, 22)
    assert lines[-2] == f"{BTC}  … and 20 more"
    assert lines[-1].endswith("differences: 40 different")


def test_what_history_does_not_reach_is_audited_by_itself(rig: Rig, whole: list[Bar]) -> None:
    """The plan's window is 2,000 bars; two that are older stand before them."""
    oldest_ms = whole[0].open_time_ms - 3_000 * MINUTE_MS
    older = replace(whole[0], open_time_ms=oldest_ms, previous_open_time_ms=None)
    newer = replace(older, open_time_ms=oldest_ms + 1, previous_open_time_ms=oldest_ms)
    first_ms = whole[0].open_time_ms
    minutes = range(first_ms - 2_500 * MINUTE_MS, first_ms, MINUTE_MS)
    truth = {bar.start_ms: bar for bar in rig.simulator.truth(BTC, minutes[0], first_ms)}
    filled, before_ms = [], newer.open_time_ms
    for opened_ms, bar in truth.items():
        values = dict(zip(("open", "high", "low", "close", "volume"), bar.values[1:], strict=True))
        at: Any = {"open_time_ms": opened_ms, "previous_open_time_ms": before_ms, **values}
        filled.append(replace(older, **at))
        before_ms = opened_ms
    joined = replace(whole[0], previous_open_time_ms=before_ms)
    rewrite(rig, [older, newer, *filled, joined, *whole[1:]])
    done = verify(rig, str(BTC), "--json")
    line = json.loads(done.stdout)
    assert done.returncode == 0, line
    assert line["bars"] == len(truth) + len(whole) + 2
    assert line["unreached"] > 400
    assert line["compared"] + line["unreached"] == line["bars"]
    assert line["limit"] != ""
    told = verify(rig, str(BTC)).stdout
    assert "older ones audited by themselves" in told
    assert "gives this account no older ones" in told


def test_a_series_without_a_stream_is_not_verified(rig: Rig) -> None:
    code, line = verified(rig, "SOLUSDT-BINANCE-1m")
    assert (code, line["outcome"]) == (1, "unverified")
    assert "no bars on the bus" in line["reason"]
    assert rig.events("stream.unverified")[-1]["level"] == "warning"


def test_a_key_that_holds_something_else_is_told(rig: Rig) -> None:
    rig.client.set("tv:bars:{XRPUSDT-BINANCE-1m}", "mine")
    code, line = verified(rig, "XRPUSDT-BINANCE-1m")
    assert (code, line["outcome"]) == (1, "unverified")
    assert "WRONGTYPE" in line["reason"]


def test_history_without_the_symbol_is_told(rig: Rig, whole: list[Bar]) -> None:
    unknown = Series.parse("NOPE-X-1m")
    add(rig, f"tv:bars:{{{unknown}}}", entry_id(whole[0].open_time_ms), whole[0])
    code, line = verified(rig, str(unknown))
    assert (code, line["outcome"]) == (1, "unverified")
    assert "TradingView does not know X:NOPE" in line["reason"]


def test_a_spent_budget_is_told(tmp_path: Path) -> None:
    with Rig(tmp_path, [LIVE]) as own:
        own.settings["TVBUS_HISTORY_REQUESTS_PER_HOUR_MAX"] = "1"
        own.publisher()
        eventually(own.live, "the series is live")
        assert verify(own, LIVE).returncode == 0
        done = verify(own, LIVE)
        assert (done.returncode, done.stderr) == (1, "")
        assert done.stdout.count("\n") == 1
        assert "unverified: " in done.stdout
        assert "ask again in 60 min" in done.stdout


def test_without_a_publisher_the_streams_alone_are_audited(tmp_path: Path) -> None:
    with Rig(tmp_path, [LIVE]) as own:
        publisher = own.publisher()
        eventually(own.live, "the series is live")
        assert publisher.stop() == 0
        done = verify(own, LIVE)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("tvbus: no publisher is running")
        assert "--offline" in done.stderr
        assert done.stderr.count("\n") == 1
        assert own.events("stream.unverified") == []
        alone = verify(own, LIVE, "--offline")
        assert (alone.returncode, alone.stderr) == (0, ""), alone.stdout
        assert "audited by themselves" in alone.stdout
        own.client.xdel(
            own.keys.bars(own.series[0]), entry_id(own.stream(own.series[0])[9].open_time_ms)
        )
        assert verify(own, "--all", "--offline").returncode == 1
        assert own.events("stream.differed")[-1]["differences"] == {"discontinuous": 1}
