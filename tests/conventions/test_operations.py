"""docs/operations.md names every event and every metric that the code knows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("publisher", "consumers", "bus", "tvbus")
TELLING = {"tell", "count", "debug", "info", "warning", "error", "exception"}
EVENT = re.compile(r"[a-z_]+\.[a-z_]+")


def events_in(source: str) -> Iterator[str]:
    """Yield the events that a module tells, logs or counts."""
    for node in ast.walk(ast.parse(source)):
        is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if not is_method or node.func.attr not in TELLING or not node.args:
            continue
        for constant in ast.walk(node.args[0]):
            if isinstance(constant, ast.Constant) and EVENT.fullmatch(str(constant.value)):
                yield str(constant.value)


def metrics_in(source: str) -> set[str]:
    """Return the metric names that a module mentions."""
    return set(re.findall(r'"(tvbus_[a-z_]+)"', source))


def test_every_event_is_in_the_operations_guide() -> None:
    guide = (ROOT / "docs/operations.md").read_text()
    told = {
        event
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for event in events_in(path.read_text())
    }
    assert len(told) > 40
    assert sorted(event for event in told if f"`{event}`" not in guide) == []


def test_every_metric_is_in_the_operations_guide() -> None:
    guide = (ROOT / "docs/operations.md").read_text()
    named = {
        metric
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for metric in metrics_in(path.read_text())
    }
    assert "tvbus_series_live" in named
    assert sorted(metric for metric in named if metric not in guide) == []


def test_a_planted_event_is_found() -> None:
    planted = 'notes.tell("bar.vanished" if late else "bar.moved", series=series)'
    assert set(events_in(planted)) == {"bar.vanished", "bar.moved"}
