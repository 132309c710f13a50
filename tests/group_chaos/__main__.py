"""Members of a group come, go, die and sleep for minutes: `make group-chaos`.

A hundred series of one minute at sixty times the speed, a publisher, a server, and
one, then four, at last two consumers, all real processes. At random moments members
are killed, paused (SIGSTOP), stopped and added. Wrong is a bar that nobody handled, one
out of order, a repeat where the series did not change hands, a series that stood still
for longer than the lease and a second, and shares that were uneven for more than three
seconds after a change. Prints the figures; a seed draws the same changes again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.group_chaos.plan import draw
from tests.group_chaos.rig import GroupRig, names
from tests.group_chaos.run import Outcome, Run


def main(arguments: Sequence[str]) -> int:
    """Run, judge, print; 1 where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.group_chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--series", type=int, default=100)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000)
    parser.add_argument("--untimed", action="store_true", help="tell the times, do not judge them")
    parser.add_argument("--keep", action="store_true", help="keep the logs in any case")
    options = parser.parse_args(arguments)
    plan = draw(options.seed, options.seconds)
    print(f"{len(plan)} changes planned in {options.seconds:g} s; seed {options.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="tvbus-group-"))
    passed = False
    try:
        with GroupRig(folder, names(options.series)) as rig:
            outcome = Run(rig, options.seed).go(plan, options.seconds)
        _print(outcome)
        wrong = outcome.verdict.faults or any(outcome.exit_codes)
        passed = not wrong and (options.untimed or not outcome.timings)
    finally:
        if passed and not options.keep:
            shutil.rmtree(folder)
        else:
            print(f"logs are kept in {folder}")
        print("passed" if passed else f"FAILED; seed {options.seed}", flush=True)
    return 0 if passed else 1


def _print(outcome: Outcome) -> None:
    verdict, settled_s = outcome.verdict, outcome.settled_s
    changes = ", ".join(f"{name} {count}" for name, count in sorted(outcome.done.items()))
    print(f"changes: {changes}; exit codes of those that were stopped: {outcome.exit_codes}")
    print(
        f"bars published {verdict.published}, handled {verdict.handled}, "
        f"handled again at take-overs {verdict.again}"
    )
    print(
        f"longest stop of a series: {verdict.longest_stop_s:.2f} s ({verdict.stopped_series}); "
        f"shares even after at most {max(settled_s, default=0.0):.2f} s "
        f"({len(settled_s)} changes)"
    )
    for line in (*outcome.timings, *verdict.faults[:20]):
        print(f"WRONG: {line}")
    if len(verdict.faults) > 20:
        print(f"… and {len(verdict.faults) - 20} more")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
