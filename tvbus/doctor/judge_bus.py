"""What to think of the bus."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tvbus.doctor.facts import BusFacts, NodeFacts
from tvbus.doctor.finding import Finding, note, ok, problem, size, span

VERSION_MIN: Final = (6, 2)
MEMORY_HIGH: Final = 0.75
MEMORY_FULL: Final = 0.9
"""Shares of the memory that a bus may use."""
CLOCK_NOTE_MS: Final = 2_000
CLOCK_PROBLEM_MS: Final = 60_000
"""Ages and delays in `tvbus status` are wrong by this much."""
DENIED_SHOWN_MAX: Final = 6

# What one side alone runs tells whether a user is meant for that side.
_PUBLISHES: Final = frozenset({"XTRIM", "RPUSH", "PEXPIRE"})
_CONSUMES: Final = frozenset({"XREADGROUP", "XGROUP CREATE", "XACK", "XCLAIM", "XAUTOCLAIM"})
_RANK: Final = {"ok": 0, "note": 1, "problem": 2}


def judge_bus(facts: BusFacts) -> Iterator[Finding]:
    """Say how the bus is, a line for each check."""
    if facts.trouble:
        judge = note if facts.expected else problem
        yield judge("bus", facts.trouble, facts.advice)
        return
    checks: tuple[Callable[[NodeFacts], Finding], ...] = (
        lambda node: judge_server(node, facts),
        judge_memory,
        judge_persistence,
        judge_rights,
        judge_clock,
    )
    for check in checks:
        yield _worst(check, facts.nodes)


def _worst(check: Callable[[NodeFacts], Finding], nodes: tuple[NodeFacts, ...]) -> Finding:
    """Return what to say of all nodes: of a cluster, the node where it is worst."""
    findings = [(check(node), node) for node in nodes]
    finding, node = max(findings, key=lambda pair: _RANK[pair[0].level])
    if len(nodes) == 1:
        return finding
    where = f"all {len(nodes)} primaries" if finding.level == "ok" else node.name
    return Finding(finding.check, finding.level, f"{where}: {finding.found}", finding.advice)


def judge_server(node: NodeFacts, facts: BusFacts) -> Finding:
    """Say which server it is, and whether it is one that can be used."""
    check = "bus"
    info = node.info or {}
    product, version = _product(node)
    mode = str(info.get("redis_mode") or node.hello.get("mode", ""))
    role = str(info.get("role") or node.hello.get("role", ""))
    told = f"{product} {version or 'of unknown version'} at {facts.address}"
    told += " (embedded)" if facts.embedded else ""
    if mode == "sentinel":
        advice = "write redis+sentinel://HOST:26379/SERVICE in TVBUS_REDIS_URL"
        return problem(check, f"{facts.address} is a Sentinel, no bus", advice)
    if mode == "cluster" and not facts.clustered:
        advice = "write redis+cluster://HOST:PORT in TVBUS_REDIS_URL"
        return problem(check, f"{told} is a node of a cluster", advice)
    if role in {"slave", "replica"}:
        return problem(check, f"{told} is a replica, which takes no bars", "name the primary")
    if info.get("loading"):
        return note(check, f"{told} is loading its data", "wait until it has")
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if not numbers:
        return note(check, told, "Redis 6.2 or Valkey are needed")
    if numbers < VERSION_MIN and product == "Redis":
        return problem(check, told, "Redis 6.2 or newer, or Valkey, is needed")
    return ok(check, told)


def _product(node: NodeFacts) -> tuple[str, str]:
    info = node.info or {}
    for name in ("valkey", "dragonfly"):
        if f"{name}_version" in info:
            return name.capitalize(), str(info[f"{name}_version"])
    name = str(info.get("server_name") or node.hello.get("server") or "redis")
    return name.capitalize(), str(info.get("redis_version") or node.hello.get("version", ""))


def judge_memory(node: NodeFacts) -> Finding:
    """Say whether the server may throw bars away, and how full it is."""
    check = "memory"
    if node.info is None:
        return _unknown(check, "INFO", "maxmemory-policy is noeviction")
    used = _number(node.info, "used_memory")
    limit, policy = _number(node.info, "maxmemory"), str(node.info.get("maxmemory_policy", ""))
    if limit and policy.startswith("allkeys"):
        return problem(
            check,
            f"at {size(limit)} {policy} throws whole streams away, and groups' positions with them",
            "CONFIG SET maxmemory-policy noeviction, and in its configuration file",
        )
    room = limit or _number(node.info, "total_system_memory")
    told = f"{size(used)} used"
    told += f" of {size(limit)}" if limit else f" of {size(room)} the machine has" if room else ""
    advice = "raise maxmemory, or lower TVBUS_RETAIN_BARS"
    if room and used > MEMORY_FULL * room:
        return problem(check, f"{told}: nearly full, then it takes no bars", advice)
    if room and used > MEMORY_HIGH * room:
        return note(check, told, advice)
    if limit and policy != "noeviction":
        advice = "CONFIG SET maxmemory-policy noeviction says plainly what is wanted"
        return note(check, f"{told}, {policy}: streams never expire, so they stay", advice)
    return ok(check, told + (f", {policy}" if limit else ", no limit set"))


def judge_persistence(node: NodeFacts) -> Finding:
    """Say what a restart of the server would lose."""
    check = "persistence"
    info = node.info
    if info is None:
        return _unknown(check, "INFO", "appendonly is yes")
    keep = "CONFIG SET appendonly yes, and in its configuration file"
    room = "make room on its disk; its log says more"
    if info.get("aof_enabled"):
        if info.get("aof_last_write_status", "ok") != "ok":
            return problem(check, "the append-only file cannot be written", room)
        if info.get("aof_last_bgrewrite_status", "ok") != "ok":
            return note(check, "the append-only file could not be made smaller", room)
        return ok(check, "append-only file: a crash loses about a second")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return problem(check, "the last snapshot failed, so it may take no bars", room)
    if node.snapshots is None:
        found = "no append-only file; whether snapshots are taken may not be asked (CONFIG)"
        return note(check, found, "ask who runs it")
    if not node.snapshots:
        found = "nothing is kept: after a restart streams are filled anew, but groups begin again"
        return problem(check, found, keep)
    changes = _number(info, "rdb_changes_since_last_save")
    found = f"snapshots only: a crash would lose the last {changes:.0f} changes"
    return note(check, found, keep)


def judge_rights(node: NodeFacts) -> Finding:
    """Say whether this user may do what a publisher and a consumer do."""
    check = "rights"
    if node.not_publishing is None or node.not_consuming is None:
        found = "could not be asked: this user may not open a transaction (MULTI)"
        return note(check, found, "ask who runs it for what `docs/operations.md` lists")
    publishes, meant_to_publish = _side(node.not_publishing, _PUBLISHES)
    consumes, meant_to_consume = _side(node.not_consuming, _CONSUMES)
    if publishes and consumes:
        return ok(check, "this user may publish and consume")
    denied = {**node.not_publishing, **node.not_consuming}
    if publishes and not meant_to_consume:
        return note(check, f"this user may publish, not consume: no {_shown(node.not_consuming)}")
    if consumes and not meant_to_publish:
        return note(check, f"this user may consume, not publish: no {_shown(node.not_publishing)}")
    reason = next(iter(denied.values()))
    advice = "ACL SETUSER … with the commands and keys that `docs/operations.md` lists"
    return problem(check, f"this user may not run {_shown(denied)}: {reason}", advice)


def _side(denied: Mapping[str, str], own: frozenset[str]) -> tuple[bool, bool]:
    """Return whether a side can work, and whether the user seems to be meant for it."""
    return not denied, not own <= denied.keys()


def _shown(denied: Mapping[str, str]) -> str:
    names = sorted(denied)
    more = f" and {len(names) - DENIED_SHOWN_MAX} more" if len(names) > DENIED_SHOWN_MAX else ""
    return ", ".join(names[:DENIED_SHOWN_MAX]) + more


def judge_clock(node: NodeFacts) -> Finding:
    """Compare the bus's clock with this machine's."""
    check = "bus clock"
    if node.ahead_ms is None:
        return note(check, "could not be asked: this user may not run TIME")
    # The answer was on its way for a while, and nobody knows on which half of the way.
    certain_ms = max(0.0, abs(node.ahead_ms) - node.round_trip_ms / 2)
    if certain_ms < CLOCK_NOTE_MS:
        return ok(check, f"agrees with this machine's to {span(node.round_trip_ms + certain_ms)}")
    side = "ahead of" if node.ahead_ms > 0 else "behind"
    judge = problem if certain_ms >= CLOCK_PROBLEM_MS else note
    found = f"{span(certain_ms)} {side} this machine's: ages in `tvbus status` are wrong by that"
    return judge(check, found, "let both keep time by NTP")


def _unknown(check: str, command: str, wanted: str) -> Finding:
    found = f"could not be asked: this user may not run {command}"
    return note(check, found, f"ask who runs it whether {wanted}")


def _number(info: Mapping[str, Any], name: str) -> float:
    value = info.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
