"""`tvbus doctor`: is everything as it should be, and if not, what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Final

import orjson
import typer
from redis.exceptions import RedisClusterException, RedisError
from rich.console import Console
from rich.text import Text

from bus.connection import Client
from bus.errors import SettingsInvalid
from bus.logs import redact
from bus.settings import BusSettings
from consumers.shell.publisher import lease_of, session_of
from publisher.settings import PublisherSettings
from publisher.wire import Keys
from tvbus.doctor.finding import Finding, note
from tvbus.doctor.judge_account import judge_account
from tvbus.doctor.judge_bus import judge_bus
from tvbus.doctor.judge_machine import judge_folder, judge_health, judge_settings
from tvbus.doctor.judge_publisher import judge_publisher
from tvbus.doctor.judge_web import judge_page, judge_socket
from tvbus.doctor.look_account import look_account
from tvbus.doctor.look_bus import bus_url, look_bus
from tvbus.doctor.look_machine import look_folder, look_health, look_settings
from tvbus.doctor.look_web import look_page, look_socket
from tvbus.exits import FAILURE

_STYLES: Final = {"ok": "green", "note": "yellow", "problem": "bold red"}
CHECK_WIDTH: Final = 18


def command(
    context: typer.Context,
    offline: Annotated[
        bool, typer.Option("--offline", help="Look at nothing outside this machine but the bus.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> None:
    """Check settings, bus, clocks, account and publisher, and say what to mend.

    Nothing is changed, started or signed in. Exits 0 where there is no problem.

    Example: tvbus doctor --offline
    """
    console = Console(highlight=False)
    findings = []
    for finding in _examine(context, offline=offline):
        findings.append(finding)
        if not as_json:
            _show(console, finding)
    counts = Counter(finding.level for finding in findings)
    if as_json:
        rows = [{name: _plain(text) for name, text in asdict(one).items()} for one in findings]
        print(orjson.dumps({"findings": rows, "problems": counts["problem"]}).decode())
    else:
        print(f"problems: {counts['problem']}, notes: {counts['note']}")
    if counts["problem"]:
        raise typer.Exit(FAILURE)


def _show(console: Console, finding: Finding) -> None:
    text = Text.assemble(
        (f"{finding.level:<8}", _STYLES[finding.level]),
        f"{finding.check:<{CHECK_WIDTH}}  ",
        _plain(finding.found),
        (f"  → {_plain(finding.advice)}" if finding.advice else "", "bold"),
    )
    console.print(text, soft_wrap=True)


def _plain(text: str) -> str:
    """Return a line without secrets and what rewrites a terminal; servers had a part in it."""
    printable = "".join(letter if letter.isprintable() else " " for letter in redact(text))
    return " ".join(printable.split())


def _examine(context: typer.Context, *, offline: bool) -> Iterator[Finding]:
    settings, invalid = _settings(context)
    yield from judge_settings(look_settings(invalid))
    if settings is None:
        return
    yield from judge_folder(look_folder(settings.state_dir))
    url = bus_url(settings)
    facts, client = look_bus(settings, url)
    yield from judge_bus(facts)
    if client is not None:
        yield _publisher(client, settings)
        client.close()
    if not isinstance(settings, PublisherSettings):
        return
    if settings.listen:
        yield from judge_health(look_health(settings.listen))
    yield from judge_account(look_account(settings, url if client else None))
    if offline:
        return
    yield from judge_page(look_page(settings))
    yield judge_socket(look_socket(settings))


def _settings(context: typer.Context) -> tuple[BusSettings | None, str]:
    """Return the settings as far as they can be read, and what is wrong with the others."""
    try:
        return context.obj.settings(PublisherSettings), ""
    except SettingsInvalid as error:
        invalid = str(error)
    try:
        return context.obj.settings(BusSettings), invalid
    except SettingsInvalid:
        return None, invalid


def _publisher(client: Client, settings: BusSettings) -> Finding:
    keys = Keys(settings.prefix)
    try:
        lease = lease_of(client, keys)
        return judge_publisher(lease, session_of(client, keys, lease))
    except (RedisError, RedisClusterException) as error:
        return note("publisher", f"could not be asked for: {error}")
