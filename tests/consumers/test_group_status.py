"""What `tvbus status` says of groups, to people and to autoscalers."""

from __future__ import annotations

import json

import pytest
from consumer_world import BTC, ETH, MINUTE_MS, T0, Market

from consumers import lag
from tests.command_runs import Run
from tvbus.groups import span_text

KEY = "tv:bars:{BTCUSDT-BINANCE-1m}"


@pytest.fixture
def busy(market: Market) -> Market:
    """Two series; group g read 5 of 20 bars, acknowledged 3, has a member and a dead letter."""
    market.list_series(BTC, ETH)
    market.publish(BTC, range(20))
    market.publish(ETH, range(4))
    for series in (BTC, ETH):
        market.client.xgroup_create(market.keys.bars(series), "g", "0")
    [[_, entries]] = market.client.xreadgroup("g", "one#17", {KEY: ">"}, count=5)
    market.client.xack(KEY, "g", *[x[0] for x in entries[:3]])
    seconds, _ = market.client.time()
    market.client.hset("tv:group:{g}:members", "one", f"{(seconds + 60) * 1000} 0 f00 {BTC}")
    market.client.hset("tv:group:{g}:leases", str(BTC), "one 17")
    market.client.xadd("tv:dead:{g}", {"reason": "x"})
    return market


def test_an_autoscaler_reads_numbers_that_are_never_null(busy: Market, run: Run) -> None:
    ended = run("status", "--json", TVBUS_REDIS_URL=busy.url)
    [group] = json.loads(ended.out)["groups"]
    age_ms = group["series"][0].pop("oldest_pending_ms")
    assert group.pop("oldest_pending_ms") == age_ms
    assert 0 <= age_ms < 60_000
    assert group == {
        "group": "g",
        "members": 1,
        "unread": 19,
        "pending": 2,
        "time_lag_ms": 17 * MINUTE_MS,
        "quality": "counted",
        "dead_letters": 1,
        "series": [
            {
                "series": "BTCUSDT-BINANCE-1m",
                "holder": "one",
                "unread": 15,
                "pending": 2,
                "time_lag_ms": 17 * MINUTE_MS,
                "quality": "counted",
            },
            {
                "series": "ETHUSDT-BINANCE-1m",
                "holder": None,
                "unread": 4,
                "pending": 0,
                "oldest_pending_ms": 0,
                "time_lag_ms": 4 * MINUTE_MS,
                "quality": "exact",
            },
        ],
    }


def test_a_person_sees_a_line_for_each_group(busy: Market, run: Run) -> None:
    ended = run("status", TVBUS_REDIS_URL=busy.url)
    assert ended.code == 0, ended.err
    header, line = ended.out.splitlines()[-2:]
    assert " ".join(header.split()) == (
        "group members series unread pending oldest time lag dead letters"
    )
    words = line.split()
    assert words[:5] == ["g", "1", "2", "19", "2"]
    assert words[6:] == ["s", "17", "min", "1"]


def test_a_person_who_wants_more_sees_each_series_and_its_holder(busy: Market, run: Run) -> None:
    ended = run("status", "--verbose", TVBUS_REDIS_URL=busy.url)
    btc, eth = ended.out.splitlines()[-2:]
    assert btc.split()[:3] == ["BTCUSDT-BINANCE-1m", "15", "2"]
    assert btc.split()[-1] == "one"
    assert eth.split() == ["ETHUSDT-BINANCE-1m", "4", "4", "min"]


def test_what_is_estimated_says_so(busy: Market, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "COUNTED_EACH_MAX", 2)
    monkeypatch.setattr(lag, "PAIRS_MAX", 1)
    ended = run("status", "--verbose", TVBUS_REDIS_URL=busy.url)
    group, btc = ended.out.splitlines()[-2:]
    assert "≥15" in group.split()
    assert "~15" in btc.split()


def test_groups_that_are_not_looked_at_are_told(
    busy: Market, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lag, "GROUPS_MAX", 0)
    ended = run("status", TVBUS_REDIS_URL=busy.url)
    assert ended.out.splitlines()[-1] == "and 1 groups more, which are not looked at"
    ended = run("status", "--json", TVBUS_REDIS_URL=busy.url)
    assert json.loads(ended.out)["groups_left_out"] == 1


def test_a_bus_without_groups_has_no_table(market: Market, run: Run) -> None:
    market.list_series(BTC)
    ended = run("status", TVBUS_REDIS_URL=market.url)
    assert "members" not in ended.out
    ended = run("status", "--json", TVBUS_REDIS_URL=market.url)
    assert json.loads(ended.out)["groups"] == []


@pytest.mark.parametrize(
    ("span_ms", "text"),
    [
        (0, "0.0 s"),
        (3_249, "3.2 s"),
        (60_000, "1 min"),
        (119_999, "1 min"),
        (2 * 3_600_000 + 5 * 60_000 + 7, "2 h 5 min"),
        (T0, "20370 d 8 h"),
        (86_400_000 + 60_000, "1 d 1 min"),
    ],
)
def test_a_span_has_two_units_at_most(span_ms: int, text: str) -> None:
    assert span_text(span_ms) == text
