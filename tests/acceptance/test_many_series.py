"""A thousand series on one account: paced, spread over connections, within the limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from publisher.simulator import SYMBOLS
from tests.acceptance.rig import Rig
from tests.waiting import eventually

COUNT = 1_000
INTERVALS = ("1m", "3m", "5m", "15m", "30m", "45m", "1H", "2H", "3H", "4H", "1D", "1W", "1M")
SESSIONS_MAX = 200
"""Chart sessions that the simulated TradingView allows on one connection."""


def series() -> list[str]:
    crypto = [name for name in SYMBOLS if name.startswith(("BINANCE:", "COINBASE:", "BYBIT:"))]
    plain = [f"{name}@{interval}" for name in crypto for interval in INTERVALS]
    return [*plain, *(f"{one}+EUR" for one in plain), *(f"{one}+GBP" for one in plain)][:COUNT]


def test_a_thousand_series_go_live_and_no_limit_is_touched(tmp_path: Path) -> None:
    wanted = series()
    assert len(set(wanted)) == COUNT
    with Rig(tmp_path, wanted, speed=1, history_bars=10) as rig:
        rig.publisher()

        def live() -> int:
            lines: Any = rig.client.hgetall(rig.keys.catalogue)
            states = [json.loads(text)["state"] for text in lines.values()]
            assert "refused" not in states
            return states.count("live")

        eventually(lambda: live() == COUNT, "a thousand series are live", deadline_s=100)
        assert rig.simulator.sent["critical_error"] == 0
        assert len(rig.simulator.connections) >= COUNT // SESSIONS_MAX
        assert rig.events("session.lost") == []
        assert rig.events("pace.slowed") == []
