"""How far every group is behind, asked of the bus in bounded pipelines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from bus.connection import Client
from consumers.core.ids import ZERO, EntryId
from consumers.core.lag import (
    NOTHING,
    Count,
    Ends,
    GroupTotals,
    Lag,
    Progress,
    must_count,
    time_lag_ms,
    totals,
    unread,
)
from consumers.core.standing import EVENTS_NAME
from consumers.errors import StreamRefused
from consumers.shell.membership import Sharing, look_at_sharing
from consumers.shell.streams import named, translated
from publisher.wire import Keys, Series

PIPELINE_MAX: Final = 250
"""Commands sent at a time, so that neither the server nor this process is held up."""
PAIRS_MAX: Final = 10_000
"""Groups times series that are looked at; beyond, `quality` says `at_least`."""
GROUPS_MAX: Final = 500
"""Groups that are looked at, the first by name: a program may make one at each start."""
COUNTED_EACH_MAX: Final = 1_000
"""Unread entries of one group in one series that are counted."""
COUNTED_MAX: Final = 50_000
"""Unread entries that are counted in all."""
MEMBER_IDLE_MS_MAX: Final = 30_000
"""A member without a lease that asked for nothing for so long is not there."""

Command = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class SeriesLag:
    """How far a group is behind in one series."""

    name: str
    """The series' text, or `@events`."""
    holder: str
    """The member that reads it now; empty where nobody does, or the group has no leases."""
    lag: Lag


@dataclass(frozen=True, slots=True)
class GroupLag:
    """How far a group is behind in all."""

    group: str
    totals: GroupTotals
    members: int
    """Processes that share its series now."""
    dead_letters: int
    series: tuple[SeriesLag, ...]


@dataclass(frozen=True, slots=True)
class LagReport:
    """How far all groups are behind."""

    groups: tuple[GroupLag, ...]
    """Sorted by name."""
    left_out: int
    """Groups beyond GROUPS_MAX, of which nothing is told."""


@dataclass(frozen=True, slots=True)
class _Stream:
    name: str
    key: str
    interval_ms: int


@dataclass(slots=True)
class _Pair:
    """A group in a stream, and what is found out about it on the way."""

    group: str
    stream: _Stream
    progress: Progress
    ends: Ends
    acknowledged: EntryId | None
    """The last entry before which nothing is pending; None where the stream has none."""
    count: Count = NOTHING
    pending_ms: int = 0
    consumers: set[bytes] = field(default_factory=set)

    def report(self, holder: str) -> SeriesLag:
        number, quality = unread(self.ends, self.progress, self.count)
        behind_ms = time_lag_ms(self.ends, self.acknowledged, self.stream.interval_ms)
        lag = Lag(number, self.progress.pending, self.pending_ms, behind_ms, quality)
        return SeriesLag(self.stream.name, holder, lag)


def group_names(client: Client, keys: Keys, series: Iterable[Series]) -> list[str]:
    """Return the groups that read these series or the events, sorted.

    Raises GroupUnavailable where the bus fails.
    """
    found = _groups(client, _streams(keys, series))
    return sorted({_name(info) for infos in found.values() for info in infos})


def read_lag(
    client: Client, keys: Keys, series: Iterable[Series], counted_max: int = COUNTED_MAX
) -> LagReport:
    """Return how far each group of these series is behind.

    Nothing on the bus is changed. At most `counted_max` entries are read to be
    counted. Raises GroupUnavailable where the bus fails.
    """
    found = _groups(client, _streams(keys, series))
    known = sorted({_name(info) for infos in found.values() for info in infos})
    names = known[:GROUPS_MAX]
    by_group: dict[str, list[_Pair]] = {name: [] for name in names}
    ends = _ends(client, list(found))
    pairs = [
        _pair(stream, info, ends[stream.key])
        for stream, infos in found.items()
        for info in infos
        if stream.key in ends and _name(info) in by_group
    ]
    looked_at = pairs[:PAIRS_MAX]
    cut = {x.group for x in pairs[PAIRS_MAX:]}
    sharing = {name: _sharing(client, keys, name) for name in names}
    _count(client, [x for x in looked_at if must_count(x.ends, x.progress)], counted_max)
    _look_at_pending(client, [x for x in looked_at if x.progress.pending])
    _look_for_consumers(client, [x for x in looked_at if not _has_leases(sharing[x.group])])
    letters = _run(client, [("XLEN", keys.dead(name)) for name in names])
    for pair in looked_at:
        by_group[pair.group].append(pair)
    groups = (
        _report(sharing[name], name, by_group[name], buried, complete=name not in cut)
        for name, buried in zip(names, letters, strict=True)
    )
    return LagReport(tuple(groups), len(known) - len(names))


def _report(
    sharing: Sharing, group: str, pairs: list[_Pair], buried: Any, *, complete: bool
) -> GroupLag:
    holders = {
        name: lease.member
        for name, lease in sharing.leases.items()
        if lease.member in sharing.members
    }
    pairs.sort(key=lambda x: x.stream.name)
    rows = tuple(x.report(holders.get(x.stream.name, "")) for x in pairs)
    competing = set().union(*(x.consumers for x in pairs))
    return GroupLag(
        group=group,
        totals=totals([x.lag for x in rows], complete=complete),
        members=len(sharing.members if _has_leases(sharing) else competing),
        dead_letters=0 if isinstance(buried, ResponseError) else int(buried),
        series=rows,
    )


def _has_leases(sharing: Sharing) -> bool:
    return bool(sharing.members or sharing.leases)


def _streams(keys: Keys, series: Iterable[Series]) -> list[_Stream]:
    bars = [_Stream(str(x), keys.bars(x), x.interval_ms) for x in series]
    return [*bars, _Stream(EVENTS_NAME, keys.events, 0)]


def _groups(client: Client, streams: Sequence[_Stream]) -> dict[_Stream, list[dict[str, Any]]]:
    """Return the groups of each stream that has some; what is no stream has none."""
    replies = _run(client, [("XINFO GROUPS", x.key) for x in streams])
    return {
        stream: reply
        for stream, reply in zip(streams, replies, strict=True)
        if reply and not isinstance(reply, ResponseError)
    }


def _ends(client: Client, streams: Sequence[_Stream]) -> dict[str, Ends]:
    """Return what each stream holds; one that vanished meanwhile is left out."""
    ends = {}
    replies = _run(client, [("XINFO STREAM", x.key) for x in streams])
    for stream, reply in zip(streams, replies, strict=True):
        if isinstance(reply, ResponseError):
            continue
        first, newest = reply["first-entry"], reply["last-entry"]
        ends[stream.key] = Ends(
            reply["length"],
            EntryId.parse(first[0]) if first else ZERO,
            EntryId.parse(newest[0]) if newest else ZERO,
        )
    return ends


def _count(client: Client, pairs: Sequence[_Pair], counted_max: int) -> None:
    """Count the unread entries of each, within a share of what may be counted in all."""
    limit = min(COUNTED_EACH_MAX, counted_max // len(pairs)) if pairs else 0
    if not limit:
        return
    commands = [
        ("XRANGE", x.stream.key, f"({x.progress.delivered}", "+", "COUNT", limit) for x in pairs
    ]
    for pair, entries in zip(pairs, _run(client, commands), strict=True):
        if not isinstance(entries, ResponseError):
            newest = EntryId.parse(entries[-1][0]) if entries else None
            pair.count = Count(limit, len(entries), newest)


def _look_at_pending(client: Client, pairs: Sequence[_Pair]) -> None:
    """Find each one's oldest pending entry, and the entry before it."""
    commands: list[Command] = [("XPENDING", x.stream.key, x.group, "-", "+", 1) for x in pairs]
    held = []
    for pair, lines in zip(pairs, _run(client, commands), strict=True):
        if not isinstance(lines, ResponseError) and lines:
            pair.pending_ms = int(lines[0]["time_since_delivered"])
            held.append((pair, lines[0]["message_id"].decode()))
    commands = [("XREVRANGE", pair.stream.key, f"({low}", "-", "COUNT", 1) for pair, low in held]
    for (pair, _), entries in zip(held, _run(client, commands), strict=True):
        if not isinstance(entries, ResponseError):
            pair.acknowledged = EntryId.parse(entries[0][0]) if entries else None


def _look_for_consumers(client: Client, pairs: Sequence[_Pair]) -> None:
    """Find the members of groups without leases, by what they last asked for.

    Names with a `#` belong to leases that are gone.
    """
    commands = [("XINFO CONSUMERS", x.stream.key, x.group) for x in pairs]
    for pair, lines in zip(pairs, _run(client, commands), strict=True):
        if not isinstance(lines, ResponseError):
            names = {x["name"] for x in lines if x["idle"] <= MEMBER_IDLE_MS_MAX}
            pair.consumers = {x for x in names if b"#" not in x}


def _sharing(client: Client, keys: Keys, group: str) -> Sharing:
    """Return who shares a group by leases; nobody where its keys hold something else."""
    try:
        return look_at_sharing(client, keys, group)
    except StreamRefused:
        return Sharing({}, {})


def _name(info: Mapping[str, Any]) -> str:
    name: bytes = info["name"]
    return name.decode(errors="replace")


def _pair(stream: _Stream, info: Mapping[str, Any], ends: Ends) -> _Pair:
    lag = info.get("lag")  # missing before Redis 7.0
    progress = Progress(
        EntryId.parse(info["last-delivered-id"]),
        int(info["pending"]),
        None if lag is None else int(lag),
    )
    return _Pair(_name(info), stream, progress, ends, progress.delivered)


def _run(client: Client, commands: Sequence[Command]) -> list[Any]:
    """Return each command's reply, or the refusal where a stream or group is no longer there."""
    replies: list[Any] = []
    for start in range(0, len(commands), PIPELINE_MAX):
        pipeline = client.pipeline(transaction=False)
        for command in commands[start : start + PIPELINE_MAX]:
            options = {"parse_detail": True} if command[0] == "XPENDING" else {}
            pipeline.execute_command(*command, **options)  # type: ignore[no-untyped-call]
        with translated():
            replies += pipeline.execute(raise_on_error=False)
    for reply in replies:
        harmless = isinstance(reply, ResponseError) and not isinstance(reply, NoPermissionError)
        if isinstance(reply, RedisError) and not harmless:
            raise named(reply) from reply
    return replies
