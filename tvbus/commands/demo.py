"""`tvbus demo`: everything at once, on this machine, with nothing to set up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Final

import orjson
import typer
from rich.console import Console

from bus.embedded import EmbeddedServer
from bus.errors import BusError
from bus.settings import BusSettings
from consumers import Bar, Consumer
from consumers.sinks.print import PrintSink
from tvbus.report import summaries
from tvbus.shared import Bus

SERIES: Final = ("BTCUSDT-BINANCE-1m", "ETHUSDT-BINANCE-1m", "ES1!-CME_MINI-1m")
GROUP: Final = "demo"
STOP_S_MAX: Final = 6
LIVE_S_MAX: Final = 20

console = Console(highlight=False)


def command(
    context: typer.Context,
    bars: Annotated[int, typer.Option(min=0, help="Stop after so many bars; 0: on Ctrl-C.")] = 0,
    speed: Annotated[
        float, typer.Option(min=1, max=600, help="Market seconds per real second.")
    ] = 60,
    series: Annotated[
        list[str] | None, typer.Option(help="Series of the simulated market; may be repeated.")
    ] = None,
) -> None:
    """See it work: a simulated TradingView, a publisher, a bus and a consumer.

    No account, no network, no Redis. Example: tvbus demo --bars 20
    """
    context.obj.settings(BusSettings, log_level="warning")
    names = tuple(series or SERIES)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tvbus-demo-")))
        server = stack.enter_context(EmbeddedServer.start(folder))
        _tell("bus", "an embedded Valkey, for this demo alone")
        url = stack.enter_context(_simulator(folder, speed))
        _tell("TradingView", f"simulated, {speed:g} times as fast, at {url}")
        publisher = stack.enter_context(_publisher(folder, url, names))
        _tell("publisher", f"its own process, {len(names)} series: {', '.join(names)}")
        _tell("consumer", f"this process, group {GROUP!r}; each line is one closed bar")
        tvbus = "tvbus" if shutil.which("tvbus") else sys.argv[0]
        _tell("look inside", f"{tvbus} --state-dir {folder} status   (in another terminal)")
        with console.status("filling the streams with history ..."):
            _await_live(Bus.at(server.url), publisher, folder)
        console.print()
        seen = _consume(server.url, names, bars, publisher)
    seen.tell()


class _Seen:
    """Counts what the consumer got and whether each bar names the one before it."""

    def __init__(self) -> None:
        self.bars = 0
        self.broken = 0
        self._newest: dict[str, int] = {}

    def take(self, bar: Bar) -> None:
        name = str(bar.series)
        before = self._newest.get(name)
        if before is not None and bar.previous_open_time_ms != before:
            self.broken += 1
        self._newest[name] = bar.open_time_ms
        self.bars += 1

    def tell(self) -> None:
        console.print()
        console.print(
            f"{self.bars} bars of {len(self._newest)} series, in order, "
            f"{self.broken} missing or repeated"
        )


def _consume(
    url: str, names: tuple[str, ...], bars_max: int, publisher: subprocess.Popen[bytes]
) -> _Seen:
    seen = _Seen()
    sink = PrintSink()
    consumer = Consumer(GROUP, "last:2", url, wait=False)

    @consumer.on(*names)
    def show(bar: Bar) -> None:
        seen.take(bar)
        sink(bar)
        if bars_max and seen.bars >= bars_max:
            consumer.stop()

    watching = threading.Event()
    threading.Thread(target=_watch, args=(publisher, consumer, watching), daemon=True).start()
    consumer.run()
    watching.set()
    if publisher.poll() is not None:
        raise BusError(f"the demo's publisher ended early (exit code {publisher.returncode})")
    return seen


def _await_live(bus: Bus, publisher: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + LIVE_S_MAX
    while time.monotonic() < deadline:
        lines = summaries(bus)
        if lines and all(line.state in {"live", "refused"} for line in lines):
            break
        if publisher.poll() is not None:
            raise BusError("the demo's publisher did not start:" + _words(folder, "publisher"))
        time.sleep(0.05)
    for line in summaries(bus):
        if line.state != "live":
            raise BusError(f"{line.series} is {line.state}: {line.reason or 'no answer yet'}")


def _watch(publisher: subprocess.Popen[bytes], consumer: Consumer, stop: threading.Event) -> None:
    while not stop.wait(0.5):
        if publisher.poll() is not None:
            consumer.stop()


@contextmanager
def _simulator(folder: Path, speed: float) -> Iterator[str]:
    ports = ("--port", "0", "--web-port", "0")
    arguments = ("simulate", *ports, "--speed", str(speed), "--json")
    with _process(folder, "simulator", arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise BusError("the simulated TradingView did not start:" + _words(folder, "simulator"))
        yield str(orjson.loads(line)["url"])


@contextmanager
def _publisher(folder: Path, url: str, names: tuple[str, ...]) -> Iterator[subprocess.Popen[bytes]]:
    # A container's health check asks at the address in its environment.
    listen = os.environ.get("TVBUS_LISTEN", "")
    arguments = ("publish", *names, "--ws-url", url, "--history-bars", "50", "--listen", listen)
    with _process(folder, "publisher", arguments) as process:
        yield process


@contextmanager
def _process(
    folder: Path, name: str, arguments: tuple[str, ...], stdout: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of tvbus with none of the user's settings: the demo touches nothing real."""
    environment = {key: text for key, text in os.environ.items() if not key.startswith("TVBUS_")}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603, this very program
            [sys.executable, "-m", "tvbus", "--state-dir", str(folder), *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=log,
            start_new_session=True,  # Ctrl-C ends the demo, and the demo ends them
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _words(folder: Path, name: str) -> str:
    return " " + (folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")[-300:]


def _tell(what: str, text: str) -> None:
    console.print(f"[dim]{what:>12}[/]  {text}", soft_wrap=True)
