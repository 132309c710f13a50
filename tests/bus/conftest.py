"""What every test of the bus leaves as it found it."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog

from bus import logs


@pytest.fixture(autouse=True)
def _logs_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logs.forget_secrets()
    structlog.reset_defaults()
