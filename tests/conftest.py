"""Rules of the whole test run."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

MISSING_TOOL = "missing tool:"
"""How the reason of a skip begins that is harmless here and a failure in CI."""


def is_refused(reason: str, environment: dict[str, str]) -> bool:
    """Whether a skip for this reason must fail: CI has to bring every tool."""
    in_ci = environment.get("CI", "").lower() in {"1", "true", "yes"}
    return in_ci and reason.removeprefix("Skipped: ").startswith(MISSING_TOOL)


def _refuse(report: Any) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = str(report.longrepr[2])
        if is_refused(reason, dict(os.environ)):
            report.outcome = "failed"
            report.longrepr = f"{reason} (a skip here, a failure in CI)"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip for a missing tool into a failure where nothing may be missing."""
    report = yield
    _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for whole modules."""
    report = yield
    _refuse(report)
    return report
