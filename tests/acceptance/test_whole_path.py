"""From a TradingView session to a handler, with real processes and `kill -9`."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from publisher.ports import ACQUIRE_MS
from publisher.shell.lease import LEASE_MS
from publisher.simulator import Limits
from tests.acceptance.rig import Rig
from tests.waiting import eventually

CRYPTO = [f"{name}USDT-BINANCE" for name in ("BTC", "ETH", "SOL", "XRP")]
SERIES = [f"{name}-{interval}" for name in CRYPTO for interval in ("1m", "5m", "1H")]
OTHERS = ["AAPL-NASDAQ-1m", "ES1!-CME_MINI-5m", "RUT-TVC-1D", "VCB-HOSE-1H", "M%26M-NSE-1D"]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, SERIES)


def test_every_stream_equals_the_truth_and_the_group_sees_every_bar_once(rig: Rig) -> None:
    with rig:
        rig.publisher()
        consumer = rig.consumer()
        eventually(rig.live, "all series are live")
        begun_ms = rig.simulator.now_ms()
        eventually(lambda: rig.simulator.now_ms() > begun_ms + 8 * 60_000, "eight minutes passed")
        compared = rig.check_streams(rig.simulator.now_ms())
        rig.check_handled()
        assert consumer.stop() == 0
        handed = rig.handled()
        assert compared >= 50 * len(SERIES) + 8 * len(CRYPTO)
        for series in rig.series:
            assert len(handed[str(series)]) == len(set(handed[str(series)])), "handed out twice"


def test_markets_of_every_kind_reach_their_streams_unchanged(tmp_path: Path) -> None:
    series = [text.replace("%26", "&") for text in OTHERS]
    with Rig(tmp_path, series) as rig:
        rig.publisher()
        eventually(rig.live, "all series are live")
        assert rig.check_streams(rig.simulator.now_ms()) >= 50 * len(series)


def test_a_new_stream_begins_with_the_history_asked_for_in_several_answers(tmp_path: Path) -> None:
    limits = Limits(window_bars=2_000, answer_bars=300)
    with Rig(tmp_path, SERIES[:2], history_bars=1_000, limits=limits) as rig:
        rig.publisher()
        eventually(rig.live, "all series are live")
        until_ms = rig.simulator.now_ms()
        assert rig.check_streams(until_ms) >= 2_000
        for series in rig.series:
            bars = rig.stream(series)
            assert sum(bar.closed_by == "history" for bar in bars) == 1_000


def test_history_ends_where_the_plan_ends(tmp_path: Path) -> None:
    limits = Limits(window_bars=700, answer_bars=300)
    # At real speed from the beginning of a minute, so that no bar ends during the fill.
    begin = {"speed": 1.0, "start_ms": 1_787_668_805_000}
    with Rig(tmp_path, SERIES[:1], history_bars=1_000, limits=limits, **begin) as rig:
        rig.publisher()
        eventually(rig.live, "the series is live")
        rig.check_streams(rig.simulator.now_ms())
        closed = sum(bar.closed_by == "history" for bar in rig.stream(rig.series[0]))
        assert closed == 699, "all that the plan gives but the bar that still forms"


@pytest.mark.timeout(240)
def test_ten_kills_of_publisher_and_consumer_lose_nothing(rig: Rig) -> None:
    rng = random.Random(20261122)
    with rig:
        publisher, consumer = rig.publisher(), rig.consumer()
        eventually(rig.live, "all series are live")
        for _ in range(10):
            time.sleep(rng.uniform(0.2, 1.5))  # the moment of the kill is what is random
            if rng.random() < 0.5:
                publisher.kill()
                publisher = rig.publisher()
            else:
                consumer.kill()
                consumer = rig.consumer()
        eventually(lambda: rig.leads(publisher), "the last publisher took over")
        eventually(rig.live, "all series are live again")
        rig.check_streams(rig.simulator.now_ms())
        rig.check_handled()
        assert publisher.stop() == 0
        assert consumer.stop() == 0


def test_a_standby_takes_over_within_five_seconds_after_a_kill(tmp_path: Path) -> None:
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m"], speed=1) as rig:
        active = rig.publisher()
        eventually(rig.live, "live")
        standby = rig.publisher()
        eventually(lambda: "lease.awaited" in (tmp_path / "process.log").read_text(), "it waits")
        assert rig.leads(active)
        active.kill()
        eventually(lambda: rig.leads(standby), "the standby leads")
        # The lease's life and the standby's pace are less than that together.
        assert LEASE_MS + ACQUIRE_MS < 5_000
        eventually(rig.live, "live again")
