"""What can go wrong on the way to the bus.

BusError (retryable = False)
├ SettingsInvalid       a setting is wrong: says which, shows it
├ BusUnreachable*       no server answers there
├ EmbeddedUnsupported   this platform has no embedded server: a bus must be given
└ EmbeddedFailed        the embedded server did not start: says why

`*` sets `retryable = True`. Callers read the attribute, never a list of types.
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


class EmbeddedUnsupported(BusError):
    """The embedded server does not exist for this platform."""


class EmbeddedFailed(BusError):
    """The embedded server did not start or does not answer."""
