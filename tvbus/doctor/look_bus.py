"""Looks at the bus: asks its servers what they are and what this user may do.

Whether a command may be run is asked without running it: after MULTI a server checks
a command's arguments and its user's rights, and queues it; there is no EXEC.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from redis.cluster import RedisCluster
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from bus.connection import Client, address, connect_writer
from bus.embedded import NO_BUS, check_supported, find_url
from bus.errors import BusError, EmbeddedUnsupported, SettingsInvalid
from bus.settings import BusSettings
from publisher.wire import Keys, Series
from tvbus.doctor.facts import BusFacts, NodeFacts

NODES_MAX: Final = 16
"""How many primaries of a cluster are looked at."""

Command = tuple[str | int, ...]
_SERIES: Final = Series("TVBUS-DOCTOR", "NOWHERE", "1D")
_SHA: Final = "0" * 40


CONNECTING: Final = ("PING",)
"""What every client runs."""
READING: Final = ("EXISTS", "XRANGE", "XREVRANGE", "HGETALL", "TYPE")


def publishing(keys: Keys) -> dict[str, Command]:
    """Return what a publisher runs, with keys as it uses them, by how it is called here."""
    bars, known = keys.bars(_SERIES), keys.series(_SERIES)
    return {
        "EVALSHA": ("EVALSHA", _SHA, 2, bars, known),
        "SCRIPT LOAD": ("SCRIPT", "LOAD", "return 0"),
        "EXISTS": ("EXISTS", bars),
        "XINFO": ("XINFO", "STREAM", bars),
        "XRANGE": ("XRANGE", bars, "-", "+"),
        "XREVRANGE": ("XREVRANGE", bars, "+", "-"),
        "XTRIM": ("XTRIM", bars, "MAXLEN", "~", 1),
        "XADD": ("XADD", keys.events, "*", "event", "x"),
        "HSET": ("HSET", keys.catalogue, "x", "x"),
        "HGETALL": ("HGETALL", keys.catalogue),
        "HGET": ("HGET", known, "x"),
        "HMGET": ("HMGET", keys.publisher, "x"),
        "XREAD": ("XREAD", "STREAMS", keys.commands, "0"),
        "RPUSH": ("RPUSH", keys.replies("x"), "x"),
        "PEXPIRE": ("PEXPIRE", keys.replies("x"), 1),
        "TIME": ("TIME",),
        "TYPE": ("TYPE", bars),
        "XPENDING": ("XPENDING", bars, "g"),
        "XLEN": ("XLEN", keys.dead("g")),
        "GET": ("GET", keys.signin),
        "SET": ("SET", keys.signin, "x"),
    }


def consuming(keys: Keys) -> dict[str, Command]:
    """Return what a consumer runs, like `publishing`."""
    bars, leases = keys.bars(_SERIES), keys.group("g", "leases")
    return {
        "EVALSHA": ("EVALSHA", _SHA, 1, bars),
        "SCRIPT LOAD": ("SCRIPT", "LOAD", "return 0"),
        "TIME": ("TIME",),
        "TYPE": ("TYPE", bars),
        "GET": ("GET", keys.group("g", "token")),
        "SET": ("SET", keys.group("g", "token"), 1),
        "HSET": ("HSET", leases, "x", "x"),
        "HDEL": ("HDEL", leases, "x"),
        "HGET": ("HGET", leases, "x"),
        "HMGET": ("HMGET", keys.group("g", "checkpoints"), "x"),
        "HLEN": ("HLEN", keys.group("g", "replays")),
        "XREADGROUP": ("XREADGROUP", "GROUP", "g", "c", "STREAMS", bars, ">"),
        "XGROUP CREATE": ("XGROUP", "CREATE", bars, "g", "0"),
        "XGROUP CREATECONSUMER": ("XGROUP", "CREATECONSUMER", bars, "g", "c"),
        "XACK": ("XACK", bars, "g", "0-1"),
        "XGROUP DELCONSUMER": ("XGROUP", "DELCONSUMER", bars, "g", "c"),
        "XAUTOCLAIM": ("XAUTOCLAIM", bars, "g", "c", 1, "0"),
        "XCLAIM": ("XCLAIM", bars, "g", "c", 1, "0-1"),
        "XPENDING": ("XPENDING", bars, "g"),
        "XADD": ("XADD", keys.dead("g"), "*", "bar", "x"),
        "XINFO": ("XINFO", "STREAM", bars),
        "XRANGE": ("XRANGE", bars, "-", "+"),
        "XREVRANGE": ("XREVRANGE", bars, "+", "-"),
        "XREAD": ("XREAD", "STREAMS", keys.forming(_SERIES), "0"),
        "HGETALL": ("HGETALL", keys.catalogue),
    }


def bus_url(settings: BusSettings) -> str | None:
    """Return the address that the settings give, else that of the embedded server that runs."""
    given = settings.redis_url
    return given.get_secret_value() if given else find_url(settings.state_dir)


def look_bus(settings: BusSettings, url: str | None) -> tuple[BusFacts, Client | None]:
    """Look at the bus at an address; the client is there where it answers."""
    if url is None:
        return _no_embedded(), None
    where, embedded = address(url), settings.redis_url is None
    try:
        client = connect_writer(url)
        _ping(client)
    except AuthenticationError as error:
        advice = "put user and password into TVBUS_REDIS_URL: SCHEME://USER:PASSWORD@HOST"
        return BusFacts(where, embedded, f"{where} does not let us in: {error}", advice), None
    except SettingsInvalid as error:
        return BusFacts(where, embedded, str(error)), None
    except (RedisError, RedisClusterException, BusError) as error:
        advice = "is it running?" if embedded else "is it running, and is TVBUS_REDIS_URL right?"
        return BusFacts(where, embedded, f"no bus at {where}: {error}", advice), None
    nodes = tuple(_look_node(name, node, settings.prefix) for name, node in _nodes(client, where))
    facts = BusFacts(where, embedded, clustered=_is_cluster(client), nodes=nodes)
    return facts, client


def _no_embedded() -> BusFacts:
    try:
        check_supported()
    except EmbeddedUnsupported as error:
        return BusFacts("", embedded=True, trouble=str(error), advice="")
    return BusFacts("", embedded=True, trouble=NO_BUS, advice="", expected=True)


def _ping(client: Client) -> None:
    try:
        client.ping()
    except NoPermissionError:
        pass  # it answers, and what else it denies is told one by one
    except AuthenticationError:
        raise
    except ResponseError as error:
        if str(error).startswith("NOAUTH"):
            raise AuthenticationError(str(error)) from error
        # Loading its data, or its disk full: it answers, and what it says is told.


def _is_cluster(client: Client) -> bool:
    return RedisCluster in type(client).__mro__


def _nodes(client: Any, where: str) -> Iterator[tuple[str, Client]]:
    if not _is_cluster(client):
        yield where, client
        return
    for node in client.get_primaries()[:NODES_MAX]:
        yield node.name, client.get_redis_connection(node)


def _look_node(name: str, node: Client, prefix: str) -> NodeFacts:
    keys = Keys(prefix)
    begun_s = time.time()
    clock = _asked(node, "TIME")
    ended_s = time.time()
    bus_s = int(clock[0]) + int(clock[1]) / 1e6 if clock else None
    config = _asked(node, "CONFIG", "GET", "save")
    return NodeFacts(
        name=name,
        hello=_texts(_asked(node, "HELLO")),
        info=_asked_info(node),
        snapshots=_texts(config).get("save") if config is not None else None,
        ahead_ms=None if bus_s is None else (bus_s - (begun_s + ended_s) / 2) * 1000,
        round_trip_ms=(ended_s - begun_s) * 1000,
        not_publishing=denied(node, publishing(keys)),
        not_consuming=denied(node, consuming(keys)),
    )


def _asked(node: Client, *command: str) -> Any:
    """Return the plain reply, None where this user may not ask or nobody knows the command."""
    try:
        with _connection(node) as connection:
            return _say(connection, *command)
    except RedisError:
        return None


def _asked_info(node: Client) -> Mapping[str, Any] | None:
    try:
        info: Any = node.info()
    except RedisError:
        return None
    return info if isinstance(info, Mapping) and info else None


def _texts(reply: Any) -> dict[str, str]:
    """Return a flat list of names and values as texts."""
    parts = [
        part.decode(errors="replace") if isinstance(part, bytes) else str(part)
        for part in reply or ()
    ]
    return dict(zip(parts[::2], parts[1::2], strict=False))


def denied(node: Client, commands: Mapping[str, Command]) -> dict[str, str] | None:
    """Return which commands this user cannot run, and why; None where that cannot be asked.

    None of them is run, unless the user may open no transaction: then those are that
    only read, and of the others nothing is known.
    """
    try:
        with _connection(node) as connection:
            try:
                _say(connection, "MULTI")
            except ResponseError:
                reading = {name: commands[name] for name in READING if name in commands}
                return _denied(connection, reading) or None
            return _denied(connection, commands)
    except RedisError:
        return None


def _denied(connection: Any, commands: Mapping[str, Command]) -> dict[str, str]:
    refused = {}
    for name, command in commands.items():
        try:
            _say(connection, *command)
        except ResponseError as error:
            if _means_denied(error):
                refused[name] = str(error)
    return refused


@contextlib.contextmanager
def _connection(node: Client) -> Iterator[Any]:
    """A connection of one's own; closed at the end, it forgets what was queued on it."""
    pool: Any = node.connection_pool
    connection = pool.get_connection()
    try:
        yield connection
    finally:
        connection.disconnect()
        pool.release(connection)


def _say(connection: Any, *command: str | int) -> Any:
    connection.send_command(*command)
    return connection.read_response()


def _means_denied(error: ResponseError) -> bool:
    """Other refusals (a slot of another node, a full memory) come after the rights were checked."""
    return isinstance(error, NoPermissionError) or "unknown command" in str(error).lower()
