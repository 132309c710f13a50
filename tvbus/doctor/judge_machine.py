"""What to think of the settings, the state directory and the health page."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from typing import Final

from bus.settings import SETTINGS_FILE
from tvbus.doctor.facts import FolderFacts, HealthFacts, SettingsFacts
from tvbus.doctor.finding import Finding, note, ok, problem, size

FREE_BYTES_MIN: Final = 100 * 1024 * 1024
"""With less, an embedded server soon cannot write."""
FREE_BYTES_LOW: Final = 1024 * 1024 * 1024

_FILE: Final = "_file"


def judge_settings(facts: SettingsFacts) -> Iterator[Finding]:
    """Say where settings come from, which are unknown, and which stand in two places."""
    check = "settings"
    source = f"the environment and {facts.file}" if facts.file else "the environment"
    if facts.invalid:
        yield problem(check, facts.invalid, "mend it first: what depends on it is not looked at")
    else:
        yield ok(check, f"read from {source}")
    yield from _unknown(facts)
    yield from _doubled(facts)
    exposed = facts.in_file & facts.secrets
    if exposed and facts.file_mode & 0o077:
        names = ", ".join(sorted(exposed))
        advice = f"chmod 600 {facts.file}"
        yield problem(check, f"others on this machine can read {names} in {facts.file}", advice)


def _unknown(facts: SettingsFacts) -> Iterator[Finding]:
    for name in sorted(facts.in_file - facts.known):
        if name in facts.tables:
            advice = "settings stand at the top of the file, under no table"
        else:
            nearest = _nearest(name.lower().removeprefix("tvbus_"), facts.known)
            advice = f"did you mean {nearest}?" if nearest else "it is ignored"
        yield note("settings", f"{SETTINGS_FILE}: {name!r} is no setting", advice)
    for name in sorted(facts.in_environment - facts.known):
        if name.removesuffix(_FILE) in facts.secrets and name.endswith(_FILE):
            continue
        nearest = _nearest(name, facts.known)
        advice = f"did you mean TVBUS_{nearest.upper()}?" if nearest else "it is ignored"
        yield note("settings", f"environment: TVBUS_{name.upper()} is no setting", advice)


def _nearest(name: str, known: Collection[str]) -> str:
    return next(iter(difflib.get_close_matches(name, sorted(known), 1)), "")


def _doubled(facts: SettingsFacts) -> Iterator[Finding]:
    """What stands in several places; the order is that of `bus.settings`."""
    for name in sorted(facts.known):
        variable = f"TVBUS_{name.upper()}"
        secret_file = name in facts.secrets and f"{name}{_FILE}" in facts.in_environment
        places = [
            SETTINGS_FILE if name in facts.in_file else "",
            variable if name in facts.in_environment else "",
            f"{variable}_FILE" if secret_file else "",
        ]
        winner, *others = [place for place in places if place] or [""]
        if others:
            found = f"{name} is set in {winner} and in {' and '.join(others)}"
            yield note("settings", found, f"{winner} wins; remove the other")


def judge_folder(facts: FolderFacts) -> Iterator[Finding]:
    """Say whether the state directory can be used, and by whom."""
    check, path = "state directory", facts.path
    elsewhere = "set TVBUS_STATE_DIR to a directory that you can write"
    if facts.exists and not facts.is_folder:
        yield problem(check, f"{path} is not a directory", elsewhere)
        return
    if not facts.writable:
        cannot = "cannot be written" if facts.exists else "cannot be made"
        yield problem(check, f"{path} {cannot} by this user", elsewhere)
    elif facts.mode & 0o022:
        found = f"others on this machine can write to {path} (mode {facts.mode:o})"
        yield problem(check, found, f"chmod 700 {path}")
    elif facts.mode & 0o055:
        yield note(check, f"others can look into {path} (mode {facts.mode:o})", f"chmod 700 {path}")
    else:
        yield ok(check, f"{path}" if facts.exists else f"{path}, made when it is needed")
    yield from _judge_space(facts)


def _judge_space(facts: FolderFacts) -> Iterator[Finding]:
    free = facts.free_bytes
    if free is None or free >= FREE_BYTES_LOW:
        return
    found = f"{size(free)} are left for {facts.path}"
    advice = "make room: an embedded server that cannot write takes no bars"
    judge = problem if free < FREE_BYTES_MIN else note
    yield judge("state directory", found, advice)


def judge_health(facts: HealthFacts) -> Iterator[Finding]:
    """Say whether the publisher's health page can be served, or what it says."""
    check, listen = "health page", facts.listen
    if not facts.taken:
        yield ok(check, f"{listen} is free for a publisher")
    elif not facts.state:
        found = f"another program listens at {listen}"
        yield problem(check, found, "set TVBUS_LISTEN to another port")
    elif facts.troubles or facts.status != 200:
        found = f"{listen} says {facts.state}, with trouble: {'; '.join(facts.troubles)}"
        yield problem(check, found, "see its log and `tvbus status`")
    else:
        yield ok(check, f"{listen} says {facts.state} and well")
