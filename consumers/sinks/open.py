"""From the TARGET of `tvbus consume` to a sink."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from consumers.errors import TargetInvalid
from consumers.sinks.csv import CsvSink
from consumers.sinks.print import PrintSink
from consumers.sinks.settings import SinkSettings
from consumers.sinks.sink import Sink
from consumers.sinks.webhook import WebhookSink

log = structlog.get_logger("consumers")

FORMS: Final = ("print", "csv:DIR", "parquet:DIR", "postgres:URL", "webhook:URL")
"""What a sink is written as."""
_PASSWORD: Final = re.compile(r"//[^/?#]*:[^/?#]*@|\bpassword\s*=")


def open_sink(target: str, group: str, *, as_json: bool = False) -> Sink | None:
    """Return the sink that a target names, None where it is none, such as `module:function`.

    Raises TargetInvalid, UsageError where it cannot be used, SettingsInvalid.
    """
    if target == "print":
        return PrintSink(as_json=as_json)
    name, colon, place = target.partition(":")
    if not colon:
        raise TargetInvalid(
            f"target must be module:function or one of {', '.join(FORMS)}, was {target!r}"
        )
    opener = _OPENERS.get(name)
    return None if opener is None else opener(place, group)


def _open_csv(place: str, _group: str) -> Sink:
    return CsvSink(_folder(place, "csv"))


def _open_parquet(place: str, _group: str) -> Sink:
    folder = _folder(place, "parquet")
    from consumers.sinks.parquet import ParquetSink  # noqa: PLC0415 - pyarrow is an extra

    return ParquetSink(folder)


def _open_postgres(place: str, group: str) -> Sink:
    settings = SinkSettings.load()
    if place.startswith("//"):
        place = f"postgresql:{place}"
    if place:
        _check_exposure(place, "TVBUS_POSTGRES_URL")
    elif settings.postgres_url is not None:
        place = settings.postgres_url.get_secret_value()
    from consumers.sinks.postgres import PostgresSink  # noqa: PLC0415 - psycopg is an extra

    return PostgresSink(place, group)


def _open_webhook(place: str, _group: str) -> Sink:
    settings = SinkSettings.load()
    secret = settings.webhook_secret
    if place:
        _check_exposure(place, "TVBUS_WEBHOOK_URL")
    elif settings.webhook_url is not None:
        place = settings.webhook_url.get_secret_value()
    return WebhookSink(place, None if secret is None else secret.get_secret_value())


def _check_exposure(place: str, setting: str) -> None:
    """Say so where a password stands on the command line."""
    if _PASSWORD.search(place):
        log.warning("sink.exposed", advice=f"`ps` shows the password to everybody: use {setting}")


def _folder(place: str, name: str) -> Path:
    if not place:
        raise TargetInvalid(f"name a directory: {name}:DIR")
    return Path(place).expanduser()


_OPENERS: Final[Mapping[str, Callable[[str, str], Sink]]] = {
    "csv": _open_csv,
    "parquet": _open_parquet,
    "postgres": _open_postgres,
    "webhook": _open_webhook,
}
