"""Who holds how many series, read from the group's keys."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import redis

from publisher.wire import Keys

LATE_MS: Final = 250
"""A little late is no sign of sleep: a twentieth of the lease."""


@dataclass(frozen=True, slots=True)
class Shares:
    """A look at a group."""

    members: frozenset[str]
    """Those that beat when they promised to."""
    held: Counter[str]
    """Series by member, of those too that are late and keep theirs until they expire."""


def read_shares(client: redis.Redis, keys: Keys, group: str) -> Shares:
    """Return who is there now and who holds how many, by the server's clock."""
    pipeline = client.pipeline(transaction=True)
    pipeline.time()
    pipeline.hgetall(keys.group(group, "members"))
    pipeline.hgetall(keys.group(group, "leases"))
    replies: list[Any] = pipeline.execute()
    (seconds, micros), members, leases = replies
    now_ms = seconds * 1_000 + micros // 1_000
    there, awake = set(), set()
    for name, line in members.items():
        expires_ms, due_ms, *_ = line.split(b" ")
        if int(expires_ms) > now_ms:
            there.add(name.decode())
            if int(due_ms) + LATE_MS >= now_ms:
                awake.add(name.decode())
    holders = [line.split(b" ")[0].decode() for line in leases.values()]
    return Shares(frozenset(awake), Counter(x for x in holders if x in there))
