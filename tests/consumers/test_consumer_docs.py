"""Every block of the page on consumers, run against the bus in memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from consumers import Consumer
from consumers.testing import TestBus

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/consumers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^## ([^\n]+)\n|^(<!--[^\n]+-->)?\n?```python\n(.*?)^```", PAGE, re.M | re.S)
SAID = {
    "Consumers": "2026-01-01 00:03:00+00:00 BTCUSDT-BINANCE-1m 13.0",
    "What a handler may be": "BTCUSDT-BINANCE-1m",
    "Batches": "4 bars of 2 series",
    "Bars in progress": "so far 14.0",
    "Corrections": "now 7.0 revision 1",
    "Gaps": "BTCUSDT-BINANCE-1m lacks bars between 1767225780000 and 1767225900000 missing",
    "Events": "session.lost None gone",
    "All bars of an interval together": "BTCUSDT-BINANCE-1m",
    "Warming up": "BTCUSDT-BINANCE-1m 11.5",
    "When a handler fails": "order at 13.0",
}
"""A line that the blocks under each heading print when all happens that can."""


def blocks() -> list[Any]:
    found, heading = [], "Consumers"
    for title, mark, code in BLOCKS:
        heading = title or heading
        if code:
            number = sum(x.values[0] == heading for x in found)
            name = f"{heading} {number}"
            found.append(pytest.param(heading, mark, code, id=name))
    return found


def exercise(app: Consumer) -> None:
    """Let everything happen that a handler may be for."""
    with TestBus(app) as bus:
        btc, eth, daily = "BTCUSDT-BINANCE-1m", "ETHUSDT-BINANCE-1m", "AAPL-NASDAQ-1D"
        bus.prefill(btc, 10)
        bus.describe(btc, timezone="Etc/UTC")
        bus.publish_bars(*bus.bars(btc, 11, 12, 13), *bus.bars(eth, 13))
        (closed,) = bus.publish(daily, 6)
        bus.correct(closed, close=7)
        bus.form(btc, 14)
        bus.event("session.lost", reason="gone")
        bus.complete("1m")
        bus.gap(btc, 2)
        bus.publish(btc, 14)


@pytest.mark.parametrize(("heading", "mark", "code"), blocks())
def test_a_block_does_what_the_page_says(
    heading: str,
    mark: str,
    code: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    if "needs a bus" in mark:
        compile(code, "docs/consumers.md", "exec")
        return
    if "a file of its own" in mark:
        (tmp_path / "test_mine.py").write_text(code)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "1 passed" in done.stdout, done.stdout
        return
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(code, "docs/consumers.md", "exec"), names)
    exercise(names["app"])
    assert SAID.get(heading, "") in capsys.readouterr().out


def test_the_page_has_a_block_for_each_kind_of_handler() -> None:
    code = "".join(x[2] for x in BLOCKS)
    kinds = [x for x in dir(Consumer) if x == "on" or x.startswith("on_")]
    assert len(kinds) == 6
    assert [x for x in kinds if f"@app.{x}(" not in code] == []


def test_what_is_kept_exactly_once_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sqlite3  # noqa: PLC0415

    monkeypatch.chdir(tmp_path)
    (code,) = [x.values[2] for x in blocks() if "Exactly once" in str(x.values[0])]
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(code, "docs/consumers.md", "exec"), names)
    for _ in range(2):
        exercise(names["app"])
    rows = sqlite3.connect("ledger.db").execute("SELECT * FROM closes ORDER BY rowid").fetchall()
    btc = [close for series, close in rows if series == "BTCUSDT-BINANCE-1m"]
    assert btc == [11, 12, 13, 14]


WRONG = """
from consumers import Bar, Consumer

app = Consumer("g")

@app.on("*")
def a(bar: int) -> None: ...

@app.on("*", batch=5)
def b(bar: Bar) -> None: ...
"""


def test_the_blocks_are_right_to_a_type_checker_and_wrong_handlers_are_not(tmp_path: Path) -> None:
    for number, block in enumerate(blocks()):
        (tmp_path / f"block{number}.py").write_text(str(block.values[2]))
    (tmp_path / "wrong.py").write_text(WRONG)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent"]
    done = subprocess.run(
        [*command, "--cache-dir", str(ROOT / ".mypy_cache"), *map(str, tmp_path.glob("*.py"))],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    told = re.findall(r"^(\w+)\.py:(\d+): error: .*cannot be \"(.*)\"", done.stdout, re.M)
    assert told == [
        ("wrong", "6", "Callable[[int], None]"),
        ("wrong", "9", "Callable[[Bar], None]"),
    ], done.stdout
    assert done.stdout.count("error:") == 2, done.stdout
