"""The publisher's settings, parsed once; limits are checked against each other here."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from bus.loopback import is_loopback
from bus.settings import BusSettings, ListenAddress
from publisher.core.bars import FILL_BARS_MAX
from publisher.core.budget import REQUESTS_PER_HOUR_MAX
from publisher.publication import SERIES_MAX
from publisher.wire import Series, SeriesInvalid

TRADINGVIEW_URL: Final = "wss://data.tradingview.com/socket.io/websocket"
TRADINGVIEW_WEB_URL: Final = "https://www.tradingview.com"
TRADINGVIEW_SEARCH_URL: Final = "https://symbol-search.tradingview.com"
ORIGIN: Final = "https://www.tradingview.com"
"""TradingView answers a handshake, and a search, without such an Origin with 403."""


def _check_address(value: str, secure: str, plain: str) -> str:
    """Refuse what is no address, and a plain one that leaves this machine."""
    parts = urlsplit(value)
    if parts.scheme not in {plain, secure} or not parts.hostname or parts.port == 0:
        raise ValueError(f"must be a {secure}:// address")
    if parts.scheme == plain and not is_loopback(parts.hostname):
        raise ValueError(f"plain {plain}:// is for this machine only; use {secure}://")
    return value.rstrip("/") if secure == "https" else value


WebAddress = Annotated[str, AfterValidator(lambda value: _check_address(value, "https", "http"))]
SocketAddress = Annotated[str, AfterValidator(lambda value: _check_address(value, "wss", "ws"))]


class WebSettings(BusSettings):
    """Where TradingView's pages are; frozen."""

    web_url: WebAddress = TRADINGVIEW_WEB_URL
    search_url: WebAddress = TRADINGVIEW_SEARCH_URL


class AccountSettings(WebSettings):
    """Who signs in at TradingView, and how often at most; frozen."""

    secrets: ClassVar[tuple[str, ...]] = (
        "redis_url",
        "auth_token",
        "username",
        "password",
        "totp_secret",
        "sessionid",
        "sessionid_sign",
        "state_key",
    )

    auth_token: SecretStr | None = None
    username: SecretStr | None = None
    password: SecretStr | None = None
    totp_secret: SecretStr | None = None
    """As TradingView shows it: base32, spaces and lower case are fine."""
    sessionid: SecretStr | None = None
    sessionid_sign: SecretStr | None = None
    state_key: SecretStr | None = None
    """Encrypts the stored session; unset: the system's keyring where there is one."""
    allow_anonymous: bool = False
    """Go on anonymously where signing in fails."""
    signins_per_hour_max: int = Field(2, ge=1, le=10)
    signins_per_day_max: int = Field(4, ge=1, le=20)
    """Sign-ins with the password; more of them bring a captcha, then a lock of a day."""

    @model_validator(mode="after")
    def _check_budget(self) -> AccountSettings:
        if self.signins_per_hour_max > self.signins_per_day_max:
            raise ValueError(
                f"TVBUS_SIGNINS_PER_HOUR_MAX ({self.signins_per_hour_max}) must not be greater "
                f"than TVBUS_SIGNINS_PER_DAY_MAX ({self.signins_per_day_max})"
            )
        return self


class PublisherSettings(AccountSettings):
    """What is published, from where, and how much of it is kept; frozen."""

    series: Annotated[tuple[Series, ...], NoDecode] = ()
    """Comma separated."""
    history_bars: int = Field(500, ge=0, le=FILL_BARS_MAX - 10_000)
    """How many closed bars a new stream is filled with."""
    retain_bars: int = Field(100_000, ge=0)
    """How many entries a stream keeps, about; 0: all."""
    retain_days: int = Field(0, ge=0, le=36_500)
    """How many days before its newest bar a stream keeps, about; 0: all."""
    encoding: Literal["msgpack", "json"] = "msgpack"
    ws_url: SocketAddress = TRADINGVIEW_URL
    require_realtime: bool = False
    """Refuse series whose data comes late or at the end of the day."""
    history_requests_per_hour_max: int = Field(REQUESTS_PER_HOUR_MAX, ge=0, le=10_000)
    """Requests to TradingView that `tvbus history` may cost in an hour; 0: none."""
    series_per_connection_max: int = Field(190, ge=1, le=SERIES_MAX)
    """How many series one connection to TradingView carries."""
    connections_max: int = Field(6, ge=1, le=50)
    """How many connections are made where the series need them, within the plan."""
    audit_minutes: int = Field(30, ge=0, le=10_080)
    """How often a series is compared with history, 21 bars apart at least; 0: never."""
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

    @model_validator(mode="after")
    def _check_limits(self) -> PublisherSettings:
        if 0 < self.retain_bars < self.history_bars:
            raise ValueError(
                f"TVBUS_RETAIN_BARS ({self.retain_bars}) must not be smaller than "
                f"TVBUS_HISTORY_BARS ({self.history_bars})"
            )
        return self

    @model_validator(mode="after")
    def _check_pairs(self) -> PublisherSettings:
        if (self.username is None) != (self.password is None):
            missing = "TVBUS_PASSWORD" if self.password is None else "TVBUS_USERNAME"
            raise ValueError(f"{missing} is missing: signing in needs user name and password")
        if self.totp_secret is not None and self.username is None:
            raise ValueError(
                "TVBUS_TOTP_SECRET alone signs nobody in: give TVBUS_USERNAME and TVBUS_PASSWORD"
            )
        if (self.sessionid is None) != (self.sessionid_sign is None):
            missing = "TVBUS_SESSIONID" if self.sessionid is None else "TVBUS_SESSIONID_SIGN"
            raise ValueError(f"{missing} is missing: TradingView wants both cookies")
        return self
