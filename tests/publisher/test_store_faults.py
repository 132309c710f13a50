"""What real servers do to the store on a bad day."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from publisher_servers import Server, free_port, limited, redis_server
from publisher_world import BTC, ETH
from test_store_contract import KEYS, TOKEN, chain, make, stored

from bus.connection import connect_writer
from publisher.errors import AppendUnknown, StoreError, StoreRefused, StoreUnavailable
from publisher.ports import Appended
from publisher.shell.lease import RedisLease
from tests.waiting import eventually as wait_for


class Cutter:
    """A way to a server that cuts the connection once a command's reply comes back."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.armed = threading.Event()
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while data := client.recv(65536):
                    server.sendall(data)
                server.shutdown(socket.SHUT_RDWR)
            back.join(5)

    def _pump(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if self.armed.is_set():
                    self.armed.clear()
                    self.cuts += 1
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def cutter(valkey: Server) -> Iterator[Cutter]:
    with valkey.client() as client:
        client.flushall()
    proxy = Cutter(valkey.port)
    yield proxy
    proxy.close()


def test_an_append_whose_reply_is_lost_is_unknown_and_sent_again_stands_once(
    valkey: Server, cutter: Cutter
) -> None:
    with connect_writer(f"redis://127.0.0.1:{cutter.port}") as through, valkey.client() as client:
        store = make(through)
        store.append(TOKEN, [chain(1, 2)])
        cutter.armed.set()
        with pytest.raises(AppendUnknown, match="no reply"):
            store.append(TOKEN, [chain(3, 4, 2)])
        assert cutter.cuts == 1
        assert len(stored(client)) == 4
        assert store.append(TOKEN, [chain(3, 5, 2)]) == [Appended(1, 2)]
        assert tuple(stored(client)) == chain(1, 5).bars


def test_a_server_that_does_not_answer_leaves_the_outcome_unknown(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.connection.WRITE_TIMEOUT_MS", 200)
    with valkey.client() as client:
        client.flushall()
        store = make(client)
        store.append(TOKEN, [chain(1, 2)])
        valkey.stop_cold()
        try:
            with pytest.raises(AppendUnknown):
                store.append(TOKEN, [chain(3, 3, 2)])
        finally:
            valkey.go_on()
        [outcome] = store.append(TOKEN, [chain(3, 3, 2)])
        assert isinstance(outcome, Appended)
        assert len(stored(client)) == 3


def test_a_server_that_is_not_there_took_nothing() -> None:
    with connect_writer(f"redis://127.0.0.1:{free_port()}") as client:
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            make(client).append(TOKEN, [chain(1, 1)])
        with pytest.raises(StoreUnavailable):
            make(client).ping()
        with pytest.raises(StoreUnavailable):
            RedisLease(client, KEYS, "one").acquire()


def test_a_replica_takes_nothing_and_says_so(redis: Server, tmp_path: Path) -> None:
    with redis.client() as master:
        master.config_set("repl-diskless-sync-delay", "0")
        master.flushall()  # another test's lease would be an answer that writes nothing
    with redis_server(tmp_path, "--replicaof", "127.0.0.1", str(redis.port)) as replica:
        client = replica.client()
        wait_for(lambda: client.info("replication")["master_link_status"] == "up")  # type: ignore[index]
        store = make(client)
        [outcome] = store.append(TOKEN, [chain(1, 1)])
        assert_unavailable(outcome, "read only")
        with pytest.raises(StoreUnavailable):
            RedisLease(client, KEYS, "one").acquire()
        with pytest.raises(StoreUnavailable):
            store.emit([b"{}"])
        client.close()


def test_a_full_memory_takes_nothing_and_goes_on_once_there_is_room(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, server.client() as client:
        store = make(client)
        store.append(TOKEN, [chain(1, 2)])
        client.config_set("maxmemory", "1mb")
        [outcome] = store.append(TOKEN, [chain(3, 4, 2)])
        assert_unavailable(outcome, "memory")
        with pytest.raises(StoreUnavailable):
            store.describe(TOKEN, BTC, {"state": "live"})
        client.config_set("maxmemory", "0")
        assert store.append(TOKEN, [chain(3, 4, 2)]) == [Appended(2, 0)]
        assert tuple(stored(client)) == chain(1, 4).bars


def test_a_full_disk_takes_nothing_and_says_so(tmp_path: Path) -> None:
    options = ("--appendonly", "yes", "--appendfsync", "everysec", "--loglevel", "warning")
    with (
        redis_server(tmp_path, *options, prefix=limited(40)) as server,
        server.client() as client,
    ):
        store = make(client)
        outcomes: list[Any] = []
        first = 0

        def disk_is_full() -> bool:
            nonlocal first
            outcome = store.append(TOKEN, [chain(first, first, first - 1 if first else None)])[0]
            outcomes.append(outcome)
            first += isinstance(outcome, Appended)
            return not isinstance(outcome, Appended)

        wait_for(disk_is_full, "the disk is full")
        assert_unavailable(outcomes[-1], "MISCONF")
        assert len(stored(client)) == first


def test_a_server_that_loads_its_data_is_waited_for(tmp_path: Path) -> None:
    options = ("--appendonly", "yes", "--appendfsync", "no")
    with redis_server(tmp_path, *options) as server:
        with server.client() as client:
            make(client).append(TOKEN, [chain(1, 3)])
            for _ in range(20):
                client.rpush("ballast", *["x" * 100] * 1_000)
        server.kill()
        slow = ("--key-load-delay", "300", "--loading-process-events-interval-bytes", "1024")
        waiter = threading.Thread(target=server.start, args=(*options, *slow))
        waiter.start()
        errors: list[StoreError] = []

        def loaded() -> bool:
            with server.client() as client:
                try:
                    return make(client).append(TOKEN, [chain(4, 4, 3)]) == [Appended(1, 0)]
                except StoreError as error:
                    errors.append(error)
                    return False

        wait_for(loaded, "the data is loaded")
        waiter.join()
        assert all(error.retryable for error in errors)
        with server.client() as client:
            assert tuple(stored(client)) == chain(1, 4).bars


def test_a_user_without_permission_is_told_to_look_at_the_acl(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "bob", "on", ">pw", "~other:*", "+@all")
        with connect_writer(f"redis://bob:pw@127.0.0.1:{server.port}") as bob:
            [outcome] = make(bob).append(TOKEN, [chain(1, 1)])
            assert_unavailable(outcome, "ermission")
            with pytest.raises(StoreUnavailable, match="check user and ACL"):
                make(bob).stream_end(BTC)
        with connect_writer(f"redis://bob:wrong@127.0.0.1:{server.port}") as bob:
            with pytest.raises(StoreUnavailable, match="check user and ACL") as caught:
                make(bob).ping()
            assert "wrong" not in str(caught.value).replace("WRONGPASS", "")


def test_a_cluster_takes_bars_like_a_single_server(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--cluster-enabled", "yes") as server, server.client() as plain:
        plain.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_for(lambda: b"cluster_state:ok" in _raw_info(plain), "the cluster is ready")
        client = connect_writer(f"redis+cluster://127.0.0.1:{server.port}")
        store = make(client)
        lease = RedisLease(client, KEYS, "one")
        token = lease.acquire()
        assert token is not None
        batches = [chain(1, 3), chain(1, 2, series=ETH)]
        assert store.append(token, batches) == [Appended(3, 0), Appended(2, 0)]
        assert store.put_forming(token, [chain(4, 4, 3).bars[0]]) == [None]
        store.describe(token, BTC, {"state": "live"})
        store.emit([b"{}"])
        client.script_flush()
        assert store.append(token, [chain(4, 4, 3)]) == [Appended(1, 0)]
        client.set(KEYS.bars(BTC) + "x", "y")
        client.delete(KEYS.forming(BTC))
        client.set(KEYS.forming(BTC), "precious")
        [outcome] = store.put_forming(token, [chain(5, 5, 4).bars[0]])
        assert isinstance(outcome, StoreRefused)
        assert store.stream_end(BTC).watermark_ms == chain(4, 4).bars[0].open_time_ms
        assert len(stored(client)) == 4
        server.kill()
        with pytest.raises(StoreError) as caught:
            store.append(token, [chain(5, 5, 4)])
        assert caught.value.retryable
        client.close()


def _raw_info(client: Any) -> bytes:
    text = client.execute_command("CLUSTER", "INFO")
    return text if isinstance(text, bytes) else str(text).replace("': '", ":").encode()


def assert_unavailable(outcome: object, words: str) -> None:
    assert isinstance(outcome, StoreUnavailable)
    assert outcome.retryable
    assert words in str(outcome)
