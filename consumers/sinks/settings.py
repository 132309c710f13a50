"""What sinks need that must not stand on a command line, for `ps` shows it to everybody."""

from __future__ import annotations

from typing import ClassVar

from pydantic import SecretStr

from bus.settings import BusSettings


class SinkSettings(BusSettings):
    """Addresses that hold secrets, and the secret to sign with; each also from NAME_FILE."""

    secrets: ClassVar[tuple[str, ...]] = (
        *BusSettings.secrets,
        "postgres_url",
        "webhook_url",
        "webhook_secret",
    )

    postgres_url: SecretStr | None = None
    """Where `postgres:` alone writes to: a URL or `key=value` words, as libpq reads them."""
    webhook_url: SecretStr | None = None
    """Where `webhook:` alone posts to."""
    webhook_secret: SecretStr | None = None
    """What posts are signed with; unset: they are not."""
