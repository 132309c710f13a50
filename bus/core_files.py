"""No secret in a core file: a process that holds some leaves none behind.

A limit of zero is enough where the kernel writes core files itself; where it hands
them to a program (core(5): the limit does not count for a pipe), only a process that
declares itself not dumpable is spared. That also keeps others of the same user from
reading its memory and its environment.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

try:
    import resource
except ImportError:  # Windows has neither limits nor core files.
    resource = None  # type: ignore[assignment]

_PR_SET_DUMPABLE: Final = 4


def forbid_core_files() -> None:
    """Let this process, and with it its secrets, never be dumped."""
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
