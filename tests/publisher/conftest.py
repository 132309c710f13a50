"""What the publisher's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from publisher_servers import Server, redis_server, valkey_server

from tests.command_runs import run

__all__ = ["run"]


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
