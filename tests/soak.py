"""Sixty series at sixty times the speed for minutes: `make soak MINUTES=10`.

A publisher and a consumer, each its own process, against the simulator; at the
end every stream is compared with the truth value for value and the handler's
record with the streams. Prints the figures; fails on the first difference.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from publisher.simulator import SYMBOLS
from tests.acceptance.rig import Process, Rig, eventually

SYMBOL_COUNT = 20
INTERVALS = ("1m", "5m", "1H")


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--speed", type=float, default=60)
    arguments = parser.parse_args()
    crypto = [name for name in _names() if name.startswith("BINANCE:")][:SYMBOL_COUNT]
    series = [f"{name}@{interval}" for name in crypto for interval in INTERVALS]
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), series, speed=arguments.speed, history_bars=500)
        with rig:
            _run(rig, arguments.minutes)


def _names() -> list[str]:
    return [str(name) for name in SYMBOLS]


def _run(rig: Rig, minutes: float) -> None:
    publisher, consumer = rig.publisher(), rig.consumer()
    begun = time.monotonic()
    eventually(rig.live, "all series are live", 60)
    print(f"{len(rig.series)} series live after {time.monotonic() - begun:.1f} s")
    started = {series: len(rig.stream(series)) for series in rig.series}
    end = time.monotonic() + minutes * 60
    memory = []
    while time.monotonic() < end:
        time.sleep(min(30.0, max(0.1, end - time.monotonic())))
        memory.append(_resident_kib(publisher))
        print(f"{time.monotonic() - begun:6.0f} s  publisher {memory[-1]} KiB resident", flush=True)
    compared = rig.check_streams(rig.simulator.now_ms())
    handed = rig.check_handled()
    live = sum(len(rig.stream(series)) - started[series] for series in rig.series)
    record = rig.handled()
    repeats = sum(len(times) - len(set(times)) for times in record.values())
    codes = consumer.stop(), publisher.stop()
    print(f"bars compared with the truth: {compared}, of which live: {live}; differences: 0")
    print(f"bars handed to the handler: {handed}, twice: {repeats}; exit codes {codes}")
    print(f"publisher's memory: {memory[0]} KiB, at the end {memory[-1]} KiB")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"processor time of publisher, consumer and server: {used.ru_utime + used.ru_stime:.0f} s"
    )


def _resident_kib(process: Process) -> int:
    assert process.process is not None
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


if __name__ == "__main__":
    main()
