"""What can go wrong on the way to the bus.

BusError (retryable = False)
├ SettingsInvalid       a setting is wrong: says which, shows it
└ BusUnreachable*       no server answers there
"""

from __future__ import annotations

from typing import ClassVar


class BusError(Exception):
    """The root; its message says what is wrong, shows the value and says what to do."""

    retryable: ClassVar[bool] = False


class SettingsInvalid(BusError):
    """A setting is missing or wrong."""


class BusUnreachable(BusError):
    """No server answers at the address."""

    retryable = True
