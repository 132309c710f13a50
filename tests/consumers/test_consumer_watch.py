"""Waiting for news of many streams: woken at once, by what was asked for, changing nothing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from consumer_world import Market, Server

from bus.connection import BLOCK_MS_MAX, Client, connect_reader
from consumers.core.ids import ZERO, EntryId
from consumers.errors import Fenced, GroupUnavailable
from consumers.shell import watch as module
from consumers.shell.group import Group, Leaving, Served, Serving, TakenOver
from consumers.shell.membership import Membership, look_at_sharing
from consumers.shell.watch import Watch
from publisher.wire import Keys
from tests.bus.clusters import cluster_of, command, direct
from tests.waiting import eventually

LONG_MS = 30_000
"""Nobody waits so long: whoever returns was woken."""


@pytest.fixture
def watch(market: Market) -> Iterator[Watch]:
    client = connect_reader(market.url)
    made = Watch(client)
    yield made
    made.close()
    client.close()


@pytest.fixture
def bell() -> Iterator[tuple[socket.socket, socket.socket]]:
    ring, heard = socket.socketpair()
    with ring, heard:
        yield ring, heard


def blocked(client: Client) -> int:
    """How many commands wait in the server."""
    return int(client.info("clients")["blocked_clients"])


def later(market: Market, what: Callable[[], object]) -> threading.Thread:
    """Do it once a command waits in the server."""

    def body() -> None:
        eventually(lambda: blocked(market.client))
        what()

    thread = threading.Thread(target=body)
    thread.start()
    return thread


def test_streams_that_have_something_already_are_told_at_once(watch: Watch, market: Market) -> None:
    for key, last in (("a", 3), ("b", 5), ("c", 5)):
        market.client.xadd(key, {"n": 1}, id=f"{last}-0")
    after = {"a": EntryId(3), "b": EntryId(4), "c": ZERO, "nowhere": ZERO}
    assert watch.wait(after, LONG_MS, None) == {"b", "c"}
    assert watch.wait(after, 0, None) in ({"b", "c"}, set())


def test_a_new_entry_ends_the_wait(watch: Watch, market: Market) -> None:
    thread = later(market, lambda: market.client.xadd("b", {"n": 1}, id="1-0"))
    assert watch.wait({"a": ZERO, "b": ZERO}, LONG_MS, None) == {"b"}
    thread.join()


def test_without_news_the_wait_ends_in_time(watch: Watch) -> None:
    begun_s = time.monotonic()
    assert watch.wait({"a": ZERO}, 60, None) == set()
    assert watch.wait({}, 60, None) == set()
    assert 0.12 <= time.monotonic() - begun_s < 3


def test_a_ring_ends_the_wait_while_the_command_goes_on(
    watch: Watch, market: Market, bell: tuple[socket.socket, socket.socket]
) -> None:
    ring, heard = bell
    thread = later(market, lambda: ring.send(b"x"))
    assert watch.wait({"a": ZERO}, LONG_MS, heard.fileno()) == set()
    thread.join()
    assert heard.recv(9) == b"x"
    calls = market.client.info("commandstats")["cmdstat_xread"]["calls"]
    assert watch.wait({"a": ZERO}, 0, heard.fileno()) == set()
    thread = later(market, lambda: market.client.xadd("a", {"n": 1}, id="1-0"))
    assert watch.wait({"a": ZERO}, LONG_MS, heard.fileno()) == {"a"}
    thread.join()
    assert market.client.info("commandstats")["cmdstat_xread"]["calls"] - calls in {0, 1}


def test_news_that_were_read_meanwhile_are_no_news(watch: Watch, market: Market) -> None:
    assert watch.wait({"a": ZERO}, 0, None) == set()
    connections = market.client.info("stats")["total_connections_received"]
    market.client.xadd("a", {"n": 1}, id="1-0")
    thread = later(market, lambda: market.client.xadd("a", {"n": 1}, id="2-0"))
    assert watch.wait({"a": EntryId(1)}, LONG_MS, None) == {"a"}
    thread.join()
    assert watch.wait({"a": EntryId(2)}, 20, None) == set()
    assert market.client.info("stats")["total_connections_received"] == connections


def test_the_streams_waited_for_may_change(
    watch: Watch, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_MS_MAX", 2 * LONG_MS)
    assert watch.wait({"a": EntryId(5)}, 0, None) == set()
    thread = later(market, lambda: market.client.xadd("b", {"n": 1}, id="1-0"))
    assert watch.wait({"a": EntryId(5), "b": ZERO}, LONG_MS, None) == {"b"}
    thread.join()
    market.client.xadd("a", {"n": 1}, id="3-0")
    assert watch.wait({"a": EntryId(5)}, 0, None) == set()
    assert watch.wait({"a": EntryId(2)}, LONG_MS, None) == {"a"}, "it began anew"
    market.client.xadd("b", {"n": 1}, id="2-0")
    assert watch.wait({"a": EntryId(3)}, 20, None) == set(), "nobody asks for the other one"
    assert watch.wait({}, 0, None) == set()
    eventually(lambda: blocked(market.client) == 0, "nothing waits in the server")


def test_a_command_that_ended_in_the_server_is_sent_again(
    watch: Watch, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_MS_MAX", 20)
    before = market.client.info("commandstats").get("cmdstat_xread", {"calls": 0})["calls"]

    def repeated() -> bool:
        return market.client.info("commandstats")["cmdstat_xread"]["calls"] >= before + 3

    def body() -> None:
        eventually(repeated)
        market.client.xadd("a", {"n": 1}, id="1-0")

    thread = threading.Thread(target=body)
    thread.start()
    assert watch.wait({"a": ZERO}, LONG_MS, None) == {"a"}
    thread.join()


def test_a_server_that_says_nothing_any_more_is_told(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_OVERDUE_S", 0.1)
    with pytest.raises(GroupUnavailable, match="does not answer"):
        watch.wait({"a": ZERO}, LONG_MS, None)
    assert BLOCK_MS_MAX > 100


def test_a_server_that_goes_away_is_told_and_found_again(own_server: Server) -> None:
    client = connect_reader(own_server.url)
    watch = Watch(client)
    with own_server.client() as plain:
        thread = threading.Thread(
            target=lambda: (eventually(lambda: blocked(plain)), own_server.kill())
        )
        thread.start()
        with pytest.raises(GroupUnavailable):
            watch.wait({"a": ZERO}, LONG_MS, None)
        thread.join()
        with pytest.raises(GroupUnavailable):
            watch.wait({"a": ZERO}, LONG_MS, None)
        own_server.start()
        plain.xadd("a", {"n": 1})
        assert watch.wait({"a": ZERO}, LONG_MS, None) == {"a"}
    watch.close()
    client.close()


def test_a_key_that_is_no_stream_is_left_to_who_reads_it(watch: Watch, market: Market) -> None:
    market.client.set("a", "x")
    assert watch.wait({"a": ZERO, "b": ZERO}, LONG_MS, None) == {"a", "b"}


def test_a_read_that_is_not_allowed_is_told(market: Market) -> None:
    market.client.acl_setuser("nobody", enabled=True, nopass=True, commands=["+@connection"])
    client = connect_reader(market.url.replace("unix://", "unix://nobody:x@"))
    watch = Watch(client)
    with pytest.raises(GroupUnavailable, match="permission"):
        watch.wait({"a": ZERO}, LONG_MS, None)
    client.close()
    market.client.acl_deluser("nobody")


@pytest.fixture
def cluster(shared_server: Server, tmp_path: Path) -> Iterator[list[int]]:
    with cluster_of(shared_server.binary, tmp_path, 2) as ports:
        yield ports


def test_a_cluster_serves_series_of_every_slot(cluster: list[int]) -> None:
    client = connect_reader(f"redis+cluster://127.0.0.1:{cluster[0]}")
    keys, names = Keys(), [f"S{number**9}-X-1m" for number in range(8)]
    streams = {name: f"tv:bars:{{{name}}}" for name in names}
    assert len({client.get_node_from_key(x).port for x in streams.values()}) == 2  # type: ignore[attr-defined]
    members = {x: Membership(client, keys, "g", x) for x in "ab"}
    groups = {x: Group(client, keys, "g", x) for x in "ab"}
    leases = members["a"].beat(names, {}, 0).leases
    assert look_at_sharing(client, keys, "g").leases.keys() == set(names)
    one, heir = groups["a"], groups["b"]
    assert one.look(list(streams.values())) == [None] * len(names)
    assert set(one.create(dict.fromkeys(streams.values(), ZERO)).values()) == {True}
    taken = one.take_over({streams[name]: token for name, token in leases.items()})
    assert all(isinstance(x, TakenOver) for x in taken.values())

    after = dict.fromkeys(streams.values(), ZERO)
    assert one.wait(after, 20) == set()
    for name in (names[0], names[5]):
        client.xadd(streams[name], {"n": 1}, id="1-0")
        assert one.wait(after, LONG_MS) == {streams[name]}
        after[streams[name]] = EntryId(1)
    calls = [Serving(streams[name], token, count=5) for name, token in leases.items()]
    served = one.serve(calls)
    assert sum(len(x.entries) for x in served if isinstance(x, Served)) == 2
    assert one.serve(calls) == [Served([])] * len(names)

    one.save_checkpoints({names[0]: ZERO}, leases)
    assert one.checkpoints(names) == {names[0]: ZERO}
    assert one.hand_over([Leaving(streams[x], leases[x]) for x in names]) == [None] * len(names)
    members["a"].leave()
    new = members["b"].beat(names, {}, 0).leases
    moved = heir.take_over({streams[name]: token for name, token in new.items()})
    counts = [x.entries for x in moved.values() if isinstance(x, TakenOver)]
    assert sorted(counts) == [0] * 6 + [1] * 2
    assert {type(x) for x in one.serve(calls)} == {Fenced}
    one.close()
    client.close()


def test_a_slot_that_moves_to_another_node_is_followed(cluster: list[int]) -> None:
    client = connect_reader(f"redis+cluster://127.0.0.1:{cluster[0]}")
    key = "tv:bars:{BTCUSDT-BINANCE-1m}"
    slot = client.keyslot(key)  # type: ignore[attr-defined]
    nodes = [direct(port) for port in cluster]
    old = client.get_node_from_key(key).port  # type: ignore[attr-defined]
    new = nodes[1 - cluster.index(old)]
    watch = Watch(client)

    def move() -> None:
        eventually(lambda: sum(map(blocked, nodes)))
        name = command(new, "CLUSTER MYID").decode()
        for node in (new, nodes[cluster.index(old)]):
            command(node, f"CLUSTER SETSLOT {slot} NODE {name}")

    thread = threading.Thread(target=move)
    thread.start()
    assert watch.wait({key: ZERO}, LONG_MS, None) == {key}, "look there"
    thread.join()
    assert client.xlen(key) == 0
    client.xadd(key, {"n": 1}, id="1-0")
    assert watch.wait({key: ZERO}, LONG_MS, None) == {key}
    assert new.xlen(key) == 1
    watch.close()
    client.close()
