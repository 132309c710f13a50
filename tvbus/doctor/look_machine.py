"""Looks at this machine: the settings' sources, the state directory, the health page."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tomllib
from pathlib import Path
from typing import Any, Final

import orjson

from bus.settings import SETTINGS_FILE
from publisher.errors import ConnectFailed
from publisher.settings import PublisherSettings
from publisher.web import ask
from tvbus.commands.consume import ConsumerSettings
from tvbus.doctor.facts import FolderFacts, HealthFacts, SettingsFacts

KNOWN: Final = frozenset(PublisherSettings.model_fields) | frozenset(ConsumerSettings.model_fields)
SECRETS: Final = frozenset(PublisherSettings.secrets)
HEALTH_S_MAX: Final = 3.0


def look_settings(invalid: str) -> SettingsFacts:
    """Read the names that are set; `invalid` is what reading the settings said."""
    path = Path(SETTINGS_FILE)
    content: dict[str, Any] = {}
    mode = 0
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        found = True
    except FileNotFoundError:
        found = False
    except (OSError, ValueError):
        found = True  # what is wrong with it stands in `invalid`
    return SettingsFacts(
        invalid=invalid,
        file=path.absolute() if found else None,
        file_mode=mode,
        in_file=frozenset(content),
        tables=frozenset(name for name, value in content.items() if isinstance(value, dict)),
        in_environment=frozenset(
            name.upper().removeprefix("TVBUS_").lower()
            for name, value in os.environ.items()
            if name.upper().startswith("TVBUS_") and value
        ),
        known=KNOWN,
        secrets=SECRETS,
    )


def look_folder(path: Path) -> FolderFacts:
    """Look at the state directory without making it."""
    path = path.absolute()
    nearest = path
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        mode = stat.S_IMODE(path.stat().st_mode) if os.name == "posix" else 0
        exists = True
    except OSError:
        mode, exists = 0, os.path.lexists(path)
    try:
        free_bytes: int | None = shutil.disk_usage(nearest).free
    except OSError:
        free_bytes = None
    return FolderFacts(
        path=path,
        exists=exists,
        is_folder=path.is_dir(),
        mode=mode,
        writable=nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK),
        free_bytes=free_bytes,
    )


def look_health(listen: str) -> HealthFacts:
    """Ask the process on this machine, if there is one, how it is."""
    host, _, port = listen.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), HEALTH_S_MAX).close()
    except OSError:
        return HealthFacts(listen, taken=False, status=None, state="", troubles=())
    try:
        reply = ask(f"http://{listen}/healthz", timeout_s=HEALTH_S_MAX)
    except ConnectFailed:
        return HealthFacts(listen, taken=True, status=None, state="", troubles=())
    try:
        facts = orjson.loads(reply.body)
        state, troubles = str(facts["state"]), tuple(map(str, facts.get("troubles", ())))
    except (ValueError, KeyError, TypeError, AttributeError):
        state, troubles = "", ()
    return HealthFacts(listen, taken=True, status=reply.status, state=state, troubles=troubles)
