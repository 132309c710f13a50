"""How a consumer is written, found and shown."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from consumer_world import BTC, Market, Recorder

from bus import embedded
from bus.errors import BusUnreachable, SettingsInvalid
from consumers import Consumer, load_target
from consumers.errors import HandlerInvalid, PatternInvalid, StartInvalid, TargetInvalid, UsageError
from consumers.shell.bus import Bus
from consumers.shell.threads import Bell
from consumers.sinks.print import PrintSink, bar_line


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"group": ""}, UsageError),
        ({"group": "a b"}, UsageError),
        ({"group": "{a}"}, UsageError),
        ({"name": "a b"}, UsageError),
        ({"start": "now"}, StartInvalid),
        ({"failure": "panic"}, UsageError),
        ({"attempts": 0}, UsageError),
        ({"lease_ms": 499}, UsageError),
        ({"lease_ms": 600_001}, UsageError),
        ({"prefix": "a b"}, SettingsInvalid),
    ],
)
def test_a_wrong_description_is_refused_before_anything_is_connected(
    options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        Consumer(**({"group": "g"} | options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("handler", ["text", None, Recorder])
def test_what_is_no_function_is_refused(handler: Any) -> None:
    with pytest.raises(HandlerInvalid):
        Consumer("g").on(str(BTC))(handler)


def test_a_forgotten_series_is_told() -> None:
    app = Consumer("g")
    with pytest.raises(HandlerInvalid, match="name a series"):
        app.on(Recorder())  # type: ignore[arg-type]
    with pytest.raises(HandlerInvalid, match="name a series"):
        app.on()
    with pytest.raises(PatternInvalid):
        app.on("BTC")
    with pytest.raises(HandlerInvalid, match="no handler"):
        app.run()


def test_a_decorated_function_stays_what_it_was() -> None:
    def handler(bar: object) -> None: ...

    assert Consumer("g").on(str(BTC))(handler) is handler


def test_no_bus_is_an_error_at_once_where_nobody_wants_to_wait() -> None:
    app = Consumer("g", "newest", "unix:///nowhere/at/all", wait=False)
    app.on(str(BTC))(Recorder())
    with pytest.raises(BusUnreachable, match="no bus at unix:///nowhere/at/all"):
        app.run()


def test_a_consumer_stopped_while_it_waits_for_a_bus_ends(events: Any) -> None:
    app = Consumer("g", "newest", "unix:///nowhere/at/all")
    app.on(str(BTC))(Recorder())
    app.stop()
    app.run()
    assert events.named("consumer.started") == []


def test_without_an_address_the_embedded_server_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found: list[str | None] = [None]
    asked: list[Path] = []

    def find_url(state_dir: Path) -> str | None:
        asked.append(state_dir)
        return found[0]

    monkeypatch.setattr(embedded, "find_url", find_url)
    bus = Bus.find(None, None)
    with pytest.raises(BusUnreachable, match="or set TVBUS_REDIS_URL"):
        bus.url()
    found[0] = "unix:///somewhere"
    assert bus.url() == "unix:///somewhere"
    assert asked == [tmp_path / "state"] * 2


def test_a_handler_that_ends_the_process_ends_it_cleanly(market: Market) -> None:
    market.publish(BTC, range(3))
    app = Consumer("g", "oldest", market.url)

    def leave(bar: object) -> None:
        raise SystemExit(7)

    app.on(str(BTC))(leave)
    with pytest.raises(SystemExit) as caught:
        app.run()
    assert caught.value.code == 7
    assert market.pending(BTC) == 3


def test_a_bell_keeps_one_ring() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    assert bell.wait(0)
    assert not bell.wait(1)


@pytest.fixture
def strategies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_strategy.py").write_text(
        "class Desk:\n    @staticmethod\n    def trade(bar): return bar\nNUMBER = 7\n"
    )
    (tmp_path / "my_broken.py").write_text("1 / 0\n")
    (tmp_path / "my_needy.py").write_text("import not_to_be_found\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.usefixtures("strategies")
def test_a_target_is_found_in_the_current_directory() -> None:
    assert load_target("my_strategy:Desk.trade")("bar") == "bar"  # type: ignore[arg-type]
    assert load_target("os:getcwd") is os.getcwd


@pytest.mark.usefixtures("strategies")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("my_strategy", "must be module:function"),
        ("my_strategy:", "must be module:function"),
        (":trade", "must be module:function"),
        ("my_absent:trade", "there is no module 'my_absent'"),
        ("my_absent.deep:trade", "there is no module 'my_absent'"),
        ("my_absent.py:trade", "write my_absent:trade"),
        ("mongo:bars", "a sink is one of print, csv:DIR"),
        ("my_strategy:absent", "has no 'absent'"),
        ("my_strategy:Desk.absent", "has no 'Desk.absent'"),
        ("my_strategy:NUMBER", "is not a function but a int"),
        ("my_broken:trade", "ZeroDivisionError"),
        ("my_needy:trade", "'my_needy' needs the module 'not_to_be_found'"),
    ],
)
def test_a_wrong_target_is_told_in_one_line(text: str, says: str) -> None:
    with pytest.raises(TargetInvalid) as caught:
        load_target(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_printed_as_one_line() -> None:
    market = Market(None, "")  # type: ignore[arg-type]
    bar = market.bar(BTC, 1, gap=True, revision=2)
    assert bar.end_time_ms is not None
    stream = io.StringIO()
    PrintSink(stream=stream, now_ms=lambda: bar.end_time_ms + 420)(bar)  # type: ignore[operator]
    assert stream.getvalue() == (
        "2025-10-09 08:55:00Z  BTCUSDT-BINANCE-1m    O       101  H       102  L       100"
        "  C     101.5  V          7  +0.42s  gap  revision 2\n"
    )


@pytest.mark.parametrize("changes", [{"closed_by": "history"}, {"end_time_ms": None}, {}])
def test_a_delay_that_means_nothing_is_not_shown(changes: dict[str, Any]) -> None:
    bar = Market(None, "").bar(BTC, 1, volume=None, **changes)  # type: ignore[arg-type]
    line = bar_line(bar, 0)
    assert line.endswith(f"V          -  {bar.closed_by}")


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = Market(None, "").bar(BTC, 1)  # type: ignore[arg-type]
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    PrintSink(stream=stream)(bar)
    assert "\033[32mC     101.5" in stream.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    PrintSink(stream=stream)(bar)
    assert "\033" not in stream.getvalue()


def test_a_bar_as_json_holds_everything() -> None:
    bar = Market(None, "").bar(BTC, 1)  # type: ignore[arg-type]
    stream = io.StringIO()
    PrintSink(as_json=True, stream=stream)(bar)
    values = json.loads(stream.getvalue())
    assert values["series"] == "BTCUSDT-BINANCE-1m"
    assert values["open_time"] == "2025-10-09T08:55:00+00:00"
    for name in ("open_time_ms", "end_time_ms", "open", "close", "volume", "closed_by"):
        assert values[name] == getattr(bar, name)


def test_printing_to_nobody_ends_quietly() -> None:
    program = (
        "from consumers.sinks.print import PrintSink\n"
        "from publisher.wire import Bar, Series\n"
        "bar = Bar(Series.parse('A-B-1m'), 0, 1, 1, 1, 1, None, None, None, 0, 'next')\n"
        "sink = PrintSink()\n"
        "while True: sink(bar)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(10) == 0
        assert process.stderr.read() == b""
