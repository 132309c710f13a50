"""Where a member of a group stands after a beat: what it holds, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

EVENTS_NAME: Final = "@events"
"""The name of the lease for a group's reading of the events; all others are series."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a member may do until its next beat.

    Names are texts of series, or EVENTS_NAME. A name that comes back with another
    token was somebody else's meanwhile, so it begins anew.
    """

    leases: Mapping[str, int]
    """Name → fencing token, of all that this member holds."""
    handing_over: frozenset[str]
    """Of these, to be released as soon as the bar in hand is done. A name that is no
    longer among them at a later beat is kept after all."""
    members: int
    """How many share the group's series now, this one too."""
    again_ms: int
    """From now until the next beat is due; an earlier one does no harm."""
    valid_until_ms: int
    """By the local monotonic clock; from then on nothing may go to a handler."""
    replays: Mapping[str, str]
    """ID of a dead letter → name, asked for again; only of names that this member holds."""
