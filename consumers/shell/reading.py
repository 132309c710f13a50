"""Puts the reader of a consumer together."""

from __future__ import annotations

from dataclasses import replace

from bus.connection import Client
from consumers.core.start import Start
from consumers.core.wishes import Wishes
from consumers.shell.attach import Attacher
from consumers.shell.catalogue import Catalogue
from consumers.shell.departure import Departure
from consumers.shell.discovery import Discovery
from consumers.shell.group import Group
from consumers.shell.intake import Intake
from consumers.shell.letters import Letters
from consumers.shell.membership import LEASE_MS, Membership
from consumers.shell.reader import Reader
from consumers.shell.tenure import Tenure
from consumers.shell.threads import Desk, Tuning
from consumers.shell.unordered import CompetingGroup, NoLeases
from publisher.wire import Keys


def reader_of(
    desk: Desk,
    client: Client,
    keys: Keys,
    *,
    group: str,
    member: str,
    wishes: Wishes,
    start: Start | None = None,
    tuning: Tuning | None = None,
    lease_ms: int = LEASE_MS,
    unordered: bool = False,
) -> Reader:
    """Return the reader of one member; the client stays the caller's to close."""
    waits = tuning or Tuning()
    if unordered:
        competing = CompetingGroup(
            desk, client, keys, group=group, member=member, lease_ms=lease_ms
        )
        streams: Group = competing
        membership: Membership = NoLeases(competing, client, keys, lease_ms)
        # A look at a quiet stream is also one at what others abandoned in it.
        waits = replace(waits, check_ms=min(waits.check_ms, max(1, lease_ms // 3)))
    else:
        streams = Group(client, keys, group, member)
        membership = Membership(client, keys, group, member, lease_ms)
    letters = Letters(desk, client, keys, group, member, waits.refused_ms)
    catalogue = Catalogue(client, keys.catalogue)
    discovery = Discovery(wishes, catalogue, keys, waits.catalogue_ms, not unordered)
    return Reader(
        desk=desk,
        group=streams,
        tenure=Tenure(desk, membership, discovery, letters, group),
        attacher=Attacher(desk, streams, start, waits),
        intake=Intake(desk, client),
        letters=letters,
        departure=Departure(desk, streams, membership, letters, waits),
        tuning=waits,
    )
