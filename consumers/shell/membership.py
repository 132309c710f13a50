"""Who of a group reads what: leases with fencing tokens, shared evenly by one script."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import RedisError

from bus.connection import Client
from bus.scripts import Call, Script, run
from consumers.core.standing import Standing
from consumers.errors import NameTaken
from consumers.shell.streams import named, translated
from publisher.wire import Keys

LEASE_MS: Final = 5_000
"""How long a member that says nothing more keeps what it holds."""
SOON_MS: Final = 150
"""Between two beats while a name is about to move."""
REPLAYS_MAX: Final = 100
"""Dead letters asked for again that one beat tells of; the others wait for the next."""

_BEAT: Final = Script.read("consumers.shell", "beat")
_LEAVE: Final = Script.read("consumers.shell", "leave")


class Membership:
    """One process as a member of a group; used by one thread.

    A new object is a new process: where the same name holds leases from before, they
    end and are granted anew, with higher tokens.
    """

    def __init__(
        self, client: Client, keys: Keys, group: str, member: str, lease_ms: int = LEASE_MS
    ) -> None:
        """Describe the member; nothing is sent before the first beat."""
        self._client = client
        self._group = group
        self._member = member
        self._lease_ms = lease_ms
        self._members_key = keys.group(group, "members")
        self._leases_key = keys.group(group, "leases")
        self._other_keys = (keys.group(group, "token"), keys.group(group, "replays"))
        self._incarnation = secrets.token_hex(8)
        self._is_new = True
        self._highest_token = 0

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
        keys = (self._members_key, self._leases_key, *self._other_keys)
        arguments = (
            self._member,
            self._incarnation,
            int(self._is_new),
            self._lease_ms,
            SOON_MS,
            max(floor, self._highest_token),
            REPLAYS_MAX,
            " ".join(sorted(wanted)),
            *(part for lease in released.items() for part in lease),
        )
        reply = self._run(Call(_BEAT, keys, arguments))
        if reply[0] == b"REPLACED":
            raise NameTaken(
                f"another process came into group {self._group!r} with the name "
                f"{self._member!r}: give each process its own name"
            )
        self._is_new = False
        standing = self._standing(reply, now_ms)
        self._highest_token = max(self._highest_token, *standing.leases.values(), 0)
        return standing

    def _standing(self, reply: Any, now_ms: int) -> Standing:
        _, members, again_ms, held, leaving, replays = reply
        return Standing(
            leases={name: int(token) for name, token in _pairs(held)},
            handing_over=frozenset(name.decode() for name in leaving),
            members=members,
            again_ms=again_ms,
            valid_until_ms=now_ms + self._lease_ms,
            replays=dict(_pairs(replays)),
        )

    def leave(self) -> None:
        """Give up membership and all leases at once, after a clean stop.

        Raises GroupUnavailable and StreamRefused.
        """
        keys = (self._members_key, self._leases_key)
        self._run(Call(_LEAVE, keys, (self._member, self._incarnation)))

    def _run(self, call: Call) -> Any:
        with translated():
            [reply] = run(self._client, [call])
        if isinstance(reply, RedisError):
            raise named(reply) from reply
        return reply


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
    with translated():
        seconds, microseconds = client.time()
        records: Any = client.hgetall(keys.group(group, "members"))
        leases: Any = client.hgetall(keys.group(group, "leases"))
    now_ms = seconds * 1000 + microseconds // 1000
    left_ms = {name.decode(): int(x.split()[0]) - now_ms for name, x in records.items()}
    holdings = ((name.decode(), x.decode().split()) for name, x in leases.items())
    return Sharing(
        members={name: ms for name, ms in left_ms.items() if ms > 0},
        leases={name: Holding(member, int(token)) for name, (member, token) in holdings},
    )


def _pairs(flat: list[bytes]) -> list[tuple[str, str]]:
    words = iter([x.decode() for x in flat])
    return list(zip(words, words, strict=True))
