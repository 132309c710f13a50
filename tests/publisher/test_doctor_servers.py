"""What `tvbus doctor` sees of real servers, and that it leaves them as they were."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from publisher_servers import Server, free_port, redis_server, valkey_server
from pydantic import SecretStr

from bus import connection, embedded
from bus.connection import connect_writer
from bus.embedded import EmbeddedServer
from bus.errors import EmbeddedUnsupported
from bus.settings import BusSettings
from publisher.wire import Keys
from tests.waiting import eventually
from tvbus.doctor.facts import BusFacts
from tvbus.doctor.finding import Finding
from tvbus.doctor.judge_bus import judge_bus
from tvbus.doctor.look_bus import bus_url, consuming, denied, look_bus, publishing

KEYS = Keys("tv")


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Server:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Server)
    return found


def look(url: str | None, folder: Path = Path("/nowhere")) -> BusFacts:
    settings = BusSettings(redis_url=SecretStr(url) if url else None, state_dir=folder)
    facts, client = look_bus(settings, bus_url(settings))
    assert (client is None) == bool(facts.trouble)
    if client is not None:
        client.close()
    return facts


def judge(facts: BusFacts) -> dict[str, Finding]:
    return {finding.check: finding for finding in judge_bus(facts)}


@contextlib.contextmanager
def user(server: Server, name: str, *rules: str) -> Iterator[str]:
    """Let there be a user with these rights; the address to enter by."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", name, "on", ">hush", *rules)
        yield f"redis://{name}:hush@127.0.0.1:{server.port}/0"
        client.execute_command("ACL", "DELUSER", name)


@pytest.mark.parametrize("commands", [publishing(KEYS), consuming(KEYS)], ids=["pub", "con"])
def test_every_command_that_is_asked_about_is_one(
    server: Server, commands: dict[str, tuple[str | int, ...]]
) -> None:
    with server.client() as client:
        one: Any = client.connection_pool.get_connection()
        one.send_command("MULTI")
        one.read_response()
        for command in commands.values():
            one.send_command(*command)
            assert one.read_response() == b"QUEUED", command
        one.disconnect()


def test_a_real_server_is_seen_as_it_is(server: Server) -> None:
    found = judge(look(server.url))
    name = {"redis-server": "Redis"}.get(server.process.args[0].rpartition("/")[2], "Valkey")  # type: ignore[union-attr,index]
    assert found["bus"].level == "ok"
    assert found["bus"].found.startswith(f"{name} ")
    assert found["rights"].level == found["memory"].level == found["bus clock"].level == "ok"
    # The servers of the tests keep nothing.
    assert found["persistence"].level == "problem"


def test_a_server_that_evicts_is_a_problem(server: Server) -> None:
    with server.client() as client:
        client.config_set("maxmemory", "500mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            finding = judge(look(server.url))["memory"]
        finally:
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")
    assert finding.level == "problem"
    assert "500 MiB allkeys-lru" in finding.found


def test_snapshots_and_the_append_only_file_are_told_apart(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--save", "3600 1") as server, server.client() as client:
        client.set("x", "1")
        finding = judge(look(server.url))["persistence"]
        assert (finding.level, "last 1 changes" in finding.found) == ("note", True)
        client.config_set("appendonly", "yes")
        eventually(lambda: judge(look(server.url))["persistence"].level == "ok", "it is kept")


READING = ("~tv:*", "-@all", "+ping", "+multi", "+hgetall", "+time", "+xread", "+xadd")
CONSUMER_RIGHTS = (
    *("~tv:*", "-@all", "+ping", "+multi", "+hgetall", "+xread", "+xadd", "+xreadgroup"),
    *("+evalsha", "+script|load", "+time", "+type", "+get", "+set", "+hset", "+hdel", "+hget"),
    *(
        "+hmget",
        "+hlen",
        "+xgroup",
        "+xack",
        "+xclaim",
        "+xautoclaim",
        "+xpending",
        "+xinfo",
        "+xrange",
        "+xrevrange",
    ),
)


def test_a_user_with_all_rights_but_the_dangerous_ones_is_fine(server: Server) -> None:
    with user(server, "app", "~tv:*", "+@all", "-@dangerous", "-@admin") as url:
        found = judge(look(url))
    assert found["rights"].level == "ok"
    assert found["bus"].level == "ok", "HELLO says what INFO may not"
    assert found["memory"].level == found["persistence"].level == "note"


def test_what_a_user_may_not_run_is_found_without_running_it(server: Server) -> None:
    with user(server, "reader", *READING) as url, connect_writer(url) as client:
        refused = denied(client, publishing(KEYS))
        assert refused is not None
        assert set(refused) == set(publishing(KEYS)) - {"HGETALL", "TIME", "XREAD", "XADD"}
        assert judge(look(url))["rights"].level == "problem"


def test_a_consumers_user_is_seen_to_be_one(server: Server) -> None:
    with user(server, "consumer", *CONSUMER_RIGHTS) as url:
        found = judge(look(url))
    assert found["rights"].level == "note"
    assert "may consume, not publish" in found["rights"].found
    assert found["bus clock"].level == "ok", "a member of a group goes by it"


def test_a_user_of_other_keys_may_nothing(server: Server) -> None:
    with user(server, "other", "~other:*", "+@all") as url:
        finding = judge(look(url))["rights"]
    assert finding.level == "problem"
    assert "permission" in finding.found.lower()


def test_a_user_who_may_nothing_at_all_is_told_politely(server: Server) -> None:
    with user(server, "nobody", "-@all") as url:
        facts = look(url)
    found = judge(facts)
    assert not facts.trouble
    assert {name: one.level for name, one in found.items()} == {
        "bus": "ok",  # HELLO is for everybody
        "memory": "note",
        "persistence": "note",
        "rights": "problem",
        "bus clock": "note",
    }


def test_rights_are_read_as_far_as_they_can_be_where_transactions_are_forbidden(
    server: Server,
) -> None:
    with user(server, "single", "~tv:*", "+@all", "-multi") as url:
        finding = judge(look(url))["rights"]
        assert (finding.level, "MULTI" in finding.found) == ("note", True)
    with user(server, "single", "~tv:*", "+@all", "-multi", "-xrange") as url:
        finding = judge(look(url))["rights"]
        assert (finding.level, "may not run XRANGE" in finding.found) == ("problem", True)


def test_nothing_is_changed(server: Server) -> None:
    with server.client() as client:
        client.flushall()
        client.hset(KEYS.publisher, mapping={"holder": "me", "token": 1})
        client.xadd(KEYS.events, {"event": "{}"})
        before = picture(client)
        judge(look(server.url))
        assert picture(client) == before


def picture(client: Any) -> Any:
    keys = {key: client.dump(key) for key in client.scan_iter()}
    settings = client.execute_command("CONFIG", "GET", "*")
    written = {
        name: stats["calls"]
        for name, stats in client.info("commandstats").items()
        if name.split("_", 1)[1].startswith(("x", "h", "evalsha", "script", "rpush", "pexpire"))
        and not name.startswith("cmdstat_hello")
    }
    return keys, settings, written, client.execute_command("ACL", "LIST")


def test_a_wrong_password_and_a_missing_one_are_told_apart_from_a_bus_that_is_away(
    tmp_path: Path,
) -> None:
    with redis_server(tmp_path) as locked, locked.client() as client:
        client.config_set("requirepass", "hush-hush")
        for url in (
            f"redis://127.0.0.1:{locked.port}",
            f"redis://:wrong-one@127.0.0.1:{locked.port}",
        ):
            finding = judge(look(url))["bus"]
            assert finding.level == "problem"
            assert "does not let us in" in finding.found
            assert "wrong-one" not in finding.found
            assert "USER:PASSWORD" in finding.advice
    away = judge(look(f"redis://127.0.0.1:{locked.port}"))["bus"]
    assert (away.level, "no bus at" in away.found) == ("problem", True)
    assert "wrong" not in away.found


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://x", "must begin with one of"),
        ("redis://127.0.0.1:1", "no bus at redis://127.0.0.1:1"),
        ("redis+cluster://127.0.0.1:1", "no Redis Cluster answers"),
        ("redis+sentinel://127.0.0.1:1/main", "no bus at"),
        ("unix:///nowhere/socket", "no bus at unix:///nowhere/socket"),
    ],
)
def test_an_address_that_leads_nowhere_is_one_finding(url: str, words: str) -> None:
    facts = look(url)
    [finding] = judge_bus(facts)
    assert finding.level == "problem"
    assert words in finding.found


def test_a_node_of_a_cluster_wants_another_address_and_the_cluster_is_fine(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--cluster-enabled", "yes") as server, server.client() as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        eventually(
            lambda: "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO")), "it is up"
        )
        finding = judge(look(server.url))["bus"]
        assert (finding.level, "node of a cluster" in finding.found) == ("problem", True)
        found = judge(look(f"redis+cluster://127.0.0.1:{server.port}"))
        assert found["bus"].level == found["rights"].level == "ok"


def test_a_replica_is_a_problem(tmp_path: Path, redis: Server) -> None:
    with redis_server(tmp_path, "--replicaof", f"127.0.0.1 {redis.port}") as replica:
        finding = judge(look(replica.url))["bus"]
    assert (finding.level, "is a replica" in finding.found) == ("problem", True)


def test_a_sentinel_is_no_bus(tmp_path: Path) -> None:
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("missing tool: redis-server")
    settings = tmp_path / "sentinel.conf"
    settings.touch()
    port = free_port()
    with subprocess.Popen(
        [binary, str(settings), "--sentinel", "--port", str(port)], stdout=subprocess.DEVNULL
    ) as sentinel:
        try:
            url = f"redis://127.0.0.1:{port}"
            eventually(lambda: not look(url).trouble, "it answers")
            finding = judge(look(url))["bus"]
        finally:
            sentinel.kill()
    assert (finding.level, "is a Sentinel" in finding.found) == ("problem", True)


def test_the_embedded_server_is_found_and_has_nothing_to_mend(tmp_path: Path) -> None:
    absent = look(None, tmp_path)
    assert absent.expected
    assert list(tmp_path.iterdir()) == [], "nothing is started or made"
    with EmbeddedServer.start(tmp_path):
        found = judge(look(None, tmp_path))
    assert {one.level for one in found.values()} == {"ok"}
    assert found["bus"].found.endswith("(embedded)")


def test_a_machine_without_an_embedded_server_needs_a_bus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Path:
        raise EmbeddedUnsupported("there is no embedded server here")

    monkeypatch.setattr(embedded, "_binary", missing)
    [finding] = judge_bus(look(None, tmp_path))
    assert (finding.level, finding.found) == ("problem", "there is no embedded server here")


def test_a_server_that_stops_answering_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WRITE_TIMEOUT_MS", 200)
    with valkey_server(tmp_path) as server:
        server.stop_cold()
        try:
            assert "no bus at" in look(server.url).trouble
        finally:
            server.go_on()
