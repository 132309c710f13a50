"""`tvbus doctor` as a person runs it: every check, its exit code, and what it never does."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from publisher_servers import Server
from pydantic import SecretStr
from web_pages import Page, Pages, serve, serve_raw

from bus.health import HealthServer
from publisher.core.account import Cookies, Session
from publisher.settings import PublisherSettings
from publisher.signing_in import build_means
from publisher.simulator import Simulator
from publisher.wire import Keys
from tests.command_runs import Ended, Run

SECRETS = ("hush-word", "hush-totp", "hush-cookie", "hush-sign", "hush-key")


def lines(ended: Ended) -> dict[str, str]:
    """The lines of a report by check: level and what was said; of several, all."""
    told: dict[str, str] = {}
    for line in ended.out.splitlines()[:-1]:
        level, check, text = line[:8].strip(), line[8:28].strip(), line[28:]
        told[check] = f"{told[check]} | " if check in told else ""
        told[check] += f"{level}: {text}"
    return told


def free_listen() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def doctor(run: Run) -> Run:
    """Run the doctor, with a health port that nobody uses."""

    def command(*arguments: str, **settings: str) -> Ended:
        return run("doctor", *arguments, **{"TVBUS_LISTEN": free_listen(), **settings})

    return command


def token(**claims: Any) -> str:
    """A JSON web token as TradingView makes them, unsigned."""
    parts = [json.dumps({"alg": "RS512"}), json.dumps(claims), "signature"]
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)


def test_a_good_setup_has_no_problem(doctor: Run, redis: Server, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    with redis.client() as client, serve(lambda *_: (200, b"")) as pages:
        client.config_set("appendonly", "yes")
        pages.date = formatdate(usegmt=True)
        try:
            ended = doctor(
                TVBUS_REDIS_URL=redis.url,
                TVBUS_PREFIX="doctor",
                TVBUS_WEB_URL=pages.url,
                TVBUS_WS_URL=pages.url.replace("http", "ws") + "/socket.io/websocket",
                TVBUS_LISTEN=free_listen(),
            )
        finally:
            client.config_set("appendonly", "no")
    assert ended.code == 0, ended.out
    assert list(lines(ended)) == [
        *("settings", "state directory", "bus", "memory", "persistence", "rights", "bus clock"),
        *("publisher", "health page", "account", "TradingView page", "clock"),
        "TradingView socket",
    ]
    assert ended.out.splitlines()[-1] == "problems: 0, notes: 2"
    assert lines(ended)["publisher"].startswith("note: none is running")
    assert sorted(pages.paths()) == ["/", "/socket.io/websocket"]


def test_offline_asks_nothing_outside(doctor: Run, tmp_path: Path) -> None:
    (tmp_path / "tvbus.toml").write_text('listen = ""\n')
    with serve(lambda *_: (200, b"")) as pages:
        ended = doctor("--offline", TVBUS_WEB_URL=pages.url)
    assert pages.asked == []
    assert ended.code == 0, ended.out
    assert "TradingView page" not in lines(ended)
    assert "health page" not in lines(ended)
    assert lines(ended)["bus"].startswith("note: no bus: start one with `tvbus publish`")


def test_programs_get_json_and_an_exit_code(doctor: Run) -> None:
    url = "redis://user:hush-word@127.0.0.1:1"
    ended = doctor("--offline", "--json", TVBUS_REDIS_URL=url)
    assert ended.code == 1
    report = json.loads(ended.out)
    assert report["problems"] == 1
    [bad] = [one for one in report["findings"] if one["level"] == "problem"]
    assert bad["check"] == "bus"
    assert bad["advice"]
    assert "hush-word" not in ended.out + ended.err


def test_settings_of_the_file_are_read_and_their_mistakes_found(
    doctor: Run, tmp_path: Path
) -> None:
    (tmp_path / "tvbus.toml").write_text('serie = "A-B-1m"\nprefix = "x"\n[redis]\nurl = "y"\n')
    ended = doctor("--offline", TVBUS_PREFIX="z", TVBUS_SERIEZ="1")
    told = lines(ended)["settings"]
    assert ended.code == 0
    assert str(tmp_path / "tvbus.toml") in told
    for words in (
        "'serie' is no setting  → did you mean series?",
        "'redis' is no setting  → settings stand at the top of the file",
        "TVBUS_SERIEZ is no setting  → did you mean TVBUS_SERIES?",
        "prefix is set in tvbus.toml and in TVBUS_PREFIX  → tvbus.toml wins",
    ):
        assert words in told


@pytest.mark.parametrize(
    ("content", "environment", "words"),
    [
        ("prefix = ", {}, "tvbus.toml cannot be read"),
        ('prefix = ""', {}, "TVBUS_PREFIX"),
        ("", {"TVBUS_LOG_LEVEL": "loud"}, "TVBUS_LOG_LEVEL"),
        ("", {"TVBUS_USERNAME": "trader-jo"}, "TVBUS_PASSWORD is missing"),
        ("", {"TVBUS_SERIES": "oops"}, "'oops' is not a series"),
        ("", {"TVBUS_PASSWORD_FILE": "/nowhere"}, "TVBUS_PASSWORD_FILE: /nowhere cannot be read"),
    ],
)
def test_settings_that_are_wrong_are_a_problem_and_the_rest_is_looked_at(
    doctor: Run, tmp_path: Path, content: str, environment: dict[str, str], words: str
) -> None:
    if content:
        (tmp_path / "tvbus.toml").write_text(content)
    ended = doctor("--offline", **environment)
    assert ended.code == 1
    assert lines(ended)["settings"].startswith("problem: ")
    assert words in lines(ended)["settings"]
    bus_is_known = not content and "TVBUS_LOG_LEVEL" not in environment
    assert ("bus" in lines(ended)) == bus_is_known
    assert "account" not in lines(ended)


def test_a_file_that_is_no_text_is_a_problem(doctor: Run, tmp_path: Path) -> None:
    (tmp_path / "tvbus.toml").write_bytes(b"\xff\xfe")
    ended = doctor("--offline")
    assert (ended.code, ended.err) == (1, "")
    assert lines(ended)["settings"].startswith("problem: ")


def test_a_state_directory_that_cannot_be_one_is_a_problem(doctor: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = doctor("--offline", TVBUS_STATE_DIR=str(tmp_path / "file"))
    assert lines(ended)["state directory"].startswith("problem: ")
    ended = doctor("--offline", TVBUS_STATE_DIR=str(tmp_path / "file" / "x"))
    assert "cannot be made" in lines(ended)["state directory"]


# Who publishes, and the health page.


def test_the_publishers_lease_is_told(doctor: Run, valkey: Server) -> None:
    keys = Keys("leased")
    with valkey.client() as client:
        fields: Any = {"holder": "host:17", "token": 5, "expires_ms": 2**60}
        client.hset(keys.publisher, mapping=fields)
        ended = doctor("--offline", TVBUS_PREFIX="leased", TVBUS_REDIS_URL=valkey.url)
        assert lines(ended)["publisher"] == "ok: host:17 publishes"
        client.set(Keys("strange").publisher, "not a hash")
        ended = doctor("--offline", TVBUS_PREFIX="strange", TVBUS_REDIS_URL=valkey.url)
        assert lines(ended)["publisher"].startswith("note: could not be asked for")


class _NoMetrics:
    def collect(self) -> list[Any]:
        return []


@pytest.mark.parametrize(
    ("well", "facts", "level"),
    [
        (True, {"state": "publishing", "troubles": []}, "ok"),
        (False, {"state": "publishing", "troubles": ["not connected"]}, "problem"),
    ],
)
def test_a_health_page_that_answers_is_read(
    doctor: Run, well: bool, facts: dict[str, Any], level: str
) -> None:
    page = HealthServer("127.0.0.1:0", lambda: (well, facts), _NoMetrics())  # type: ignore[arg-type]
    try:
        ended = doctor("--offline", TVBUS_LISTEN=f"127.0.0.1:{page.port}")
    finally:
        page.stop()
    assert lines(ended)["health page"].startswith(f"{level}: ")
    assert all(trouble in ended.out for trouble in facts["troubles"])


def test_what_another_process_says_shows_no_secret_and_rewrites_no_terminal(
    doctor: Run,
) -> None:
    facts = {"state": "publishing", "troubles": ["\x1b[2Jhush-word is wrong"]}
    page = HealthServer("127.0.0.1:0", lambda: (False, facts), _NoMetrics())  # type: ignore[arg-type]
    account = {"TVBUS_USERNAME": "trader-jo", "TVBUS_PASSWORD": "hush-word"}
    try:
        for flags in ((), ("--json",)):
            ended = doctor("--offline", *flags, TVBUS_LISTEN=f"127.0.0.1:{page.port}", **account)
            assert "[2J********** is wrong" in ended.out
            assert "\x1b" not in ended.out
    finally:
        page.stop()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"name":1}', b'{"state":1,"troubles":7}'])
def test_another_program_at_the_health_port_is_a_problem(doctor: Run, body: bytes) -> None:
    with serve(lambda *_: (200, body)) as pages:
        ended = doctor("--offline", TVBUS_LISTEN=pages.url.removeprefix("http://"))
    assert lines(ended)["health page"].startswith("problem: another program listens at")


def test_a_port_that_speaks_no_http_is_another_programs(doctor: Run) -> None:
    def babble(connection: socket.socket, _: threading.Event) -> None:
        connection.sendall(b"220 mail.example ready\r\n")

    with serve_raw(babble) as port:
        ended = doctor("--offline", TVBUS_LISTEN=f"127.0.0.1:{port}")
    assert lines(ended)["health page"].startswith("problem: another program")


# TradingView.


@pytest.mark.parametrize(
    ("ahead_s", "level", "words"),
    [(0, "ok", "agrees"), (-600, "problem", "ahead of TradingView's"), (9, "note", "behind")],
)
def test_a_clock_that_drifts_is_found_by_the_page(
    doctor: Run, ahead_s: float, level: str, words: str
) -> None:
    with serve(lambda *_: (200, b"")) as pages:
        pages.date = formatdate(time.time() + ahead_s, usegmt=True)
        ended = doctor(TVBUS_WEB_URL=pages.url, TVBUS_WS_URL=socket_url(pages))
    assert lines(ended)["clock"].startswith(f"{level}: ")
    assert words in lines(ended)["clock"]
    assert ended.code == (1 if level == "problem" else 0)


def socket_url(pages: Pages) -> str:
    return pages.url.replace("http", "ws") + "/socket"


def test_the_simulator_is_reached_and_its_skewed_clock_found(doctor: Run) -> None:
    hour_ms = 3_600_000
    with Simulator(seed=1, start_ms=time.time_ns() // 1_000_000 - hour_ms) as simulator:
        ended = doctor(TVBUS_WEB_URL=simulator.web_url, TVBUS_WS_URL=simulator.url)
        assert simulator.connections == []
        assert simulator.web_counts["signin"] == 0
    told = lines(ended)
    assert told["TradingView page"].startswith("ok: ")
    assert told["TradingView socket"].startswith("ok: ")
    assert told["clock"].startswith("problem: this machine's is 60 min ahead of TradingView's")


def test_hosts_that_do_not_answer_are_told_one_by_one(doctor: Run) -> None:
    ended = doctor(
        TVBUS_WEB_URL="https://nowhere.invalid",
        TVBUS_WS_URL="ws://127.0.0.1:1/socket",
    )
    told = lines(ended)
    assert "nowhere.invalid cannot be found" in told["TradingView page"]
    assert "Connection refused" in told["TradingView socket"]
    assert "clock" not in told
    assert (ended.code, ended.err) == (1, "")


# The account.


def test_a_given_token_is_told_without_being_shown(doctor: Run) -> None:
    now_s = int(time.time())
    text = token(exp=now_s + 7_000, iat=now_s, plan="pro_premium", max_charts=8, max_connections=50)
    ended = doctor("--offline", TVBUS_AUTH_TOKEN=text)
    told = lines(ended)
    assert told["account"] == "ok: signs in by token"
    assert told["token"].startswith("ok: good for 117 min")
    assert told["plan"].startswith("ok: pro_premium: 20000 intraday bars a series, 400 series")
    assert text not in ended.out
    assert text.split(".")[1] not in ended.out


def test_no_secret_is_ever_shown(doctor: Run, tmp_path: Path) -> None:
    (tmp_path / "tvbus.toml").write_text('passwort = "hush-word"\npassword = "hush-word"\n')
    settings = {
        "TVBUS_USERNAME": "trader-jo",
        "TVBUS_TOTP_SECRET": "hush-totp",
        "TVBUS_SESSIONID": "hush-cookie",
        "TVBUS_SESSIONID_SIGN": "hush-sign",
        "TVBUS_STATE_KEY": "hush-key",
        "TVBUS_REDIS_URL": "redis://x:hush-word@127.0.0.1:1",
    }
    for flags in ((), ("--json",)):
        ended = doctor("--offline", *flags, TVBUS_LOG_LEVEL="debug", **settings)
        assert ended.code == 1
        for secret in SECRETS:
            assert secret not in ended.out + ended.err
    assert "did you mean password?" in doctor("--offline", **settings).out


def test_a_second_factors_secret_that_is_none_is_a_problem(doctor: Run) -> None:
    ended = doctor(
        "--offline",
        TVBUS_USERNAME="trader-jo",
        TVBUS_PASSWORD="hush-word",
        TVBUS_TOTP_SECRET="123456",
    )
    assert lines(ended)["second factor"].startswith("problem: TVBUS_TOTP_SECRET is not a base32")


STATE: dict[str, str] = {"TVBUS_STATE_KEY": "hush-key"}


def store(folder: Path, username: str = "trader-jo") -> Path:
    """Store a session as `tvbus login` does; return its file."""
    settings = PublisherSettings(state_dir=folder, state_key=SecretStr("hush-key"))
    means = build_means(settings, None)
    cookies = Cookies(SecretStr("hush-cookie"), SecretStr("hush-sign"), None)
    two_days_ms = 2 * 86_400_000
    signed_in_ms = time.time_ns() // 1_000_000 - two_days_ms
    means.vault.save(Session(cookies, SecretStr(username), SecretStr(""), signed_in_ms))
    return means.vault.path


def test_a_stored_session_is_told_with_its_age(doctor: Run, tmp_path: Path) -> None:
    store(tmp_path / "state")
    told = lines(doctor("--offline", **STATE))
    assert told["account"] == "ok: signs in by stored session"
    assert told["stored session"] == "ok: 2 days old"


def test_a_stored_session_that_cannot_be_used_is_a_problem(doctor: Run, tmp_path: Path) -> None:
    path = store(tmp_path / "state")
    told = lines(doctor("--offline", **STATE | {"TVBUS_STATE_KEY": "wrong-key"}))
    assert "does not open with TVBUS_STATE_KEY" in told["stored session"]
    told = lines(
        doctor("--offline", **STATE, TVBUS_USERNAME="trader-bo", TVBUS_PASSWORD="hush-word")
    )
    assert "belongs to another user" in told["stored session"]
    path.chmod(0o644)
    told = lines(doctor("--offline", **STATE))
    assert told["stored session"].startswith("problem: the stored session is not used")


def test_a_ban_on_the_record_is_told_and_stays(doctor: Run, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    settings = PublisherSettings(state_dir=folder)
    build_means(settings, None).governor.stop("banned by the test")
    ended = doctor("--offline", TVBUS_USERNAME="trader-jo", TVBUS_PASSWORD="hush-word")
    assert ended.code == 1
    assert "banned by the test" in lines(ended)["sign-ins"]
    assert build_means(settings, None).governor.stopped() == "banned by the test"


def test_nothing_is_written_started_or_spent(doctor: Run, tmp_path: Path, valkey: Server) -> None:
    store(tmp_path / "state")
    account = {"TVBUS_USERNAME": "trader-jo", "TVBUS_PASSWORD": "hush-word", **STATE}

    def answer(*_: Any) -> Page:
        return 200, b""

    with serve(answer) as pages, valkey.client() as client:
        before, keys = picture(tmp_path), set(client.keys())
        doctor(
            TVBUS_WEB_URL=pages.url,
            TVBUS_WS_URL=socket_url(pages),
            TVBUS_REDIS_URL=valkey.url,
            **account,
        )
        doctor(TVBUS_WEB_URL=pages.url, TVBUS_WS_URL=socket_url(pages), **account)
        assert picture(tmp_path) == before
        assert set(client.keys()) == keys
        assert pages.paths() == ["/", "/socket"] * 2, "no sign-in, no token is asked for"


def picture(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        stat = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (stat.st_mode, stat.st_mtime_ns, content)
    return found
