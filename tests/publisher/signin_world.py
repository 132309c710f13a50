"""Signing in at the simulator over real HTTP, with clocks that stand still."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from publisher_world import FakeClock

from bus.connection import connect_writer
from publisher.access import Access
from publisher.core.governor import Budget
from publisher.password import Means
from publisher.settings import ORIGIN, AccountSettings
from publisher.shell.governor import Governor, SharedRecord
from publisher.shell.pages import Pages
from publisher.shell.vault import Vault
from publisher.simulator import Account, Simulator
from publisher.wire import Keys

SECRET = "jbsw y3dp ehpk 3pxp"
"""As TradingView shows it: 16 characters, in groups, lower case."""
STEP_MS = 30_000
STEP_004217 = 57_179_000
"""A time step, in 2024, whose code is 004217."""
NOW_MS = STEP_004217 * STEP_MS + 5_000

PLAIN = Account("alice", "simple", email="alice@example.com", plan="pro")
TOTP = Account("carol", 'p&ss+w%rd ü"', totp_secret=SECRET)
SMS = Account("dave", "simple", factors=("sms",))
MAIL = Account("erin", "simple", factors=("email",))
GERMAN = Account("hans", "simple", locale="de")
ACCOUNTS = (PLAIN, TOTP, SMS, MAIL, GERMAN)


class NoKeychain:
    """A machine without a keyring."""

    available = False


class SigninWorld:
    """A simulated TradingView and a machine; several publishers may run there."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.clock.wall = NOW_MS
        self.site = Simulator(speed=0, start_ms=NOW_MS, accounts=ACCOUNTS, **options)
        self.waits_s: list[float] = []
        self.means: Means | None = None

    def __enter__(self) -> SigninWorld:
        self.site.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.site.stop()

    def wait(self, seconds: float) -> None:
        """Let the time pass, here and there."""
        self.waits_s.append(seconds)
        self.clock.wall += round(seconds * 1000)
        self.clock.monotonic += round(seconds * 1000)
        self.site.advance(round(seconds * 1000))

    def settings(self, **values: Any) -> AccountSettings:
        """Settings as the publisher has them."""
        defaults = {"web_url": self.site.web_url, "state_dir": self.folder / "state"}
        return AccountSettings(**(defaults | values))

    def access(self, *, redis_url: str | None = None, **values: Any) -> Access:
        """The way to tokens of a publisher that starts now."""
        settings = self.settings(**values)
        shared = None
        if redis_url is not None:
            shared = SharedRecord(lambda: connect_writer(redis_url), Keys().signin)
        budget = Budget(settings.signins_per_hour_max, settings.signins_per_day_max)
        self.means = Means(
            self.clock,
            Pages(settings.web_url, ORIGIN, self.clock),
            Governor(settings.state_dir, shared, self.clock, budget),
            Vault(settings.state_dir, settings.state_key, NoKeychain()),  # type: ignore[arg-type]
            self.wait,
        )
        return Access(settings, self.means)

    def count(self, *sorts: str) -> tuple[int, ...]:
        """How many requests of these sorts TradingView saw."""
        return tuple(self.site.web_counts[sort] for sort in sorts)


def login(account: Account, *, secret: str | None = None) -> dict[str, Any]:
    """Settings with the account's user name and password, and a secret where one is given."""
    values: dict[str, Any] = {"username": account.username, "password": account.password}
    return values if secret is None else values | {"totp_secret": secret}
