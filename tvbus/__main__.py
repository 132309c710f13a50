"""`tvbus` and `python -m tvbus`."""

from __future__ import annotations

import sys

from bus import logs
from tvbus.cli import app
from tvbus.exits import exit_code


def main() -> None:
    """Run a command; every failure is one line on stderr and an exit code."""
    logs.configure("auto", "info", sys.stderr)  # until the settings are read
    sys.exit(exit_code(app))


if __name__ == "__main__":
    main()
