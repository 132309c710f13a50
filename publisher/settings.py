"""The publisher's settings, parsed once; limits are checked against each other here."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from bus.settings import BusSettings, ListenAddress
from publisher.core.bars import FILL_BARS_MAX
from publisher.publication import SERIES_MAX
from publisher.wire import Series, SeriesInvalid

TRADINGVIEW_URL: Final = "wss://data.tradingview.com/socket.io/websocket"
ORIGIN: Final = "https://www.tradingview.com"
"""TradingView answers a handshake without such an Origin with 403."""


class PublisherSettings(BusSettings):
    """What is published, from where, and how much of it is kept; frozen."""

    secrets: ClassVar[tuple[str, ...]] = (
        "redis_url",
        "auth_token",
        "username",
        "password",
        "totp_secret",
        "sessionid",
        "sessionid_sign",
    )

    series: Annotated[tuple[Series, ...], NoDecode] = ()
    """Comma separated."""
    history_bars: int = Field(500, ge=0, le=FILL_BARS_MAX - 10_000)
    """How many closed bars a new stream is filled with."""
    retain_bars: int = Field(100_000, ge=0)
    """How many entries a stream keeps, about; 0: all."""
    retain_days: int = Field(0, ge=0, le=36_500)
    """How many days before its newest bar a stream keeps, about; 0: all."""
    encoding: Literal["msgpack", "json"] = "msgpack"
    ws_url: str = TRADINGVIEW_URL
    auth_token: SecretStr | None = None
    username: SecretStr | None = None
    password: SecretStr | None = None
    totp_secret: SecretStr | None = None
    sessionid: SecretStr | None = None
    sessionid_sign: SecretStr | None = None
    settle_ms: int = Field(2_000, ge=0, le=600_000)
    """How long after its end a bar may still change before the clock closes it."""
    listen: ListenAddress = "127.0.0.1:9464"
    """Where /healthz and /metrics are served; empty: nowhere."""

    @field_validator("series", mode="before")
    @classmethod
    def _parse_series(cls, value: Any) -> Any:
        texts = value.split(",") if isinstance(value, str) else value
        try:
            parsed = (
                text if isinstance(text, Series) else Series.parse(str(text))
                for text in texts
                if isinstance(text, Series) or str(text).strip()
            )
            series = tuple(dict.fromkeys(parsed))
        except SeriesInvalid as error:
            raise ValueError(str(error)) from None
        if len(series) > SERIES_MAX:
            raise ValueError(f"at most {SERIES_MAX} series, were {len(series)}")
        return series

    @field_validator("ws_url")
    @classmethod
    def _check_ws_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"ws", "wss"} or not parts.hostname or parts.port == 0:
            raise ValueError("must be a wss:// address")
        if parts.scheme == "ws" and not _is_loopback(parts.hostname):
            raise ValueError("plain ws:// is for this machine only; use wss://")
        return value

    @model_validator(mode="after")
    def _check_limits(self) -> PublisherSettings:
        if 0 < self.retain_bars < self.history_bars:
            raise ValueError(
                f"TVBUS_RETAIN_BARS ({self.retain_bars}) must not be smaller than "
                f"TVBUS_HISTORY_BARS ({self.history_bars})"
            )
        credentials = (
            self.username,
            self.password,
            self.totp_secret,
            self.sessionid,
            self.sessionid_sign,
        )
        if self.auth_token is None and any(credentials):
            # Going on without them would be anonymous, and silently so.
            raise ValueError(
                "signing in with a user name or cookies is not built yet: "
                "give TVBUS_AUTH_TOKEN, or unset the credentials to read anonymously"
            )
        return self


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
