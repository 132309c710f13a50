"""The record of sign-ins on disk and on the bus: shared, merged, and there after a crash."""

from __future__ import annotations

import multiprocessing
import os
import stat
import threading
from pathlib import Path

import pytest
import structlog
from publisher_servers import Server, free_port
from publisher_world import FakeClock

from bus.connection import connect_writer
from bus.locks import FileLock
from publisher.core.governor import Budget, Record
from publisher.errors import (
    AccountStopped,
    ChallengeRequired,
    PublisherError,
    SignInError,
    SignInThrottled,
)
from publisher.shell import governor as module
from publisher.shell.clock import SystemClock
from publisher.shell.governor import Forgiven, Governor, SharedRecord
from publisher.wire import Keys

BUDGET = Budget(2, 4)
KEY = Keys().signin
NOWHERE = "redis://127.0.0.1:1"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["valkey", "redis"])
def bus(request: pytest.FixtureRequest) -> Server:
    """A server of either kind, empty."""
    server: Server = request.getfixturevalue(request.param)
    with server.client() as client:
        client.flushall()
    return server


def governor(
    folder: Path, clock: FakeClock, url: str | None = None, budget: Budget = BUDGET
) -> Governor:
    shared = None if url is None else SharedRecord(lambda: connect_writer(url), KEY)
    return Governor(folder, shared, clock, budget)


def spend(one: Governor, times: int = 2) -> None:
    for _ in range(times):
        one.begin()


def test_the_budget_survives_restarts(tmp_path: Path, clock: FakeClock) -> None:
    for _ in range(2):
        governor(tmp_path, clock).begin()
    for _ in range(100):
        with pytest.raises(SignInThrottled):
            governor(tmp_path, clock).begin()
    with pytest.raises(SignInThrottled):
        governor(tmp_path, clock).check()
    clock.wall += 3_600_000
    governor(tmp_path, clock).begin()


def test_a_person_may_go_beyond_the_budget_and_it_counts(tmp_path: Path, clock: FakeClock) -> None:
    one = governor(tmp_path, clock)
    spend(one)
    one.begin(person=True)
    clock.wall += 3_600_000
    one.begin()
    with pytest.raises(SignInThrottled, match="4 a day"):
        one.begin()


def test_the_record_is_for_its_user_alone(tmp_path: Path, clock: FakeClock) -> None:
    governor(tmp_path, clock).begin()
    path = tmp_path / "signin" / "attempts"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_machines_share_the_budget_through_the_bus(
    tmp_path: Path, clock: FakeClock, bus: Server
) -> None:
    one = governor(tmp_path / "one", clock, bus.url)
    other = governor(tmp_path / "other", clock, bus.url)
    one.begin()
    other.begin()
    for each in (one, other, governor(tmp_path / "third", clock, bus.url)):
        with pytest.raises(SignInThrottled):
            each.begin()


def test_the_disk_counts_where_the_bus_forgot(
    tmp_path: Path, clock: FakeClock, bus: Server
) -> None:
    one = governor(tmp_path, clock, bus.url)
    spend(one)
    with bus.client() as client:
        client.flushall()
    with pytest.raises(SignInThrottled):
        one.begin()


def test_the_bus_counts_where_the_disk_is_new(
    tmp_path: Path, clock: FakeClock, bus: Server
) -> None:
    spend(governor(tmp_path / "one", clock, bus.url))
    with pytest.raises(SignInThrottled):
        governor(tmp_path / "other", clock, bus.url).check()


def test_a_bus_that_is_away_is_told_and_gone_without(tmp_path: Path, clock: FakeClock) -> None:
    one = governor(tmp_path, clock, NOWHERE)
    with structlog.testing.capture_logs() as logs:
        spend(one)
        with pytest.raises(SignInThrottled):
            one.begin()
    assert {(line["event"], line["place"]) for line in logs} == {("signin.unrecorded", "bus")}


def test_what_was_done_without_the_bus_reaches_it_later(
    tmp_path: Path, clock: FakeClock, bus: Server
) -> None:
    governor(tmp_path / "one", clock, NOWHERE).begin()
    governor(tmp_path / "one", clock, bus.url).begin()
    with pytest.raises(SignInThrottled):
        governor(tmp_path / "other", clock, bus.url).begin()


def test_a_key_that_holds_something_else_does_no_harm(
    tmp_path: Path, clock: FakeClock, bus: Server
) -> None:
    with bus.client() as client:
        client.rpush(KEY, "a list")
    spend(governor(tmp_path, clock, bus.url))
    with pytest.raises(SignInThrottled):
        governor(tmp_path, clock, bus.url).begin()


def test_a_text_that_is_no_record_is_replaced(
    tmp_path: Path, clock: FakeClock, bus: Server
) -> None:
    with bus.client() as client:
        client.set(KEY, "{damaged")
    spend(governor(tmp_path, clock, bus.url))
    with pytest.raises(SignInThrottled):
        governor(tmp_path / "other", clock, bus.url).begin()


def test_publishers_that_count_at_once_lose_nothing(
    tmp_path: Path, clock: FakeClock, bus: Server
) -> None:
    many = Budget(40, 40)
    threads = [
        threading.Thread(target=spend, args=(governor(tmp_path / f"{i}", clock, bus.url, many), 5))
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with bus.client() as client:
        record = Record.model_validate_json(client.get(KEY))  # type: ignore[arg-type]
    assert len(record.attempts) == 30


def _spend_alone(folder: Path) -> None:
    spend(Governor(folder, None, SystemClock(), Budget(64, 64)), 5)


def test_processes_of_a_machine_that_count_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_spend_alone, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    record = Record.model_validate_json((tmp_path / "signin" / "attempts").read_bytes())
    assert len(record.attempts) == 15


def test_a_lock_that_is_held_too_long_is_told_and_gone_without(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_MS_MAX", -1)
    one = governor(tmp_path, clock)
    one.begin()
    lock = FileLock(tmp_path / "signin" / "lock")
    assert lock.acquire()
    try:
        one.begin()
    finally:
        lock.release()
    with pytest.raises(SignInThrottled):
        one.check()


def test_a_lock_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Governor(tmp_path, None, SystemClock(), BUDGET)
    one.begin()
    lock = FileLock(tmp_path / "signin" / "lock")
    assert lock.acquire()
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 3:
            lock.release()

    monkeypatch.setattr(module.time, "sleep", sleep)
    one.begin()
    assert sleeps == [0.02, 0.02, 0.02]
    with pytest.raises(SignInThrottled):
        one.check()


def test_where_nothing_can_be_counted_no_sign_in_is_made(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "signin").write_text("a file in the way")
    with pytest.raises(SignInError, match="set TVBUS_STATE_DIR"):
        governor(tmp_path, clock, NOWHERE).begin()


def test_the_bus_alone_is_enough(tmp_path: Path, clock: FakeClock, bus: Server) -> None:
    (tmp_path / "signin").write_text("a file in the way")
    one = governor(tmp_path, clock, bus.url)
    spend(one)
    with pytest.raises(SignInThrottled):
        one.begin()


def test_a_damaged_record_lets_sign_ins_rest_for_an_hour(tmp_path: Path, clock: FakeClock) -> None:
    one = governor(tmp_path, clock)
    one.begin()
    path = tmp_path / "signin" / "attempts"
    path.write_bytes(b"{damaged")
    os.utime(path, (clock.wall / 1000, clock.wall / 1000))
    with pytest.raises(SignInThrottled, match="was damaged"):
        one.begin()
    clock.wall += 3_600_000
    one.begin()
    assert Record.model_validate_json(path.read_bytes()).attempts


def test_a_record_that_others_can_write_is_told_and_not_used(
    tmp_path: Path, clock: FakeClock
) -> None:
    one = governor(tmp_path, clock)
    one.begin()
    (tmp_path / "signin" / "attempts").chmod(0o666)
    with structlog.testing.capture_logs() as logs:
        one.check()
    assert "chmod 600" in logs[0]["reason"]


@pytest.mark.parametrize(
    ("kind", "error"),
    [("captcha", ChallengeRequired), ("lock", SignInThrottled), ("ban", AccountStopped)],
)
def test_what_tradingview_said_holds_everywhere_until_a_person_acts(
    tmp_path: Path, clock: FakeClock, bus: Server, kind: str, error: type[PublisherError]
) -> None:
    one = governor(tmp_path / "one", clock, bus.url)
    other = governor(tmp_path / "other", clock, bus.url)
    one.note(kind, "said")  # type: ignore[arg-type]
    for each in (one, other):
        with pytest.raises(error):
            each.begin()
    assert other.forgive() == Forgiven((kind,), ("bus", "disk"))
    for each in (one, other):
        each.begin()


def test_a_ban_stops_every_way(tmp_path: Path, clock: FakeClock) -> None:
    one = governor(tmp_path, clock)
    one.check_ban()
    assert one.stopped() is None
    one.stop("banned")
    assert governor(tmp_path, clock).stopped() == "banned"
    with pytest.raises(AccountStopped):
        governor(tmp_path, clock).check_ban()


def test_forgiving_tells_where_it_is_known(tmp_path: Path, clock: FakeClock) -> None:
    one = governor(tmp_path, clock, NOWHERE)
    one.stop("banned")
    assert one.forgive() == Forgiven(("ban",), ("disk",))
    assert one.forgive() == Forgiven((), ("disk",))


def test_a_step_is_claimed_once(tmp_path: Path, clock: FakeClock, bus: Server) -> None:
    one = governor(tmp_path / "one", clock, bus.url)
    other = governor(tmp_path / "other", clock, bus.url)
    now_ms = 1_000 * 30_000
    assert one.next_step(now_ms) == (1_000, 0)
    assert one.claim_step(now_ms) == (1_000, 0)
    assert other.next_step(now_ms) == (1_001, 30_000)
    assert other.claim_step(now_ms) == (1_001, 30_000)
    assert one.claim_step(now_ms + 1) == (1_002, 59_999)


def test_a_step_can_be_claimed_where_nothing_can_be_written(
    tmp_path: Path, clock: FakeClock
) -> None:
    (tmp_path / "signin").write_text("a file in the way")
    assert governor(tmp_path, clock).claim_step(1_000 * 30_000) == (1_000, 0)


def test_a_bus_that_others_write_all_the_time_is_gone_without(
    tmp_path: Path, clock: FakeClock, bus: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = SharedRecord(lambda: connect_writer(bus.url), KEY)
    monkeypatch.setattr(shared, "read", lambda: (Record(), b"never there"))
    one = Governor(tmp_path, shared, clock, BUDGET)
    spend(one)
    with pytest.raises(SignInThrottled):
        one.begin()


def test_a_bus_that_cannot_be_reached_at_all_is_gone_without(
    tmp_path: Path, clock: FakeClock
) -> None:
    spend(governor(tmp_path, clock, f"redis+cluster://127.0.0.1:{free_port()}"))
