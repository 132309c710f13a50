"""Who of a group reads what: leases with fencing tokens, shared evenly by one script."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from bus.connection import Client
from consumers.core.standing import Standing
from publisher.wire import Keys


class Membership:
    """One process as a member of a group; used by one thread.

    A new object is a new process: where the same name holds leases from before, they
    end and are granted anew, with higher tokens.
    """

    def __init__(
        self, client: Client, keys: Keys, group: str, member: str, lease_ms: int = 5_000
    ) -> None:
        """Describe the member; nothing is sent before the first beat."""
        raise NotImplementedError

    def beat(
        self,
        wanted: Collection[str],
        released: Mapping[str, int],
        now_ms: int,
        floor: int = 0,
    ) -> Standing:
        """Renew the membership and learn what is held now.

        `wanted` are all names that this member would read; what it holds and does
        not want any more comes back as to be handed over. `released` (name → token)
        is given back by this beat; what was granted anew since then stays. `now_ms`
        is the local monotonic clock just before the call. Tokens granted by this beat
        are higher than `floor`, than every one that this member ever had, and than
        all others of the group.

        Repeating a beat whose reply was lost does no harm. Raises GroupUnavailable;
        NameTaken where another process has come with the same name; StreamRefused
        where a key of the group holds something else.
        """
        raise NotImplementedError

    def leave(self) -> None:
        """Give up membership and all leases at once, after a clean stop.

        Raises as `beat` does.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Holding:
    """A lease as it stands in Redis."""

    member: str
    token: int


@dataclass(frozen=True, slots=True)
class Sharing:
    """How a group is shared now; for people and metrics."""

    members: Mapping[str, int]
    """Member → ms until it counts as gone, by the server's clock; never below 1."""
    leases: Mapping[str, Holding]
    """Name → who has it; also of members that are gone, until another takes it."""


def look_at_sharing(client: Client, keys: Keys, group: str) -> Sharing:
    """Read who shares a group. Raises GroupUnavailable and StreamRefused."""
    raise NotImplementedError
