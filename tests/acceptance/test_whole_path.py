"""From a TradingView session to a handler, with real processes and `kill -9`."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.acceptance.rig import Rig, eventually

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
