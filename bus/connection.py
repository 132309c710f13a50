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
from redis.exceptions import RedisClusterException
from redis.retry import Retry
from redis.sentinel import Sentinel

from bus.errors import BusUnreachable, SettingsInvalid

Client = redis.Redis

CONNECT_TIMEOUT_MS: Final = 3_000
WRITE_TIMEOUT_MS: Final = 5_000
"""How long a command that does not block may take."""
BLOCK_MS_MAX: Final = 5_000
"""Longest that a blocking read may ask the server to wait."""
READ_MARGIN_MS: Final = 3_000
"""How much longer than its block a reader's socket waits."""
KEEPALIVE_POOL_MAX: Final = 16

SENTINEL_PORT: Final = 26379

SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "redis+cluster")
QUERY_OPTIONS: Final = ("db", "username", "password", "client_name")
"""What an address may set after its `?`, besides `ssl_…`; the rest is decided here."""


def connect_writer(url: str) -> Client:
    """Return a client for commands that do not block.

    Only a cluster is contacted at once. Raises SettingsInvalid where the address
    cannot be understood, BusUnreachable where the cluster does not answer.
    """
    return _connect(url, WRITE_TIMEOUT_MS)


def connect_reader(url: str) -> Client:
    """Return a client for reads that block up to BLOCK_MS_MAX; otherwise like a writer."""
    return _connect(url, BLOCK_MS_MAX + READ_MARGIN_MS)


def address(url: str) -> str:
    """Return the address without user, password and options, fit for logs.

    A password with unescaped `/`, `?` or `@` makes an address ambiguous; then
    rather too much is hidden than too little.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    before, _, host = rest.rpartition("@")
    if "?" in before:
        return f"{scheme}{separator}…"
    for mark in "?#":
        host = host.partition(mark)[0]
    return f"{scheme}{separator}{host}"


def _connect(url: str, timeout_ms: int) -> Client:
    options: dict[str, Any] = {
        "socket_timeout": timeout_ms / 1000,
        "socket_connect_timeout": CONNECT_TIMEOUT_MS / 1000,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "decode_responses": False,
        "health_check_interval": 0,
    }
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES or "://" not in url:
        raise SettingsInvalid(
            f"TVBUS_REDIS_URL must begin with one of {', '.join(SCHEMES)}://, was {address(url)!r}"
        )
    try:
        _check_options(url)
        if scheme == "redis+sentinel":
            return _through_sentinel(url, options)
        if scheme == "redis+cluster":
            return _through_cluster(url, options)
        return redis.Redis.from_url(url, max_connections=KEEPALIVE_POOL_MAX, **options)
    except ValueError:
        # The library's own text may quote a part of the password.
        raise SettingsInvalid(
            f"TVBUS_REDIS_URL {address(url)!r} cannot be understood: it is "
            "SCHEME://[USER:PASSWORD@]HOST[:PORT][/DB], with `/ ? # @` in a password written "
            "as %2F %3F %23 %40"
        ) from None


def _check_options(url: str) -> None:
    """Refuse what would undo the retry and timeout settings, and what nobody knows."""
    for name in parse_qs(urlsplit(url).query, keep_blank_values=True):
        if name not in QUERY_OPTIONS and not name.startswith("ssl_"):
            raise SettingsInvalid(
                f"TVBUS_REDIS_URL takes only {', '.join(QUERY_OPTIONS)} and ssl_… after `?`, "
                f"was {name!r}"
            )


def _through_cluster(url: str, options: dict[str, Any]) -> Client:
    plain = url.replace("redis+cluster://", "redis://", 1)
    try:
        cluster = RedisCluster.from_url(plain, **options)
    except (redis.RedisError, RedisClusterException) as error:
        raise BusUnreachable(f"no Redis Cluster answers at {address(url)}: {error}") from error
    return cast(Client, cluster)


def _through_sentinel(url: str, options: dict[str, Any]) -> Client:
    """`redis+sentinel://[user:password@]host[:port][,host[:port]…]/SERVICE[?db=N]`."""
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    service = parts.path.strip("/")
    if not service:
        raise SettingsInvalid(
            "TVBUS_REDIS_URL must name the sentinel service, "
            f"redis+sentinel://HOST:{SENTINEL_PORT}/SERVICE, was {address(url)!r}"
        )
    user, _, password = credentials.partition(":")
    sentinels = []
    for host in hosts.split(","):
        place = urlsplit(f"//{host}")
        if not place.hostname:
            raise ValueError("a sentinel has no host")
        sentinels.append((place.hostname, place.port or SENTINEL_PORT))
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        sentinels,
        sentinel_kwargs=options,
        username=unquote(user) or None,
        password=unquote(password) or None,
        db=int(parse_qs(parts.query).get("db", ["0"])[0]),
        **options,
    )
    return cast(Client, sentinel.master_for(service))  # type: ignore[no-untyped-call]
