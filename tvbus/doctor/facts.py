"""What the checks of `tvbus doctor` looked at; values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from publisher.core.tokens import Claims


@dataclass(frozen=True, slots=True)
class SettingsFacts:
    """Where settings come from; names only, no values."""

    invalid: str
    """Why they cannot be used; empty where they can."""
    file: Path | None
    file_mode: int
    in_file: frozenset[str]
    tables: frozenset[str]
    """Names in the file under which a table stands."""
    in_environment: frozenset[str]
    """Without TVBUS_, lower case; empty variables count as unset."""
    known: frozenset[str]
    """Every setting there is."""
    secrets: frozenset[str]
    """Those that may also stand in a file named by NAME_FILE."""


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """The state directory."""

    path: Path
    exists: bool
    is_folder: bool
    mode: int
    """0 where there are no such modes."""
    writable: bool
    """By this user; of one that does not exist: whether it can be made."""
    free_bytes: int | None


@dataclass(frozen=True, slots=True)
class HealthFacts:
    """What is at the address of /healthz."""

    listen: str
    taken: bool
    status: int | None
    """None where what is there speaks no HTTP."""
    state: str
    """What it says it is, such as `publishing`; empty where it is not ours."""
    troubles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One server of the bus; None where its user may not ask."""

    name: str
    hello: Mapping[str, str] = field(default_factory=dict)
    """What it says of itself to everybody: `server`, `version`, `mode`, `role`."""
    info: Mapping[str, Any] | None = None
    """INFO, as redis-py reads it."""
    snapshots: str | None = None
    """The setting `save`; empty where no snapshots are taken."""
    ahead_ms: float | None = None
    """How far its clock is ahead of this machine's."""
    round_trip_ms: float = 0.0
    not_publishing: Mapping[str, str] | None = None
    """What a publisher runs and this user cannot: command → why."""
    not_consuming: Mapping[str, str] | None = None
    """The same of a consumer."""


@dataclass(frozen=True, slots=True)
class BusFacts:
    """The bus."""

    address: str
    """Fit to be shown; empty where there is none."""
    embedded: bool
    trouble: str = ""
    """Why it was not reached; empty where it was."""
    advice: str = ""
    expected: bool = False
    """Whether it is no fault that it was not reached: nobody has started it."""
    clustered: bool = False
    """Whether the address says that it is a cluster."""
    nodes: tuple[NodeFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What one of TradingView's hosts answered."""

    where: str
    status: int | None = None
    """None where it did not answer."""
    trouble: str = ""
    """Why it did not."""
    ahead_ms: int | None = None
    """How far this machine's clock is certainly ahead of its; None where it did not tell."""


@dataclass(frozen=True, slots=True)
class StoredFacts:
    """The session that `tvbus login` stores."""

    exists: bool
    trouble: str = ""
    """Why it cannot be used."""
    signed_in_ms: int = 0


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """The ways in that are configured, and what is known of them; no secret."""

    now_ms: int
    token: Claims | None
    """What a given token says of itself, None where none is given."""
    cookies: bool
    stored: StoredFacts
    password: bool
    totp_trouble: str
    """Why the secret of the second factor cannot be used."""
    signin_trouble: str
    """Why no sign-in with a password may be made now."""
    allow_anonymous: bool
    series: int
    """How many series the settings want."""

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways in, in the order in which they are tried."""
        given = (
            ("token", self.token is not None),
            ("cookies", self.cookies),
            ("stored session", self.stored.exists),
            ("password", self.password),
        )
        return tuple(way for way, there in given if there)
