"""`tvbus login` and `tvbus logout`, in a real terminal and without one."""

from __future__ import annotations

import base64
import hmac
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from publisher.settings import AccountSettings
from publisher.signing_in import build_access
from publisher.simulator import Account, Simulator
from tests.acceptance.terminal import Terminal
from tests.acceptance.test_command_line import tvbus

SECRET = "jbsw y3dp ehpk 3pxp"
PASSWORD = 'p&ss+w%rd ü"'
ACCOUNTS = (
    Account("alice", PASSWORD, plan="pro_premium"),
    Account("carol", PASSWORD, totp_secret=SECRET),
    Account("dave", PASSWORD, factors=("sms",)),
)
STEP_MS = 30_000
CTRL_C, CTRL_D = b"\x03", b"\x04"


@pytest.fixture
def site() -> Iterator[Simulator]:
    # In the middle of a time step, so that a second code needs no long wait.
    start_ms = 58_000_000 * STEP_MS + 24_000
    with Simulator(accounts=ACCOUNTS, start_ms=start_ms) as running:
        yield running


@pytest.fixture
def settings(site: Simulator) -> dict[str, str]:
    return {"TVBUS_WEB_URL": site.web_url}


def code_now(site: Simulator) -> str:
    """What an authenticator shows now."""
    key = base64.b32decode(SECRET.replace(" ", "").upper())
    digest = hmac.digest(key, (site.now_ms() // STEP_MS).to_bytes(8, "big"), "sha1")
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4], 'big') & 0x7FFF_FFFF) % 10**6:06d}"


def other(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06d}"


def session_file(folder: Path) -> Any:
    return json.loads((folder / "state" / "signin" / "session").read_text())


def way_in(folder: Path, site: Simulator, **values: Any) -> str:
    """How a publisher without credentials gets in afterwards."""
    settings = AccountSettings(state_dir=folder / "state", web_url=site.web_url, **values)
    return build_access(settings, None).obtain().way


def quiet(*arguments: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command without a terminal."""
    state = {"TVBUS_STATE_DIR": str(folder / "state")}
    backend = {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
    return tvbus(*arguments, folder=folder, **(state | backend | settings))


def test_a_person_signs_in_with_an_authenticator(
    tmp_path: Path, site: Simulator, settings: dict[str, str]
) -> None:
    with Terminal("login", folder=tmp_path, **settings) as terminal:
        terminal.sees("User name or e-mail: ")
        terminal.types("carol")
        terminal.sees("Password: ")
        terminal.types(PASSWORD)
        terminal.sees("Code of your authenticator: ")
        terminal.types(other(code_now(site)))
        terminal.sees("TradingView does not accept this code.")
        terminal.sees("wait ")
        terminal.sees("Code of your authenticator: ")
        code = code_now(site)
        terminal.types(f"{code[:3]} {code[3:]}")
        terminal.sees("Signed in as carol.")
        terminal.sees("Plan pro_premium: 20,000 intraday bars of a series, 400 series")
        terminal.sees("not encrypted (to encrypt it set TVBUS_STATE_KEY")
        terminal.sees("`tvbus publish` needs no credential now.")
        assert terminal.ends() == 0
    assert PASSWORD not in terminal.shown
    assert site.web_counts["signin"] == 1
    assert way_in(tmp_path, site) == "stored session"


def test_a_person_signs_in_with_a_code_that_was_sent(
    tmp_path: Path, site: Simulator, settings: dict[str, str]
) -> None:
    key = {"TVBUS_STATE_KEY": "geheim"}
    with Terminal("login", folder=tmp_path, **settings, **key) as terminal:
        terminal.sees("User name or e-mail: ")
        terminal.types("dave")
        terminal.sees("Password: ")
        terminal.types(PASSWORD)
        terminal.sees("Code that TradingView sent by SMS: ")
        code = site.accounts.code_sent("dave")
        assert code.startswith("0")
        terminal.types(other(code))
        terminal.sees("TradingView does not accept this code.")
        terminal.sees("Code that TradingView sent by SMS: ")
        terminal.types(code)
        terminal.sees("encrypted with TVBUS_STATE_KEY")
        assert terminal.ends() == 0
    assert session_file(tmp_path).keys() == {"version", "sealing", "sealed", "salt"}
    assert "geheim" not in terminal.shown
    assert way_in(tmp_path, site, state_key="geheim") == "stored session"


def test_three_wrong_codes_are_enough(
    tmp_path: Path, site: Simulator, settings: dict[str, str]
) -> None:
    given = {"TVBUS_USERNAME": "dave", "TVBUS_PASSWORD": PASSWORD}
    with Terminal("login", folder=tmp_path, **settings, **given) as terminal:
        for _ in range(3):
            terminal.sees("Code that TradingView sent by SMS: ")
            terminal.types(other(site.accounts.code_sent("dave")))
        terminal.sees("tvbus: TradingView does not accept the second factor's code")
        assert terminal.ends() == 3
    assert site.web_counts["factor"] == 3
    assert not (tmp_path / "state" / "signin" / "session").exists()


def test_what_is_given_is_not_asked_for(
    tmp_path: Path, site: Simulator, settings: dict[str, str]
) -> None:
    given = {"TVBUS_USERNAME": "carol", "TVBUS_PASSWORD": PASSWORD, "TVBUS_TOTP_SECRET": SECRET}
    done = quiet("login", folder=tmp_path, **settings, **given)
    assert done.returncode == 0, done.stderr
    assert "Signed in as carol." in done.stdout
    assert way_in(tmp_path, site) == "stored session"
    for secret in (PASSWORD, SECRET):
        assert secret not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "user name or e-mail; set TVBUS_USERNAME"),
        ({"TVBUS_USERNAME": "alice"}, "password; set TVBUS_PASSWORD"),
        ({"TVBUS_USERNAME": "carol", "TVBUS_PASSWORD": PASSWORD}, "set TVBUS_TOTP_SECRET"),
    ],
)
def test_what_is_missing_without_a_terminal_is_told(
    tmp_path: Path, settings: dict[str, str], given: dict[str, str], words: str
) -> None:
    done = quiet("login", folder=tmp_path, **settings, **given)
    assert done.returncode == 3
    # Near the end of a time step the command says first that it waits for the next code.
    waits, told = [[], *done.stderr.splitlines()][-2:]
    assert words in told
    assert not waits or "counts once" in waits


def test_the_cookies_of_a_browser_are_the_way_out_of_a_captcha(
    tmp_path: Path, site: Simulator, settings: dict[str, str]
) -> None:
    given = {"TVBUS_USERNAME": "alice", "TVBUS_PASSWORD": PASSWORD}
    site.faults.inject("captcha")
    done = quiet("login", folder=tmp_path, **settings, **given)
    assert done.returncode == 3
    assert "tvbus login --cookies" in done.stderr
    again = quiet("login", folder=tmp_path, **settings, **given)
    assert again.returncode == 3
    assert "nothing is tried before" in again.stderr
    assert site.web_counts["signin"] == 1
    cookies = site.accounts.sign_in("alice", PASSWORD, site.now_ms()).cookies
    with Terminal("login", "--cookies", folder=tmp_path, **settings) as terminal:
        terminal.sees("Cookie sessionid: ")
        terminal.types(cookies["sessionid"])
        terminal.sees("Cookie sessionid_sign: ")
        terminal.types(cookies["sessionid_sign"])
        terminal.sees("Signed in as alice.")
        assert terminal.ends() == 0
    assert cookies["sessionid"] not in terminal.shown
    assert cookies["sessionid_sign"] not in terminal.shown
    assert way_in(tmp_path, site) == "stored session"
    # A person has acted, so the password may be tried again.
    assert quiet("login", folder=tmp_path, **settings, **given).returncode == 0


def test_wrong_cookies_are_told_and_not_stored(tmp_path: Path, settings: dict[str, str]) -> None:
    given = {"TVBUS_SESSIONID": "geheim", "TVBUS_SESSIONID_SIGN": "v3:geheim"}
    done = quiet("login", "--cookies", folder=tmp_path, **settings, **given)
    assert done.returncode == 3
    assert "accepts these cookies no longer" in done.stderr
    assert "geheim" not in done.stderr
    assert not (tmp_path / "state" / "signin" / "session").exists()


def test_a_person_may_go_beyond_the_budget_and_a_script_may_not(
    tmp_path: Path, site: Simulator, settings: dict[str, str]
) -> None:
    wrong = {"TVBUS_USERNAME": "alice", "TVBUS_PASSWORD": "wrong"}
    for _ in range(2):
        assert quiet("login", folder=tmp_path, **settings, **wrong).returncode == 3
    right = {"TVBUS_USERNAME": "alice", "TVBUS_PASSWORD": PASSWORD}
    done = quiet("login", folder=tmp_path, **settings, **right)
    assert done.returncode == 1
    assert "2 an hour" in done.stderr
    for answer, code in (("n", 1), ("y", 0)):
        with Terminal("login", folder=tmp_path, **settings, **right) as terminal:
            terminal.sees("2 an hour")
            terminal.sees("Sign in all the same? [y/N]: ")
            terminal.types(answer)
            assert terminal.ends() == code, terminal.shown
    assert site.web_counts["signin"] == 3


@pytest.mark.parametrize("key", [CTRL_C, CTRL_D])
def test_a_person_may_think_better_of_it(
    tmp_path: Path, site: Simulator, settings: dict[str, str], key: bytes
) -> None:
    with Terminal("login", folder=tmp_path, **settings) as terminal:
        terminal.sees("User name or e-mail: ")
        terminal.types("alice")
        terminal.sees("Password: ")
        terminal.presses(key)
        terminal.sees("Cancelled; nothing was stored.")
        assert terminal.ends() == 1
    assert "Traceback" not in terminal.shown
    assert site.web_counts["signin"] == 0


def test_logging_out_forgets_the_session_and_what_tradingview_said(
    tmp_path: Path, site: Simulator, settings: dict[str, str]
) -> None:
    given = {"TVBUS_USERNAME": "alice", "TVBUS_PASSWORD": PASSWORD}
    assert quiet("login", folder=tmp_path, **settings, **given).returncode == 0
    site.faults.inject("captcha")
    assert quiet("login", folder=tmp_path, **settings, **given).returncode == 3
    done = quiet("logout", folder=tmp_path, **settings)
    assert done.returncode == 0
    session = tmp_path / "state" / "signin" / "session"
    assert f"Removed the session in {session}." in done.stdout
    assert "Forgot that TradingView wanted a captcha." in done.stdout
    assert not session.exists()
    assert "No session was stored." in quiet("logout", folder=tmp_path, **settings).stdout
    # What was tried still counts: two sign-ins an hour.
    assert quiet("login", folder=tmp_path, **settings, **given).returncode == 1


def test_a_bus_that_is_away_is_told_at_logout(tmp_path: Path, settings: dict[str, str]) -> None:
    away = {"TVBUS_REDIS_URL": "redis://127.0.0.1:1"}
    done = quiet("logout", folder=tmp_path, **settings, **away)
    assert done.returncode == 0
    assert "The bus cannot be reached" in done.stdout


def test_what_would_be_used_first_is_told(
    tmp_path: Path, site: Simulator, settings: dict[str, str]
) -> None:
    given = {"TVBUS_USERNAME": "alice", "TVBUS_PASSWORD": PASSWORD, "TVBUS_AUTH_TOKEN": "geheim"}
    done = quiet("login", folder=tmp_path, **settings, **given)
    assert done.returncode == 0
    assert "TVBUS_AUTH_TOKEN would be used before it" in done.stdout
    assert "geheim" not in done.stdout + done.stderr


def test_a_session_that_cannot_be_stored_is_told(tmp_path: Path, settings: dict[str, str]) -> None:
    given = {"TVBUS_USERNAME": "alice", "TVBUS_PASSWORD": PASSWORD}
    (tmp_path / "state" / "signin").mkdir(parents=True, mode=0o700)
    (tmp_path / "state" / "signin" / "session").mkdir()
    done = quiet("login", folder=tmp_path, **settings, **given)
    assert done.returncode == 3
    assert "signed in, but the session cannot be stored" in done.stderr
