"""Puts together what signing in needs, for the publisher and for the command line."""

from __future__ import annotations

from bus.connection import connect_writer
from publisher.access import Access
from publisher.core.governor import Budget
from publisher.password import Means
from publisher.settings import ORIGIN, AccountSettings
from publisher.shell.clock import SystemClock
from publisher.shell.governor import Governor, SharedRecord
from publisher.shell.keychain import Keychain
from publisher.shell.pages import Pages
from publisher.shell.vault import Vault
from publisher.wire import Keys


def build_means(settings: AccountSettings, redis_url: str | None) -> Means:
    """Return what signing in needs; the bus is used where it is there, and never required."""
    clock = SystemClock()
    shared = None
    if redis_url is not None:
        shared = SharedRecord(lambda: connect_writer(redis_url), Keys(settings.prefix).signin)
    budget = Budget(settings.signins_per_hour_max, settings.signins_per_day_max)
    return Means(
        clock,
        Pages(settings.web_url, ORIGIN, clock),
        Governor(settings.state_dir, shared, clock, budget),
        Vault(settings.state_dir, settings.state_key, Keychain()),
    )


def build_access(settings: AccountSettings, redis_url: str | None) -> Access:
    """Return the way to tokens."""
    return Access(settings, build_means(settings, redis_url))
