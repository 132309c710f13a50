"""Every Redis client of the project is built here, with nothing left to defaults.

redis-py 8.1 by default sends a command again after a lost reply (an `XADD *`
then stands twice) and gives up on blocking reads after 5 s. Here nobody
retries in secret, and a reader's socket waits longer than its command.
"""

from __future__ import annotations

from typing import Any, Final, cast
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from bus.errors import SettingsInvalid

Client = redis.Redis

CONNECT_TIMEOUT_MS: Final = 3_000
WRITE_TIMEOUT_MS: Final = 5_000
"""How long a command that does not block may take."""
BLOCK_MS_MAX: Final = 5_000
"""Longest that a blocking read may ask the server to wait."""
READ_MARGIN_MS: Final = 3_000
"""How much longer than its block a reader's socket waits."""
KEEPALIVE_POOL_MAX: Final = 16

SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster")


def connect_writer(url: str) -> Client:
    """Return a client for commands that do not block. Does not connect yet.

    Raises SettingsInvalid where the address cannot be understood.
    """
    return _connect(url, WRITE_TIMEOUT_MS)


def connect_reader(url: str) -> Client:
    """Return a client for reads that block up to BLOCK_MS_MAX. Does not connect yet.

    Raises SettingsInvalid where the address cannot be understood.
    """
    return _connect(url, BLOCK_MS_MAX + READ_MARGIN_MS)


def address(url: str) -> str:
    """Return the address without user and password, fit for logs."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def _connect(url: str, timeout_ms: int) -> Client:
    scheme = urlsplit(url).scheme
    options: dict[str, Any] = {
        "socket_timeout": timeout_ms / 1000,
        "socket_connect_timeout": CONNECT_TIMEOUT_MS / 1000,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "decode_responses": False,
        "health_check_interval": 0,
    }
    try:
        if scheme == "redis+sentinel":
            return _through_sentinel(url, options)
        if scheme == "redis+cluster":
            plain = url.replace("redis+cluster://", "redis://", 1)
            return RedisCluster.from_url(plain, **options)  # type: ignore[return-value]
        if scheme in SCHEMES:
            return redis.Redis.from_url(url, max_connections=KEEPALIVE_POOL_MAX, **options)
    except ValueError as error:
        raise SettingsInvalid(f"TVBUS_REDIS_URL {address(url)!r}: {error}") from None
    raise SettingsInvalid(
        f"TVBUS_REDIS_URL must begin with one of {', '.join(SCHEMES)}://, was {address(url)!r}"
    )


def _through_sentinel(url: str, options: dict[str, Any]) -> Client:
    """`redis+sentinel://[user:password@]host:port[,host:port…]/SERVICE[?db=N]`."""
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    service = parts.path.strip("/")
    if not service:
        raise SettingsInvalid(
            "TVBUS_REDIS_URL must name the sentinel service, "
            f"redis+sentinel://HOST:26379/SERVICE, was {address(url)!r}"
        )
    user, _, password = credentials.partition(":")
    sentinels = []
    for host in hosts.split(","):
        name, _, port = host.partition(":")
        sentinels.append((name, int(port or 26379)))
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        sentinels,
        sentinel_kwargs={"socket_timeout": options["socket_timeout"]},
        username=unquote(user) or None,
        password=unquote(password) or None,
        db=int(parse_qs(parts.query).get("db", ["0"])[0]),
        **options,
    )
    return cast(Client, sentinel.master_for(service))  # type: ignore[no-untyped-call]
