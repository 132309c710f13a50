"""A process does not grow with the largest message that it ever read."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bus import large_buffers
from bus.large_buffers import return_large_buffers

ROOT = Path(__file__).parents[2]
MIB_KIB = 1024

READ = """
import threading
from pathlib import Path
from bus.large_buffers import return_large_buffers

def resident_kib():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])

def read(mib):
    message = b"x" * (mib * 1024 * 1024)
    message += b"y"

def kept_kib():
    # The library learns from the larger one, and would keep the smaller.
    before = resident_kib()
    read(12)
    read(7)
    return resident_kib() - before

{}
kept = [kept_kib()]
thread = threading.Thread(target=lambda: kept.append(kept_kib()))
thread.start()
thread.join()
print(max(kept))
"""


def kept_kib(guard: str) -> int:
    """Return how much more a process holds after large messages than before."""
    done = subprocess.run(
        [sys.executable, "-c", READ.format(guard)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_nothing_of_a_large_message_is_kept() -> None:
    if kept_kib("pass") < 4 * MIB_KIB:
        pytest.skip("this C library keeps nothing anyway")
    assert kept_kib("return_large_buffers()") < 2 * MIB_KIB


def test_where_the_c_library_is_another_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    return_large_buffers()
    monkeypatch.setattr(large_buffers.sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", None)
    return_large_buffers()
