"""What `tvbus doctor` thinks of what it saw; nothing is asked here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumers.shell.publisher import LeaseReport, SessionReport
from publisher.core.tokens import Claims
from tvbus.doctor.facts import (
    AccountFacts,
    BusFacts,
    FolderFacts,
    HealthFacts,
    NodeFacts,
    PageFacts,
    SettingsFacts,
    StoredFacts,
)
from tvbus.doctor.finding import Finding, size, span
from tvbus.doctor.judge_account import judge_account
from tvbus.doctor.judge_bus import judge_bus
from tvbus.doctor.judge_machine import judge_folder, judge_health, judge_settings
from tvbus.doctor.judge_publisher import judge_publisher
from tvbus.doctor.judge_web import judge_page, judge_socket
from tvbus.doctor.look_web import drift_ms

GIB = 1024**3


def told(findings: Any) -> list[tuple[str, str]]:
    """Level and check of each finding; every advice belongs to something wrong."""
    listed = list(findings)
    for finding in listed:
        assert finding.found
        assert not (finding.level == "ok" and finding.advice)
    return [(finding.level, finding.check) for finding in listed]


def only(findings: Any) -> Finding:
    [finding] = findings
    return finding


# Settings.

SETTINGS = SettingsFacts(
    invalid="",
    file=None,
    file_mode=0o644,
    in_file=frozenset(),
    tables=frozenset(),
    in_environment=frozenset(),
    known=frozenset({"redis_url", "prefix", "series", "password", "auth_token", "listen"}),
    secrets=frozenset({"redis_url", "password", "auth_token"}),
)
FILE = replace(SETTINGS, file=Path("/x/tvbus.toml"))


def settings(**changes: Any) -> list[Finding]:
    sets = {k: frozenset(v) if isinstance(v, set) else v for k, v in changes.items()}
    return list(judge_settings(replace(FILE, **sets)))


def test_settings_say_where_they_come_from() -> None:
    assert only(judge_settings(SETTINGS)).found == "read from the environment"
    assert "/x/tvbus.toml" in only(judge_settings(FILE)).found


def test_settings_that_cannot_be_used_are_a_problem() -> None:
    finding = only(settings(invalid="TVBUS_PREFIX: must not be empty"))
    assert (finding.level, finding.found) == ("problem", "TVBUS_PREFIX: must not be empty")


@pytest.mark.parametrize(
    ("change", "found", "advice"),
    [
        ({"in_file": {"redis_ulr"}}, "'redis_ulr' is no setting", "did you mean redis_url?"),
        ({"in_file": {"TVBUS_PREFIX"}}, "'TVBUS_PREFIX' is no", "did you mean prefix?"),
        ({"in_file": {"Series"}}, "'Series' is no setting", "did you mean series?"),
        ({"in_file": {"zzzz"}}, "'zzzz' is no setting", "it is ignored"),
        ({"in_file": {"tvbus"}, "tables": {"tvbus"}}, "'tvbus' is no", "under no table"),
        ({"in_environment": {"serie"}}, "TVBUS_SERIE is no", "did you mean TVBUS_SERIES?"),
        ({"in_environment": {"qqqq"}}, "TVBUS_QQQQ is no setting", "it is ignored"),
        ({"in_environment": {"prefix_file"}}, "TVBUS_PREFIX_FILE is no", "TVBUS_PREFIX?"),
    ],
)
def test_an_unknown_setting_is_noted_with_the_nearest_name(
    change: dict[str, Any], found: str, advice: str
) -> None:
    _, finding = settings(**change)
    assert finding.level == "note"
    assert found in finding.found
    assert advice in finding.advice


def test_known_settings_and_files_of_secrets_are_not_noted() -> None:
    names = {"redis_url", "prefix", "password_file", "auth_token_file"}
    assert len(settings(in_environment=names, in_file={"series"})) == 1


@pytest.mark.parametrize(
    ("in_file", "in_environment", "found", "winner"),
    [
        ({"prefix"}, {"prefix"}, "prefix is set in tvbus.toml and in TVBUS_PREFIX", "tvbus.toml"),
        (set(), {"password", "password_file"}, "TVBUS_PASSWORD and in", "TVBUS_PASSWORD wins"),
        ({"password"}, {"password_file"}, "and in TVBUS_PASSWORD_FILE", "tvbus.toml wins"),
        (
            {"password"},
            {"password", "password_file"},
            "in TVBUS_PASSWORD and TVBUS_PASSWORD_FILE",
            "tvbus.toml wins",
        ),
    ],
)
def test_what_is_set_twice_is_noted_with_the_winner(
    in_file: set[str], in_environment: set[str], found: str, winner: str
) -> None:
    finding = settings(in_file=in_file, in_environment=in_environment, file_mode=0o600)[1]
    assert finding.level == "note"
    assert found in finding.found
    assert winner in finding.advice


def test_a_file_of_secrets_that_others_can_read_is_a_problem() -> None:
    finding = settings(in_file={"password", "series"}, file_mode=0o640)[1]
    assert (finding.level, finding.advice) == ("problem", "chmod 600 /x/tvbus.toml")
    assert "can read password in" in finding.found
    assert len(settings(in_file={"password"}, file_mode=0o600)) == 1
    assert len(settings(in_file={"series"}, file_mode=0o644)) == 1


# The state directory and the health page.

FOLDER = FolderFacts(
    Path("/state"), exists=True, is_folder=True, mode=0o700, writable=True, free_bytes=9 * GIB
)


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({}, "ok", "/state"),
        ({"exists": False, "is_folder": False, "mode": 0}, "ok", "made when it is needed"),
        ({"is_folder": False}, "problem", "is not a directory"),
        ({"writable": False}, "problem", "cannot be written by this user"),
        ({"exists": False, "is_folder": False, "writable": False}, "problem", "cannot be made"),
        ({"mode": 0o720}, "problem", "others on this machine can write to /state (mode 720)"),
        ({"mode": 0o755}, "note", "others can look into /state (mode 755)"),
    ],
)
def test_the_state_directory_is_judged_by_who_can_use_it(
    change: dict[str, Any], level: str, words: str
) -> None:
    finding = only(judge_folder(replace(FOLDER, **change)))
    assert finding.level == level
    assert words in finding.found


@pytest.mark.parametrize(
    ("free_bytes", "level"),
    [(None, ""), (GIB, ""), (GIB - 1, "note"), (100 * 1024**2 - 1, "problem")],
)
def test_little_space_is_told(free_bytes: int | None, level: str) -> None:
    levels = [one.level for one in judge_folder(replace(FOLDER, free_bytes=free_bytes))]
    assert levels == ["ok", level] if level else ["ok"]


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({"taken": False}, "ok", "h:1 is free"),
        ({}, "ok", "h:1 says publishing and well"),
        ({"status": 503, "troubles": ("the engine is stuck",)}, "problem", "the engine is stuck"),
        ({"status": None, "state": ""}, "problem", "another program listens"),
        ({"state": ""}, "problem", "another program listens"),
    ],
)
def test_the_health_page_is_free_well_unwell_or_anothers(
    change: dict[str, Any], level: str, words: str
) -> None:
    facts = HealthFacts("h:1", taken=True, status=200, state="publishing", troubles=())
    finding = only(judge_health(replace(facts, **change)))
    assert finding.level == level
    assert words in finding.found


# The bus.

INFO: dict[str, Any] = {
    "redis_version": "7.2.4",
    "redis_mode": "standalone",
    "role": "master",
    "used_memory": 1024,
    "maxmemory": 0,
    "maxmemory_policy": "noeviction",
    "total_system_memory": 8 * GIB,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "aof_last_bgrewrite_status": "ok",
    "rdb_last_bgsave_status": "ok",
}
NODE = NodeFacts(
    "n:1",
    hello={"server": "redis", "version": "7.2.4", "mode": "standalone", "role": "master"},
    info=INFO,
    snapshots="3600 1",
    ahead_ms=3.0,
    round_trip_ms=10.0,
    not_publishing={},
    not_consuming={},
)
CHECKS = ["bus", "memory", "persistence", "rights", "bus clock"]


def bus(*nodes: NodeFacts, **changes: Any) -> dict[str, Finding]:
    """Judge a bus of these nodes; findings by check, in order."""
    facts = BusFacts("redis://n:1", embedded=False, nodes=nodes or (NODE,))
    findings = list(judge_bus(replace(facts, **changes)))
    told(findings)
    return {finding.check: finding for finding in findings}


def node(hello: dict[str, str] | None = None, **info: Any) -> NodeFacts:
    return replace(NODE, hello=NODE.hello if hello is None else hello, info={**INFO, **info})


def test_a_good_bus_has_nothing_to_mend() -> None:
    found = bus()
    assert [(name, one.level) for name, one in found.items()] == [(name, "ok") for name in CHECKS]
    assert found["bus"].found == "Redis 7.2.4 at redis://n:1"
    assert found["bus clock"].found == "agrees with this machine's to 10 ms"
    assert bus(embedded=True)["bus"].found.endswith("(embedded)")


@pytest.mark.parametrize(("expected", "level"), [(True, "note"), (False, "problem")])
def test_a_bus_that_is_not_there_is_the_only_line(expected: bool, level: str) -> None:
    facts = BusFacts("", embedded=True, trouble="no bus", advice="start it", expected=expected)
    assert only(judge_bus(facts)) == Finding("bus", level, "no bus", "start it")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("info", "level", "words"),
    [
        ({"redis_version": "6.2.0"}, "ok", "Redis 6.2.0"),
        ({"redis_version": "6.0.16"}, "problem", "Redis 6.0.16"),
        ({"redis_version": "5"}, "problem", "Redis 5"),
        ({"redis_version": 6.2}, "ok", "Redis 6.2"),
        ({"valkey_version": "9.1.0", "server_name": "valkey"}, "ok", "Valkey 9.1.0"),
        ({"server_name": "keydb", "redis_version": "6.3.4"}, "ok", "Keydb 6.3.4"),
        ({"dragonfly_version": "df-v1.30.0"}, "ok", "Dragonfly df-v1.30.0"),
        ({"redis_version": "unstable"}, "note", "Redis unstable"),
        ({"redis_mode": "sentinel"}, "problem", "is a Sentinel, no bus"),
        ({"redis_mode": "cluster"}, "problem", "is a node of a cluster"),
        ({"role": "slave"}, "problem", "is a replica"),
        ({"loading": 1}, "note", "is loading its data"),
    ],
)
def test_the_server_is_judged_by_kind_and_version(
    info: dict[str, Any], level: str, words: str
) -> None:
    finding = bus(node(**info))["bus"]
    assert finding.level == level
    assert words in finding.found


def test_a_cluster_named_as_one_is_fine_and_the_worst_node_is_told() -> None:
    fine = node(redis_mode="cluster")
    poor = replace(fine, name="n:2", info={**INFO, "redis_mode": "cluster", "aof_enabled": 0})
    found = bus(fine, replace(poor, snapshots=""), clustered=True)
    assert found["bus"].found.startswith("all 2 primaries: Redis")
    assert found["persistence"].level == "problem"
    assert found["persistence"].found.startswith("n:2: nothing is kept")


def test_what_may_not_be_asked_is_noted_politely() -> None:
    found = bus(
        replace(
            NODE,
            info=None,
            snapshots=None,
            ahead_ms=None,
            not_publishing=None,
            not_consuming=None,
        )
    )
    assert [one.level for one in found.values()] == ["ok", "note", "note", "note", "note"]
    assert found["bus"].found == "Redis 7.2.4 at redis://n:1"
    assert "INFO" in found["memory"].found
    silent = bus(replace(NODE, info=None, hello={}))["bus"]
    assert (silent.level, silent.found) == ("note", "Redis of unknown version at redis://n:1")


@pytest.mark.parametrize(
    ("info", "level", "words"),
    [
        ({}, "ok", "1.0 KiB used of 8.0 GiB the machine has, no limit set"),
        ({"maxmemory_policy": "allkeys-lru"}, "ok", "no limit set"),
        ({"maxmemory": GIB}, "ok", "1.0 KiB used of 1.0 GiB, noeviction"),
        (
            {"maxmemory": GIB, "maxmemory_policy": "allkeys-lru"},
            "problem",
            "at 1.0 GiB allkeys-lru throws whole streams away",
        ),
        ({"maxmemory": GIB, "maxmemory_policy": "volatile-ttl"}, "note", "so they stay"),
        ({"maxmemory": 1000, "used_memory": 750}, "ok", "750 bytes used"),
        ({"maxmemory": 1000, "used_memory": 751}, "note", "751 bytes used"),
        ({"maxmemory": 1000, "used_memory": 901}, "problem", "nearly full"),
        ({"total_system_memory": 1000, "used_memory": 901}, "problem", "nearly full"),
        ({"total_system_memory": None, "used_memory": 901}, "ok", "901 bytes used, no limit"),
    ],
)
def test_memory_is_judged_by_policy_and_room(info: dict[str, Any], level: str, words: str) -> None:
    finding = bus(node(**info))["memory"]
    assert finding.level == level
    assert words in finding.found


@pytest.mark.parametrize(
    ("info", "snapshots", "level", "words"),
    [
        ({}, "", "ok", "append-only file"),
        ({"aof_last_write_status": "err"}, "", "problem", "cannot be written"),
        ({"aof_last_bgrewrite_status": "err"}, "", "note", "could not be made smaller"),
        ({"aof_enabled": 0}, "", "problem", "nothing is kept"),
        ({"aof_enabled": 0}, None, "note", "may not be asked"),
        (
            {"aof_enabled": 0, "rdb_changes_since_last_save": 42},
            "3600 1",
            "note",
            "a crash would lose the last 42 changes",
        ),
        ({"aof_enabled": 0, "rdb_last_bgsave_status": "err"}, "3600 1", "problem", "failed"),
    ],
)
def test_persistence_is_judged_by_what_a_restart_loses(
    info: dict[str, Any], snapshots: str | None, level: str, words: str
) -> None:
    finding = bus(replace(node(**info), snapshots=snapshots))["persistence"]
    assert finding.level == level
    assert words in finding.found


PUBLISHER_ONLY = ("XTRIM", "RPUSH", "PEXPIRE")
CONSUMER_ONLY = ("XREADGROUP", "XGROUP CREATE", "XACK", "XCLAIM", "XAUTOCLAIM")


@pytest.mark.parametrize(
    ("not_publishing", "not_consuming", "level", "words"),
    [
        ((), (), "ok", "may publish and consume"),
        ((), CONSUMER_ONLY, "note", "may publish, not consume: no XACK"),
        (PUBLISHER_ONLY, (), "note", "may consume, not publish: no PEXPIRE"),
        (("RPUSH",), (), "problem", "may not run RPUSH: no way"),
        ((), ("XACK",), "problem", "may not run XACK: no way"),
        (PUBLISHER_ONLY, CONSUMER_ONLY, "problem", "and 2 more: no way"),
        (PUBLISHER_ONLY, ("XACK",), "problem", "may not run"),
    ],
)
def test_rights_are_judged_by_what_the_user_seems_to_be_for(
    not_publishing: tuple[str, ...], not_consuming: tuple[str, ...], level: str, words: str
) -> None:
    finding = bus(
        replace(
            NODE,
            not_publishing=dict.fromkeys(not_publishing, "no way"),
            not_consuming=dict.fromkeys(not_consuming, "no way"),
        )
    )["rights"]
    assert finding.level == level
    assert words in finding.found


@pytest.mark.parametrize(
    ("ahead_ms", "round_trip_ms", "level", "words"),
    [
        (0, 0, "ok", "agrees"),
        (-1999, 0, "ok", "agrees"),
        (-2000, 0, "note", "2 s behind this machine's"),
        (4000, 5000, "ok", "agrees"),
        (90_000, 0, "problem", "90 s ahead of"),
        (-7_200_000, 0, "problem", "2 h behind"),
    ],
)
def test_the_bus_clock_is_judged_by_what_is_certain(
    ahead_ms: float, round_trip_ms: float, level: str, words: str
) -> None:
    found = bus(replace(NODE, ahead_ms=ahead_ms, round_trip_ms=round_trip_ms))["bus clock"]
    assert found.level == level
    assert words in found.found


# TradingView.


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        (PageFacts("x.com", 200), "ok", "x.com answers"),
        (PageFacts("x.com", 404), "ok", "x.com answers"),
        (PageFacts("x.com", 501), "ok", "x.com answers"),
        (PageFacts("x.com", 403), "note", "x.com answers 403"),
        (PageFacts("x.com", 429), "problem", "too many requests"),
        (PageFacts("x.com", 503), "note", "out of order"),
        (PageFacts("x.com", trouble="x.com cannot be found"), "problem", "x.com cannot be found"),
    ],
)
def test_a_host_is_judged_by_its_answer(facts: PageFacts, level: str, words: str) -> None:
    finding = judge_socket(facts)
    assert finding.level == level
    assert words in finding.found
    page = next(judge_page(facts))
    assert (page.check, page.level) == ("TradingView page", level)


@pytest.mark.parametrize(
    ("ahead_ms", "level", "words"),
    [
        (0, "ok", "agrees"),
        (2_999, "ok", "agrees"),
        (-3_000, "note", "3 s behind TradingView's"),
        (14_999, "note", "15 s ahead of"),
        (15_000, "problem", "15 s ahead of"),
        (None, "note", "does not tell the time"),
    ],
)
def test_the_clock_is_judged_by_the_page(ahead_ms: int | None, level: str, words: str) -> None:
    _, finding = judge_page(PageFacts("x.com", 200, ahead_ms=ahead_ms))
    assert (finding.check, finding.level) == ("clock", level)
    assert words in finding.found
    assert len(list(judge_page(PageFacts("x.com", trouble="away", ahead_ms=ahead_ms)))) == 1


NOON = "Tue, 24 Nov 2026 12:00:00 GMT"
NOON_MS = 1_795_521_600_000


@pytest.mark.parametrize(
    ("headers", "begun_ms", "ended_ms", "drift"),
    [
        ({"Date": NOON}, NOON_MS, NOON_MS + 100, 0),
        ({"Date": NOON}, NOON_MS + 900, NOON_MS + 999, 0),
        ({"Date": NOON}, NOON_MS + 5_000, NOON_MS + 9_000, 4_000),
        ({"Date": NOON}, NOON_MS - 9_000, NOON_MS - 5_000, -5_000),
        ({"Date": NOON}, NOON_MS - 9_000, NOON_MS + 9_000, 0),
        ({"Date": NOON, "Age": "0"}, NOON_MS + 5_000, NOON_MS + 5_000, 4_000),
        ({"Date": NOON, "Age": "70"}, NOON_MS, NOON_MS, None),
        ({"Date": "yesterday"}, NOON_MS, NOON_MS, None),
        ({}, NOON_MS, NOON_MS, None),
    ],
)
def test_drift_is_what_the_date_proves(
    headers: dict[str, str], begun_ms: int, ended_ms: int, drift: int | None
) -> None:
    assert drift_ms(headers, begun_ms, ended_ms) == drift


# The publisher.

LEASE = LeaseReport("host:17", 5)
SESSION = SessionReport(
    connected=True,
    trouble="",
    way="stored session",
    plan="pro_premium",
    expires_ms=None,
    bars_max=20_000,
    series_max=400,
    connections_max=50,
)


@pytest.mark.parametrize(
    ("lease", "session", "level", "found"),
    [
        (None, None, "note", "none is running"),
        (LEASE, None, "ok", "host:17 publishes"),
        (LEASE, replace(SESSION, way=None), "problem", "host:17 is not let in by TradingView"),
        (
            LEASE,
            SESSION,
            "ok",
            "host:17 reads TradingView by stored session, plan pro_premium, "
            "20000 intraday bars a series, 400 series, 50 connections",
        ),
        (
            LEASE,
            SessionReport(True, "", "anonymous", "anonymous", None, 5_000, None, None),
            "ok",
            "host:17 reads TradingView anonymously, 5000 intraday bars a series",
        ),
        (
            LEASE,
            SessionReport(False, "", "token", None, None, None, None, None),
            "note",
            "host:17 reads TradingView by token; not connected now",
        ),
    ],
)
def test_the_publisher_is_judged_by_what_it_tells_the_bus(
    lease: LeaseReport | None, session: SessionReport | None, level: str, found: str
) -> None:
    finding = judge_publisher(lease, session)
    assert (finding.level, finding.found) == (level, found)


# The account.

HOUR_MS = 3_600_000
NOBODY = AccountFacts(
    now_ms=NOON_MS,
    token=None,
    cookies=False,
    stored=StoredFacts(exists=False),
    password=False,
    totp_trouble="",
    signin_trouble="",
    allow_anonymous=False,
    series=3,
)
PREMIUM = Claims(
    issued_ms=NOON_MS - HOUR_MS,
    expires_ms=NOON_MS + 3 * HOUR_MS,
    plan="pro_premium",
    charts=8,
    connections=50,
)


def account(**changes: Any) -> list[Finding]:
    return list(judge_account(replace(NOBODY, **changes)))


def test_without_any_way_in_it_is_anonymous_and_said_so() -> None:
    finding = only(account())
    assert (finding.level, finding.found.split(":")[0]) == ("note", "anonymous")


def test_the_ways_in_are_told_in_their_order() -> None:
    finding = account(
        token=PREMIUM, cookies=True, stored=StoredFacts(True, "", NOON_MS), password=True
    )[0]
    assert finding.found == "signs in by token, then cookies, then stored session, then password"


def test_a_token_tells_the_plans_limits_and_its_end() -> None:
    _, token, plan = account(token=PREMIUM)
    assert (token.level, token.found) == ("ok", "good for 3 h; nothing renews it")
    assert (plan.level, plan.found) == (
        "ok",
        "pro_premium: 20000 intraday bars a series, 400 series, 50 connections",
    )
    bare = account(token=Claims(plan=""))
    assert [(one.level, one.found) for one in bare[1:]] == [
        ("note", "it does not say when it ends"),
        ("ok", "free: 5000 intraday bars a series"),
    ]


@pytest.mark.parametrize(
    ("left_ms", "cookies", "level", "words"),
    [
        (-2 * HOUR_MS, False, "problem", "it ended 2 h ago"),
        (0, False, "problem", "it ended 0 ms ago"),
        (-2 * HOUR_MS, True, "note", "it ended 2 h ago"),
        (HOUR_MS // 2, False, "note", "good for 30 min; nothing renews it"),
        (HOUR_MS // 2, True, "ok", "good for 30 min"),
    ],
)
def test_a_token_is_judged_by_what_is_left_of_it(
    left_ms: int, cookies: bool, level: str, words: str
) -> None:
    token = replace(PREMIUM, expires_ms=NOON_MS + left_ms)
    finding = account(token=token, cookies=cookies)[1]
    assert (finding.check, finding.level) == ("token", level)
    assert finding.found == words


def test_what_is_no_token_is_a_problem() -> None:
    assert told(account(token=Claims()))[1:] == [("problem", "token")]


def test_more_series_than_the_plan_allows_are_a_problem() -> None:
    assert told(account(token=PREMIUM, series=401))[-1] == ("problem", "plan")
    assert told(account(token=PREMIUM, series=400))[-1] == ("ok", "plan")


@pytest.mark.parametrize(
    ("change", "told_of"),
    [
        (
            {"stored": StoredFacts(True, "", NOON_MS - 72 * HOUR_MS)},
            [("ok", "stored session", "3 days old")],
        ),
        ({"stored": StoredFacts(True)}, [("ok", "stored session", "there")]),
        (
            {"stored": StoredFacts(True, "others can read it")},
            [("problem", "stored session", "others can read it")],
        ),
        ({"password": True}, [("ok", "sign-ins", "the budget allows one")]),
        (
            {"password": True, "signin_trouble": "banned"},
            [("problem", "sign-ins", "banned")],
        ),
        ({"signin_trouble": "banned"}, [("note", "sign-ins", "banned")]),
        (
            {"password": True, "totp_trouble": "no secret"},
            [
                ("problem", "second factor", "no secret"),
                ("ok", "sign-ins", "the budget allows one"),
            ],
        ),
        (
            {"password": True, "cookies": True, "signin_trouble": "banned"},
            [("note", "sign-ins", "banned")],
        ),
    ],
)
def test_session_second_factor_and_budget_have_lines_of_their_own(
    change: dict[str, Any], told_of: list[tuple[str, str, str]]
) -> None:
    findings = account(**change)[1:]
    assert [(one.level, one.check, one.found) for one in findings] == told_of


def test_a_fall_to_anonymous_that_is_allowed_is_noted() -> None:
    assert told(account(cookies=True, allow_anonymous=True)) == [
        ("ok", "account"),
        ("note", "account"),
    ]


# Numbers for people.


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (10 * 1024, "10 KiB"),
        (3 * 1024**2, "3.0 MiB"),
        (GIB, "1.0 GiB"),
        (5 * 1024**4, "5.0 TiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("length_ms", "text"),
    [
        (0, "0 ms"),
        (1_999, "1999 ms"),
        (2_000, "2 s"),
        (119_000, "119 s"),
        (-120_000, "2 min"),
        (2 * HOUR_MS, "2 h"),
        (47 * HOUR_MS, "47 h"),
        (48 * HOUR_MS, "2 days"),
    ],
)
def test_spans_are_for_people(length_ms: int, text: str) -> None:
    assert span(length_ms) == text
