"""The handler of the consumer processes in the acceptance tests."""

from __future__ import annotations

import json
import os
from pathlib import Path

from consumers import Bar


def record(bar: Bar) -> None:
    """Write down that the bar was handed over, one line in one write."""
    line = json.dumps([str(bar.series), bar.open_time_ms]) + "\n"
    with Path(os.environ["TVBUS_TEST_RECORD"]).open("a") as file:
        file.write(line)
