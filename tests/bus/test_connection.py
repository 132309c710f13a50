"""Clients: every scheme against a real server, nothing sent twice, no early give-up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from bus.connection import (
    BLOCK_MS_MAX,
    READ_MARGIN_MS,
    WRITE_TIMEOUT_MS,
    address,
    connect_reader,
    connect_writer,
)
from bus.embedded import EmbeddedServer, _binary
from bus.errors import BusUnreachable, SettingsInvalid
from tests.bus.clusters import CLUSTERED, answers, cluster_of, command, direct, is_whole
from tests.bus.servers import CuttingProxy, free_port, running
from tests.waiting import eventually as wait_for

BINARY = str(_binary())


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A plain server on a port of its own."""
    port = free_port()
    folder = tmp_path_factory.mktemp("plain")
    with running([BINARY, "--port", str(port), "--save", ""], folder):
        wait_for(lambda: answers(f"redis://127.0.0.1:{port}"))
        yield port


def test_a_plain_address_with_a_database(port: int) -> None:
    connect_writer(f"redis://127.0.0.1:{port}/3").set("key", "in three")
    assert connect_reader(f"redis://127.0.0.1:{port}?db=3").get("key") == b"in three"
    assert connect_reader(f"redis://127.0.0.1:{port}").get("key") is None


def test_a_password_with_strange_characters(port: int, tmp_path: Path) -> None:
    other = free_port()
    arguments = [BINARY, "--port", str(other), "--save", "", "--requirepass", "p/a?s#s@"]
    with running(arguments, tmp_path / "server"):
        url = f"redis://:p%2Fa%3Fs%23s%40@127.0.0.1:{other}"
        wait_for(lambda: answers(url))
        with pytest.raises(redis.AuthenticationError):
            connect_writer(f"redis://127.0.0.1:{other}").ping()


def test_a_unix_socket(tmp_path: Path) -> None:
    with EmbeddedServer.start(tmp_path / "a b%20c") as server:
        assert connect_writer(server.url).set("key", "value")
        assert connect_reader(server.url).get("key") == b"value"


def test_encryption_is_asked_for(tmp_path: Path) -> None:
    client = connect_writer("rediss://example.com:6380/1?ssl_ca_certs=/ca.pem")
    connection = client.connection_pool.make_connection()
    assert isinstance(connection, redis.SSLConnection)
    assert connection.ca_certs == "/ca.pem"


def test_a_master_found_through_sentinels(port: int, tmp_path: Path) -> None:
    sentinel = free_port()
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"port {sentinel}\nsentinel monitor bars 127.0.0.1 {port} 1\n", encoding="utf-8"
    )
    dead = free_port()
    url = f"redis+sentinel://127.0.0.1:{dead},127.0.0.1:{sentinel}/bars?db=2"
    with running([BINARY, str(configuration), "--sentinel"], tmp_path):
        wait_for(lambda: answers(url))
        writer = connect_writer(url)
        writer.set("key", "through sentinel")
        assert connect_reader(url).get("key") == b"through sentinel"
    assert connect_writer(f"redis://127.0.0.1:{port}/2").get("key") == b"through sentinel"


def test_sentinels_that_are_all_gone_raise_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(redis.ConnectionError):
        connect_writer(f"redis+sentinel://127.0.0.1:{free_port()}/bars").ping()
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://u%40x:p%2Fw@one:1000,two,[::1]:2000/bars?db=4",
        "redis+sentinel://u%40x:p%2Fw@one:1000,two:26379,[::1]:2000/bars/?db=4",
    ],
)
def test_every_part_of_a_sentinel_address_counts(url: str) -> None:
    pool = connect_writer(url).connection_pool
    assert isinstance(pool, redis.SentinelConnectionPool)
    places = [
        (
            sentinel.connection_pool.connection_kwargs["host"],
            sentinel.connection_pool.connection_kwargs["port"],
        )
        for sentinel in pool.sentinel_manager.sentinels
    ]
    assert places == [("one", 1000), ("two", 26379), ("::1", 2000)]
    assert pool.service_name == "bars"
    wanted = {"username": "u@x", "password": "p/w", "db": 4}
    assert wanted.items() <= pool.connection_kwargs.items()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """Three nodes that share the slots."""
    with cluster_of(BINARY, tmp_path_factory.mktemp("cluster"), 3) as ports:
        yield ports


def test_a_cluster_takes_keys_of_every_slot(cluster: list[int]) -> None:
    url = f"redis+cluster://127.0.0.1:{cluster[0]}"
    writer = connect_writer(url)
    names = [f"tv:bars:{{S{number**9}-X-1m}}" for number in range(30)]
    for name in names:
        assert writer.xadd(name, {"bar": b"1"}, id="1700000000000-0") == b"1700000000000-0"
    reader = connect_reader(url)
    assert all(reader.xlen(name) == 1 for name in names)
    holders = {reader.get_node_from_key(name).port for name in names}  # type: ignore[attr-defined]
    assert holders == set(cluster)


def test_a_cluster_that_is_not_there_is_one_clear_line() -> None:
    url = f"redis+cluster://:hush-hush@127.0.0.1:{free_port()}"
    with pytest.raises(BusUnreachable) as caught:
        connect_writer(url)
    assert str(caught.value).startswith("no Redis Cluster answers at redis+cluster://127.0.0.1:")
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_reader_outwaits_the_longest_block(port: int) -> None:
    reader = connect_reader(f"redis://127.0.0.1:{port}")
    started = time.monotonic()
    assert not reader.xread({"nothing": "$"}, block=BLOCK_MS_MAX)
    assert BLOCK_MS_MAX / 1000 <= time.monotonic() - started < (BLOCK_MS_MAX + 1000) / 1000


def test_a_writer_gives_up_on_a_frozen_server_once(port: int) -> None:
    """With the library's defaults this would be sent again."""
    assert READ_MARGIN_MS > 1_000
    pool = connect_writer(f"redis://127.0.0.1:{port}").connection_pool
    connection = pool.make_connection()
    assert isinstance(connection, redis.Connection)
    assert connection.socket_timeout == WRITE_TIMEOUT_MS / 1000
    assert connection.retry.get_retries() == 0


@pytest.mark.parametrize("connect", [connect_writer, connect_reader])
def test_a_lost_reply_is_reported_and_the_command_was_sent_once(port: int, connect) -> None:  # type: ignore[no-untyped-def]
    proxy = CuttingProxy(port, b"XADD")
    stream = f"once-{connect.__name__}"
    with connect(f"redis://127.0.0.1:{proxy.port}") as client:
        with pytest.raises(redis.ConnectionError):
            client.xadd(stream, {"bar": b"1"})
        assert proxy.cuts == 1
        assert client.ping(), "the next command makes a new connection"
    assert connect_writer(f"redis://127.0.0.1:{port}").xlen(stream) == 1
    proxy.close()


def test_a_lost_reply_of_a_pipeline_is_reported_and_it_was_sent_once(port: int) -> None:
    proxy = CuttingProxy(port, b"XADD")
    with connect_writer(f"redis://127.0.0.1:{proxy.port}") as client:
        pipeline = client.pipeline(transaction=False)
        for _ in range(3):
            pipeline.xadd("pipelined", {"bar": b"1"})
        with pytest.raises(redis.ConnectionError):
            pipeline.execute()
    assert connect_writer(f"redis://127.0.0.1:{port}").xlen("pipelined") == 3
    proxy.close()


def test_a_lost_reply_through_a_cluster_client_was_sent_once(tmp_path: Path) -> None:
    port = free_port()
    proxy = CuttingProxy(port, b"XADD")
    announced = ["--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", str(proxy.port)]
    arguments = [BINARY, "--port", str(port), *announced, *CLUSTERED, str(free_port())]
    with running(arguments, tmp_path):
        node = direct(port)
        command(node, "CLUSTER ADDSLOTSRANGE 0 16383")
        wait_for(lambda: is_whole(node, 1))
        client = connect_writer(f"redis+cluster://127.0.0.1:{proxy.port}")
        with pytest.raises(redis.ConnectionError):
            client.xadd("once", {"bar": b"1"})
        assert proxy.cuts == 1
        assert node.xlen("once") == 1
    proxy.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://user:hush@host:6379/0", "redis://host:6379/0"),
        ("redis://:hu/sh@host", "redis://host"),
        ("redis://:hu#sh@host", "redis://host"),
        ("redis://:hu@sh@host", "redis://host"),
        ("redis://:hu?sh@host", "redis://…"),
        ("redis://host?password=hush", "redis://host"),
        ("redis://host?password=hu@sh", "redis://…"),
        ("unix:///tmp/valkey.sock?password=hush", "unix:///tmp/valkey.sock"),
        ("redis+sentinel://u:hush@one,two:1/bars", "redis+sentinel://one,two:1/bars"),
        ("user:hush@host:6379", "host:6379"),
        ("redis://[hush", "redis://[hush"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert address(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://:hush@host",
        "://:hush@host",
        "redis://:hush/hush@host",
        "redis://:hush@host:port",
        "redis://:hush@[::1",
        "redis://:hush@host?db=x",
        "redis+sentinel://:hush@host",
        "redis+sentinel://:hush@host:x/bars",
        "redis+sentinel://:hush@,/bars",
        "redis+sentinel://:hush@host/bars?db=x",
        "redis+cluster://:hush@host:x",
        "redis://:hush@host?socket_timeout=1",
        "redis://:hush@host?retry_on_timeout=yes",
        "redis://:hush@host?protocol=3",
        "redis://:hush@host?whatever",
    ],
)
def test_a_wrong_address_is_one_clear_line_without_its_secrets(url: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        connect_writer(url)
    text = str(caught.value)
    assert text.startswith("TVBUS_REDIS_URL ")
    assert "hush" not in text
    assert "\n" not in text
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
