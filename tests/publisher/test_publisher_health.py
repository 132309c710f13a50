"""What supervisors and Prometheus are told."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

import pytest
from publisher_world import BTC, World

from bus.errors import SettingsInvalid
from publisher.errors import StoreUnavailable
from publisher.shell.health import TURN_AGE_MS_MAX, serve_health
from publisher.status import Status
from tests.waiting import eventually as wait_for

WELL = Status(
    turned_ms=1_000,
    connected=True,
    signed_in="cookies",
    signin_trouble="",
    store_trouble="",
    series=2,
    live=1,
    waiting_bars=3,
    counts={"session.opened": 1, "bar.appended": 7},
)


class Page:
    """A health server whose facts a test sets."""

    def __init__(self, listen: str = "127.0.0.1:0") -> None:
        self.status: Status | None = WELL
        self.now_ms = 1_500
        self.server = serve_health(listen, lambda: self.status, lambda: self.now_ms)

    def get(self, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.server.port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture
def page() -> Iterator[Page]:
    served = Page()
    yield served
    served.server.stop()


def test_a_publisher_that_works_is_healthy(page: Page) -> None:
    code, body = page.get("/healthz")
    facts = json.loads(body)
    assert code == 200
    assert (facts["state"], facts["troubles"], facts["waiting_bars"]) == ("publishing", [], 3)


def test_a_standby_is_healthy_and_says_what_it_is(page: Page) -> None:
    page.status = None
    code, body = page.get("/healthz")
    assert (code, json.loads(body)) == (200, {"state": "standby"})
    assert "tvbus_active 0.0" in page.get("/metrics")[1]


@pytest.mark.parametrize(
    ("status", "now_ms", "reason"),
    [
        (replace(WELL, connected=False), 1_500, "not connected to TradingView"),
        (replace(WELL, signed_in=""), 1_500, "not signed in: on the way"),
        (
            replace(WELL, signed_in="", signin_trouble="no network"),
            1_500,
            "not signed in: no network",
        ),
        (replace(WELL, store_trouble="Redis is away"), 1_500, "Redis is away"),
        (WELL, 1_001 + TURN_AGE_MS_MAX, "the engine is stuck"),
    ],
)
def test_each_trouble_makes_it_unhealthy_and_is_named(
    page: Page, status: Status, now_ms: int, reason: str
) -> None:
    page.status, page.now_ms = status, now_ms
    code, body = page.get("/healthz")
    assert code == 503
    assert json.loads(body)["troubles"] == [reason]


def test_a_publisher_without_series_needs_no_connection(page: Page) -> None:
    page.status = replace(WELL, series=0, connected=False)
    assert page.get("/healthz")[0] == 200


def test_every_event_that_was_told_is_counted_in_the_metrics(page: Page) -> None:
    world = World(BTC)
    world.go_live(BTC)
    with world.bus_down(StoreUnavailable("away")):
        world.turn()
    page.status = world.engine.status
    code, body = page.get("/metrics")
    assert code == 200
    for event in {fact["event"] for fact in world.store.events}:
        assert f'tvbus_events_total{{event="{event}"}}' in body
    assert 'tvbus_events_total{event="bar.appended"} 2.0' in body
    assert "tvbus_series_live" in body


def test_other_paths_are_pointed_to_the_right_ones(page: Page) -> None:
    assert page.get("/") == (404, "try /healthz or /metrics\n")


def test_a_port_that_is_taken_is_named(page: Page) -> None:
    with pytest.raises(SettingsInvalid, match=r"TVBUS_LISTEN '127.0.0.1:.* cannot be used"):
        Page(f"127.0.0.1:{page.server.port}")


def test_an_address_of_version_6_is_served() -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6")
    served = Page("[::1]:0")
    with urllib.request.urlopen(f"http://[::1]:{served.server.port}/healthz", timeout=5) as reply:
        assert reply.status == 200
    served.server.stop()


def test_somebody_who_hangs_up_leaves_no_trace(
    page: Page, capfd: pytest.CaptureFixture[str]
) -> None:
    page.status = replace(WELL, counts={f"event.{i}": i for i in range(20_000)})
    with socket.create_connection(("127.0.0.1", page.server.port)) as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        asking.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    wait_for(lambda: page.get("/healthz")[0] == 200)
    page.server.stop()
    assert capfd.readouterr().err == ""
    page.server = Page().server
