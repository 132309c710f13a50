"""Commands run in the process of the test."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bus import logs
from tvbus.cli import app
from tvbus.exits import exit_code


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[list[str]]:
        """The words of each line that was printed."""
        return [line.split() for line in self.out.splitlines()]


Run = Callable[..., Ended]
"""`run("search", "AAPL", TVBUS_SEARCH_URL=…)`: arguments, and all the settings there are."""


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Run]:
    """Run commands in this process, in a folder and with settings of their own."""
    handlers, level = logging.root.handlers[:], logging.root.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str, **settings: str) -> Ended:
        for name in [name for name in os.environ if name.startswith("TVBUS_")]:
            monkeypatch.delenv(name)
        for name, value in {"TVBUS_STATE_DIR": str(tmp_path / "state"), **settings}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["tvbus", *arguments])
        code = exit_code(app)
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    yield command
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logs.forget_secrets()
