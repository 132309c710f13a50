"""What the publisher's tests share."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from command_runs import Ended, Run
from publisher_servers import Server, redis_server, valkey_server

from bus import logs
from tvbus.cli import app
from tvbus.exits import exit_code


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    structlog.configure(processors=[structlog.testing.LogCapture()])
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Valkey of the wheel, for all tests; each begins with it empty."""
    with valkey_server(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A redis-server of this machine, for all tests."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


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
