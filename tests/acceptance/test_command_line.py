"""Mistakes get one clear line and the right exit code; no traceback reaches a user."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.rig import Rig
from tests.waiting import eventually


def tvbus(
    *arguments: str, folder: Path, timeout_s: float = 30, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end with these settings alone."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TVBUS_")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "TVBUS_STATE_DIR": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", "tvbus", *arguments],
        env=environment | settings,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


MISTAKES: list[tuple[tuple[str, ...], dict[str, str], int, str]] = [
    (("publish", "7x"), {}, 2, "'7x' is not a series"),
    (("publish", "BTC-BINANCE-7x"), {}, 2, "interval must be one of 1m 3m 5m"),
    (("publish",), {"TVBUS_SERIES": "A-B-1m,oops"}, 2, "'oops' is not a series"),
    (("publish",), {"TVBUS_HISTORY_BARS": "abc"}, 2, "TVBUS_HISTORY_BARS"),
    (("publish",), {"TVBUS_HISTORY_BARS": "900", "TVBUS_RETAIN_BARS": "100"}, 2, "RETAIN_BARS"),
    (("publish",), {"TVBUS_WS_URL": "ws://example.com/x"}, 2, "use wss://"),
    (("publish",), {"TVBUS_REDIS_URL": "http://x"}, 2, "must begin with one of"),
    (("publish",), {"TVBUS_LISTEN": "nowhere"}, 2, "HOST:PORT"),
    (("publish",), {"TVBUS_PASSWORD": "geheim"}, 2, "TVBUS_USERNAME is missing"),
    (("publish", "--no-wait"), {"TVBUS_REDIS_URL": "redis://u:geheim@127.0.0.1:1"}, 1, "no bus at"),
    (("status",), {}, 1, "no bus: start one with `tvbus publish`"),
    (("status",), {"TVBUS_REDIS_URL": "redis://127.0.0.1:1"}, 1, "no bus at redis://127.0.0.1:1"),
    (("tail", "*-X-1m"), {}, 1, "no bus: start one"),
    (("subscribe", "BTCUSDT-BINANCE-1m"), {}, 1, "no bus: start one"),
    (("consume", "nosuch:thing", "--group", "g"), {}, 2, "there is no module 'nosuch'"),
    (("consume", "os:nosuch", "--group", "g"), {}, 2, "has no 'nosuch'"),
    (("consume", "frobnicate", "--group", "g"), {}, 2, "module:function"),
    (("consume", "print"), {}, 2, "--group"),
    (("consume", "print", "--group", "g", "--start", "soon"), {}, 2, "oldest"),
    (("consume", "print", "--group", "g", "--no-wait"), {}, 1, "no bus"),
    (("tail", "--from", "2026-01-01T00:00:00Z", "--last", "3"), {}, 2, "not both"),
    (("simulate", "--port", "99999"), {}, 2, "--port"),
    (("search",), {}, 2, "text"),
    (("search", " "), {}, 2, "say what to look for"),
    (("search", "x" * 200), {}, 2, "at most 128 characters, had 200"),
    (("search", "AAPL", "--type", "etf"), {}, 2, "type must be one of stock, fund, futures"),
    (("search", "AAPL", "--limit", "0"), {}, 2, "limit must be 1 to 500"),
    (("search", "AAPL", "--interval", "7x"), {}, 2, "interval must be one of 1m"),
    (("search", "AAPL"), {"TVBUS_SEARCH_URL": "http://example.com"}, 2, "use https://"),
    (("search", "AAPL"), {"TVBUS_SEARCH_URL": "http://127.0.0.1:1"}, 1, "no answer from"),
    (("verify",), {}, 2, "give series, or --all"),
    (("verify", "A-B-1m", "--all"), {}, 2, "give series, or --all"),
    (("verify", "7x"), {}, 2, "'7x' is not a series"),
    (("verify", "BTCUSDT-BINANCE-1m"), {}, 1, "no bus: start one"),
    (("dead", "list"), {}, 2, "--group"),
    (("dead", "list", "--group", "g"), {}, 1, "no bus: start one"),
    (("dead", "drop", "--group", "g", "--all"), {}, 2, "add --yes"),
    (("frobnicate",), {}, 2, "frobnicate"),
]


@pytest.mark.parametrize(("arguments", "settings", "code", "words"), MISTAKES)
def test_a_mistake_is_told_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], settings: dict[str, str], code: int, words: str
) -> None:
    done = tvbus(*arguments, folder=tmp_path, **settings)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "geheim" not in done.stderr + done.stdout
    if done.stderr.startswith("tvbus:"):
        assert done.stderr.count("\n") == 1
        assert done.stderr.count(", was ") <= 1


COMMANDS = [
    "demo",
    "publish",
    "consume",
    "tail",
    "status",
    "series",
    "subscribe",
    "unsubscribe",
    "search",
    "history",
    "verify",
    "dead",
    "login",
    "logout",
    "doctor",
    "simulate",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(tmp_path: Path, command: str) -> None:
    done = tvbus(command, "--help", folder=tmp_path)
    assert done.returncode == 0
    assert f"Example: tvbus {command}" in " ".join(done.stdout.split())


def test_the_port_of_another_program_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = tvbus("simulate", "--port", str(taken.getsockname()[1]), folder=tmp_path)
    assert done.returncode == 1
    assert "choose another --port" in done.stderr


@pytest.fixture
def plain_web_server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"ws://127.0.0.1:{server.server_port}/socket"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_web_server_that_is_no_websocket_is_told_and_retried(
    tmp_path: Path, plain_web_server: str
) -> None:
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m"]) as rig:
        rig.simulator_url = plain_web_server
        publisher = rig.publisher()
        log = tmp_path / "process.log"
        eventually(lambda: log.read_text().count("session.lost") >= 2, "it tries again")
        assert "instead of a websocket" in log.read_text()
        assert publisher.stop() == 0


def test_an_unknown_symbol_is_answered_and_the_others_go_on(tmp_path: Path) -> None:
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m"]) as rig:
        rig.publisher()
        eventually(rig.live, "the known series is live")
        asked = tvbus(
            "subscribe", "NOPE-X-1m", "ethusdt-binance-5m", folder=tmp_path, **rig.settings
        )
        assert asked.returncode == 1
        assert "does not know X:NOPE" in asked.stdout
        assert "ok  ETHUSDT-BINANCE-5m  live" in asked.stdout
        listed = tvbus("series", "--json", folder=tmp_path, **rig.settings)
        states = {row["series"]: row["state"] for row in json.loads(listed.stdout)}
        assert states == {
            "BTCUSDT-BINANCE-1m": "live",
            "ETHUSDT-BINANCE-5m": "live",
            "NOPE-X-1m": "refused",
        }
        gone = tvbus("unsubscribe", "NOPE-X-1m", folder=tmp_path, **rig.settings)
        assert gone.returncode == 0
        status = tvbus("status", folder=tmp_path, **rig.settings)
        assert "NOPE" not in status.stdout
        assert "live" in status.stdout


def test_an_unknown_symbol_brings_what_may_have_been_meant(tmp_path: Path) -> None:
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m"]) as rig:
        rig.publisher()
        eventually(rig.live, "the known series is live")
        asked = tvbus(
            "subscribe", "AAPL-NYSE-1D", "ES-CME_MINI-5m", folder=tmp_path, **rig.settings
        )
        assert asked.returncode == 1
        assert "AAPL-NYSE-1D: did you mean AAPL-NASDAQ-1D?" in asked.stdout
        assert "ES-CME_MINI-5m: did you mean ES1!-CME_MINI-5m, " in asked.stdout
        asked = tvbus("history", "AAPL-NYSE-1D", folder=tmp_path, **rig.settings)
        assert (asked.returncode, asked.stderr.count("\n")) == (1, 1)
        assert asked.stderr.endswith(
            "does not know NYSE:AAPL: try `tvbus search AAPL`; did you mean AAPL-NASDAQ-1D?\n"
        )
        rig.settings["TVBUS_SEARCH_URL"] = "http://127.0.0.1:1"
        asked = tvbus("history", "AAPL-NYSE-1D", folder=tmp_path, **rig.settings)
        assert asked.stderr.endswith("try `tvbus search AAPL`\n")


def test_a_subscription_by_command_survives_a_restart(tmp_path: Path) -> None:
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m"]) as rig:
        publisher = rig.publisher()
        eventually(rig.live, "live")
        assert (
            tvbus("subscribe", "SOLUSDT-BINANCE-1m", folder=tmp_path, **rig.settings).returncode
            == 0
        )
        assert (
            tvbus("unsubscribe", "BTCUSDT-BINANCE-1m", folder=tmp_path, **rig.settings).returncode
            == 0
        )
        assert publisher.stop() == 0
        queued = tvbus("subscribe", "ETHUSDT-BINANCE-1m", folder=tmp_path, **rig.settings)
        assert "when one starts" in queued.stdout
        rig.publisher()

        def states() -> dict[str, str]:
            listed = tvbus("series", "--json", folder=tmp_path, **rig.settings)
            return {row["series"]: row["state"] for row in json.loads(listed.stdout)}

        expected = {"ETHUSDT-BINANCE-1m": "live", "SOLUSDT-BINANCE-1m": "live"}
        eventually(lambda: states() == expected, "what was subscribed is live, the other is not")


def test_a_key_of_another_program_refuses_that_series_alone(tmp_path: Path) -> None:
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m", "ETHUSDT-BINANCE-1m"]) as rig:
        rig.client.set("tv:bars:{BTCUSDT-BINANCE-1m}", "mine")
        rig.publisher()

        def rows() -> dict[str, dict[str, Any]]:
            status = tvbus("status", "--json", folder=tmp_path, **rig.settings)
            return {row["series"]: row for row in json.loads(status.stdout)["series"]}

        other = "ETHUSDT-BINANCE-1m"
        eventually(lambda: rows().get(other, {}).get("state") == "live", "the other is live")
        refused = rows()["BTCUSDT-BINANCE-1m"]
        assert refused["state"] == "refused"
        assert "holds a string, not a stream: rename or delete it" in refused["reason"]
        assert rig.client.get("tv:bars:{BTCUSDT-BINANCE-1m}") == b"mine"


def test_a_group_without_a_start_is_told_the_four_forms(tmp_path: Path) -> None:
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m"]) as rig:
        rig.publisher()
        eventually(rig.live, "live")
        done = tvbus("consume", "print", "--group", "g", folder=tmp_path, **rig.settings)
        assert done.returncode == 2
        assert all(form in done.stderr for form in ("oldest", "newest", "time:", "last:"))


def test_tail_prints_what_is_there_and_ends_with_its_reader(tmp_path: Path) -> None:
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m"]) as rig:
        rig.publisher()
        eventually(rig.live, "live")
        command = f"{sys.executable} -m tvbus tail --last 5 --json | head -n 5"
        environment = os.environ | rig.settings | {"PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        times = [json.loads(line)["open_time_ms"] for line in done.stdout.splitlines()]
        expected = [bar.open_time_ms for bar in rig.stream(rig.series[0])]
        assert len(times) == 5
        assert "".join(f"{t} " for t in times) in "".join(f"{t} " for t in expected)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_consumer_tells_its_health_where_it_listens(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m"]) as rig:
        rig.publisher()
        eventually(rig.live, "live")

        def health() -> subprocess.CompletedProcess[str]:
            return tvbus("status", "--health", folder=tmp_path, TVBUS_LISTEN=listen)

        assert health().returncode == 1, "nobody listens yet"
        rig.settings["TVBUS_LISTEN"] = listen
        rig.consumer()
        eventually(lambda: health().returncode == 0, "it is well")
        facts = json.loads(health().stdout)
        assert (facts["state"], facts["group"], facts["troubles"]) == ("consuming", "strategy", [])
        eventually(lambda: json.loads(health().stdout)["handled"] >= 50, "history is handled")
        with urllib.request.urlopen(f"http://{listen}/metrics", timeout=5) as page:
            assert b'tvbus_consumer_total{group="strategy",what="handled"}' in page.read()
        rig.stop_server()
        eventually(lambda: health().returncode == 1, "the bus is gone")
        assert json.loads(health().stdout)["troubles"] != []


def test_a_consumer_consumes_though_its_health_port_is_taken(tmp_path: Path) -> None:
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m"]) as rig, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        rig.publisher()
        eventually(rig.live, "live")
        rig.settings["TVBUS_LISTEN"] = f"127.0.0.1:{taken.getsockname()[1]}"
        rig.consumer()
        eventually(rig.handled, "it handles bars")
        assert "health.unavailable" in (tmp_path / "process.log").read_text()
