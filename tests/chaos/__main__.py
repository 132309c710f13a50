"""Random faults upon real processes for minutes: `make chaos MINUTES=5`.

Two publishers, a consumer, a server, each its own process, against the simulator.
Every few seconds something breaks: TradingView, its pages, a process, Redis, the
network. Then the faults end, and every stream must equal the truth. Prints the
figures; fails on any bar that is lost unannounced, twice, wrong or out of order, and on
a publisher whose memory grows, and keeps the processes' logs then. A seed draws the
same faults again, though not at the same moments of the processes.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.plan import choose, draw
from tests.chaos.rig import ChaosRig
from tests.chaos.run import Run

SERIES = (
    *("BTCUSDT-BINANCE-1m", "ETHUSDT-BINANCE-1m", "SOLUSDT-BINANCE-1m", "ZENUSDT-BINANCE-1m"),
    *("BTCUSD-BITFINEX-1m", "AAPL-NASDAQ-1m", "ES1!-CME_MINI-1m", "005930-KRX-1m"),
    *("BHV-NYSE-1m", "EURUSD-FX-1m", "BTCUSDT-BINANCE-3m", "ETHUSDT-BINANCE-5m"),
)


def main(arguments: Sequence[str]) -> int:
    """Run, compare, print; 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two faults")
    parser.add_argument("--kinds", default="", help="comma separated; all where not given")
    parser.add_argument("--without", default="", help="kinds to leave out, or their first words")
    parser.add_argument("--series", default=",".join(SERIES))
    parser.add_argument("--keep", action="store_true", help="keep the logs in any case")
    options = parser.parse_args(arguments)
    kinds = choose(options.kinds, options.without)
    length_s = options.minutes * 60
    plan = draw(options.seed, length_s, options.every, kinds)
    replay = f"python -m tests.chaos --minutes {options.minutes:g} --seed {options.seed}"
    for name in ("kinds", "without", "series"):
        value = getattr(options, name)
        replay += f" --{name} '{value}'" if value not in {"", ",".join(SERIES)} else ""
    print(f"{len(plan)} faults planned in {length_s:.0f} s; seed {options.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="tvbus-chaos-"))
    passed = False
    try:
        with ChaosRig(folder, options.series.split(",")) as rig:
            passed = Run(rig).go(plan, length_s)
    finally:
        if passed and not options.keep:
            shutil.rmtree(folder)
        else:
            print(f"logs are kept in {folder}")
        print("passed" if passed else f"FAILED; the same faults again: {replay}", flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
