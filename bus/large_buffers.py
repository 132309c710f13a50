"""Large buffers go back to the system as soon as they are free.

The GNU C library learns from what is freed: once a message of 8 MiB was read, it keeps up
to 16 MiB of free memory in each of its pools, of which every thread may get another. So a
process that runs for weeks seemed to grow with each large answer. Limits that are set are
not learned any more.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

LARGE_BYTES: Final = 1024 * 1024
"""Larger buffers are got from the system, and go back to it, each by itself."""

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def return_large_buffers() -> None:
    """Keep no large buffer of this process that is free; other C libraries keep none anyway."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, LARGE_BYTES)
