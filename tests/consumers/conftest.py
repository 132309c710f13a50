"""Fixtures of the consumers' tests."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from consumer_world import BTC, Events, Market, Running, Server, binary, consumer

from consumers import Consumer
from tests.command_runs import run

__all__ = ["run"]


@pytest.fixture(scope="session", params=["valkey", "redis"])
def shared_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    # A socket's path may not be longer than about 100 characters.
    with tempfile.TemporaryDirectory(prefix="tvbus-") as directory:
        server = Server(binary(request.param), Path(directory))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def market(shared_server: Server) -> Iterator[Market]:
    with shared_server.client() as client:
        client.flushall()
        yield Market(client, shared_server.url)


@pytest.fixture
def own_server(shared_server: Server, tmp_path: Path) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="tvbus-") as directory:
        server = Server(shared_server.binary, Path(directory))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def run_app() -> Iterator[Callable[[Consumer], Running]]:
    """Run a consumer in a thread; stopped at the end of the test."""
    running: list[Running] = []

    def begin(app: Consumer) -> Running:
        errors: list[BaseException] = []

        def body() -> None:
            try:
                app.run()
            except Exception as error:  # noqa: BLE001 - the test looks at it
                errors.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        running.append(Running(app, thread, errors))
        return running[-1]

    yield begin
    for one in running:
        one.stop()


@pytest.fixture
def start(run_app: Callable[[Consumer], Running]) -> Callable[..., Running]:
    """Start a consumer with one handler, and what `also` adds; stopped at the test's end."""

    def begin(market: Market, handler: Any, *patterns: str, **options: Any) -> Running:
        also = options.pop("also", None)
        app = consumer(market, **options)
        app.on(*(patterns or (str(BTC),)))(handler)
        if also is not None:
            also(app)
        return run_app(app)

    return begin


@pytest.fixture(autouse=True)
def events() -> Iterator[Events]:
    seen = Events()
    structlog.configure(processors=[seen], cache_logger_on_first_use=False)
    yield seen
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [x for x in os.environ if x.startswith("TVBUS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TVBUS_STATE_DIR", str(tmp_path / "state"))
