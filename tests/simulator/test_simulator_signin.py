"""Signing in over real HTTP: bodies as recorded, and every way to be refused."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from itertools import count

import pytest
from simulator_world import TUESDAY_MS, Client, capture, packets, recorded, shape
from web_world import (
    ACCOUNTS,
    GERMAN,
    PLAIN,
    SECRET,
    SMS,
    TOTP,
    Authenticator,
    Browser,
    claims,
    header,
    token_in,
    totp,
)

from publisher.simulator import Account, Simulator
from publisher.simulator.accounts import SESSIONS_MAX, Accounts
from publisher.simulator.tokens import TOKENS_MAX, Tokens

STEP_MS = 30_000
HOUR_MS = 3_600_000


@pytest.fixture
def market() -> Iterator[Simulator]:
    """A simulator with accounts whose clock stands still, in the middle of a time step."""
    start_ms = TUESDAY_MS // STEP_MS * STEP_MS + STEP_MS // 2
    with Simulator(seed=7, speed=0, start_ms=start_ms, accounts=ACCOUNTS) as running:
        yield running


@pytest.fixture
def browser(market: Simulator) -> Iterator[Browser]:
    """A browser without cookies."""
    with Browser(market) as opened:
        yield opened


def has_session(browser: Browser) -> bool:
    return "sessionid" in browser.cookies()


def test_success_has_the_recorded_shape_and_the_three_cookies(browser: Browser) -> None:
    response = browser.sign_in("hans", "right")
    real = dict(shape(recorded("063")))
    settings = {path for path in real if path.startswith(".user.settings.")}
    found = dict(shape(response.json()))
    assert {path: real[path] for path in real.keys() - settings} == found
    assert response.json()["error"] == ""
    assert set(browser.cookies()) == {"sessionid", "sessionid_sign", "device_t"}
    assert browser.cookies()["sessionid_sign"].startswith("v3:")
    assert response.headers["Content-Type"] == "application/json"


def test_the_e_mail_address_does_for_the_user_name(browser: Browser, market: Simulator) -> None:
    assert browser.sign_in("plain@example.com", "right").json()["user"]["username"] == "plain"
    assert market.web_counts == {"signin": 1, "signin_ok": 1}


@pytest.mark.parametrize(
    ("name", "password"),
    [("plain", "wrong"), ("plain", ""), ("plain", "right "), ("nobody", "right"), ("", "right")],
)
def test_wrong_credentials_are_refused_as_recorded_without_cookies(
    browser: Browser, name: str, password: str
) -> None:
    response = browser.sign_in(name, password)
    assert (response.status_code, response.json()) == (200, recorded("062"))
    assert browser.cookies() == {}


def test_a_password_with_awkward_characters_must_come_encoded(
    browser: Browser, market: Simulator
) -> None:
    assert browser.sign_in("careful", TOTP.password).json()["code"] == "2FA_required"
    raw = f"username=careful&password={TOTP.password}".encode()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    response = browser.session.post(f"{market.web_url}/accounts/signin/", data=raw, headers=kind)
    assert response.json()["code"] == "invalid_credentials"


@pytest.mark.parametrize("referer", [None, "https://example.com/"])
def test_a_sign_in_from_elsewhere_is_forbidden(browser: Browser, referer: str | None) -> None:
    browser.session.headers.pop("Referer")
    assert browser.sign_in("plain", "right", Referer=referer).status_code == 403
    assert browser.factor("123456", Referer=referer).status_code == 403
    assert browser.cookies() == {}


def test_a_body_that_is_no_form_names_nobody(browser: Browser, market: Simulator) -> None:
    response = browser.session.post(
        f"{market.web_url}/accounts/signin/", json={"username": "plain", "password": "right"}
    )
    assert response.json() == recorded("062")


def test_the_captcha_comes_after_so_many_sign_ins_and_goes_after_an_hour() -> None:
    with (
        Simulator(speed=0, start_ms=TUESDAY_MS, accounts=ACCOUNTS, captcha_after=2) as market,
        Browser(market) as browser,
    ):
        browser.sign_in("plain", "wrong")
        assert browser.sign_in("plain", "right").json()["error"] == ""
        browser.session.cookies.clear()
        refused = browser.sign_in("plain", "right")
        assert (refused.status_code, refused.json()) == (200, recorded("064"))
        assert browser.cookies() == {}
        market.advance(HOUR_MS)
        assert browser.sign_in("plain", "right").json()["error"] == ""


def test_the_second_factor_is_asked_for_as_recorded(browser: Browser) -> None:
    response = browser.sign_in("careful", TOTP.password)
    assert (response.status_code, response.json()) == (200, recorded("060"))
    assert set(browser.cookies()) == {"sessionid", "sessionid_sign"}
    assert browser.token() == "", "half a sign-in opens nothing"


def test_a_right_code_signs_in_with_new_cookies(browser: Browser, market: Simulator) -> None:
    browser.sign_in("careful", TOTP.password)
    first = browser.cookies()
    response = browser.factor(totp(market))
    assert response.json()["user"]["username"] == "careful"
    assert set(browser.cookies()) == {"sessionid", "sessionid_sign", "device_t"}
    assert not set(first.values()) & set(browser.cookies().values())
    assert claims(browser.token())["plan"] == "pro_premium"
    assert market.web_counts == {"signin": 1, "factor": 1, "signin_ok": 1, "page": 1}
    browser.session.cookies.clear()
    browser.session.cookies.update(first)
    assert browser.factor(totp(market, 1)).status_code == 403, "the first step is used up"


def test_a_wrong_code_is_refused_as_recorded_and_another_may_follow(
    browser: Browser, market: Simulator
) -> None:
    browser.sign_in("careful", TOTP.password)
    wrong = f"{(int(totp(market)) + 1) % 1_000_000:06}"
    response = browser.factor(wrong)
    assert (response.status_code, response.json()) == (400, recorded("061"))
    assert "device_t" not in browser.cookies()
    assert browser.factor(totp(market)).json()["error"] == ""


@pytest.mark.parametrize(("steps", "good"), [(-2, False), (-1, True), (1, True), (2, False)])
def test_codes_of_the_neighbouring_time_steps_are_good_and_no_others(
    browser: Browser, market: Simulator, steps: int, good: bool
) -> None:
    browser.sign_in("careful", TOTP.password)
    assert browser.factor(totp(market, steps)).ok == good


def test_a_code_is_good_once(browser: Browser, market: Simulator) -> None:
    for allowed in (True, False):
        browser.sign_in("careful", TOTP.password)
        assert browser.factor(totp(market)).ok == allowed
    market.advance(STEP_MS)
    assert not browser.factor(totp(market, -1)).ok
    assert browser.factor(totp(market)).ok


def test_a_code_is_text_and_its_zeros_matter(browser: Browser, market: Simulator) -> None:
    app = Authenticator(SECRET)
    now_s = market.now_ms() // 1000
    steps = next(n for n in count(2) if app.at(now_s, counter_offset=n).startswith("00"))
    market.advance(steps * STEP_MS)
    code = totp(market)
    browser.sign_in("careful", TOTP.password)
    assert browser.factor(str(int(code))).json() == recorded("061")
    assert browser.factor(code).json()["error"] == ""


@pytest.mark.parametrize(("name", "way"), [("phone", "sms"), ("mail", "email")])
def test_a_code_that_was_sent_is_asked_for_and_good_once(
    browser: Browser, market: Simulator, name: str, way: str
) -> None:
    for _ in range(2):
        asked = browser.sign_in(name, "right").json()["two_factor_types"]
        assert asked == [{"name": way, "code_ttl": 300}]
    code = market.accounts.code_sent(name)
    assert code.startswith("0")
    assert len(code) == 6
    assert browser.factor(str(int(code)), way).status_code == 400
    assert browser.factor(code, "totp").status_code == 400, "another factor"
    assert browser.factor(code, way).json()["error"] == ""
    assert browser.token()


def test_a_code_that_was_sent_grows_old(browser: Browser, market: Simulator) -> None:
    browser.sign_in("phone", SMS.password)
    market.advance(300_000)
    assert browser.factor(market.accounts.code_sent("phone"), "sms").status_code == 400


def test_no_code_is_sent_to_those_who_have_an_app(browser: Browser, market: Simulator) -> None:
    browser.sign_in("careful", TOTP.password)
    with pytest.raises(KeyError):
        market.accounts.code_sent("careful")


def test_the_second_step_needs_the_cookies_of_the_first(
    browser: Browser, market: Simulator
) -> None:
    assert browser.factor(totp(market)).status_code == 403
    browser.sign_in("careful", TOTP.password)
    browser.session.cookies.pop("sessionid_sign")
    assert browser.factor(totp(market)).status_code == 403
    browser.sign_in("plain", "right")
    assert browser.factor(totp(market)).status_code == 403, "that sign-in was whole"


def test_a_token_says_what_the_recorded_one_says_by_the_simulated_clock(
    browser: Browser, market: Simulator
) -> None:
    browser.sign_in("hans", "right")
    token = token_in(browser.get("/de/").text)
    real = recorded("065")
    assert header(token) == real["header"]
    assert dict(shape(claims(token))) == dict(shape(real["payload"]))
    assert claims(token)["iat"] == market.now_ms() // 1000
    assert claims(token)["exp"] - claims(token)["iat"] == 14_400
    same = ("plan", "max_charts", "max_connections")
    assert [claims(token)[key] for key in same] == [real["payload"][key] for key in same]


def test_every_page_has_a_token_of_its_own(browser: Browser) -> None:
    browser.sign_in("plain", "right")
    tokens = {browser.token() for _ in range(3)}
    assert len(tokens) == 3
    assert "" not in tokens
    assert {claims(token)["plan"] for token in tokens} == {""}


def test_a_page_without_good_cookies_has_no_token(browser: Browser, market: Simulator) -> None:
    assert browser.token() == ""
    browser.sign_in("plain", "right")
    browser.session.cookies.set("sessionid_sign", "v3:forged")
    assert browser.token() == "", "both cookies are needed"
    browser.session.cookies.clear()
    browser.sign_in("plain", "right")
    market.end_sessions("hans")
    assert browser.token(), "another account's sessions ended"
    market.end_sessions("plain")
    assert browser.token() == ""
    assert browser.get().status_code == 200


def test_an_account_with_a_locale_is_sent_to_its_page(browser: Browser) -> None:
    browser.sign_in("hans", GERMAN.password)
    response = browser.get(allow_redirects=False)
    assert (response.status_code, response.headers["Location"]) == (302, "/de/")
    assert token_in(response.text) == ""
    assert browser.token(), "the jar keeps its cookies on the way"
    browser.session.cookies.clear()
    assert browser.get(allow_redirects=False).status_code == 200


def test_a_page_token_is_good_on_the_socket_and_pays_for_fast_updates(
    browser: Browser, market: Simulator
) -> None:
    periods = {}
    for account in (PLAIN, GERMAN):
        browser.session.cookies.clear()
        browser.sign_in(account.username, account.password)
        with Client(market.url) as client:
            client.send("set_auth_token", browser.token())
            client.send("chart_create_session", "cs_1", "")
            client.send("resolve_symbol", "cs_1", "y", "BINANCE:BTCUSDT")
            client.send("create_series", "cs_1", "sds_1", "s1", "y", "1", 5)
            periods[account.plan] = client.until_kind("series_completed")["p"][4]
    assert periods == {"": {"rt_update_period": 5}, "pro_premium": {"rt_update_period": 0}}


def test_a_token_is_refused_on_the_socket_once_its_life_is_over() -> None:
    account = Account("plain", "right", token_life_s=60)
    with (
        Simulator(speed=0, start_ms=TUESDAY_MS, accounts=[account]) as market,
        Browser(market) as browser,
    ):
        token = browser.sign_in("plain", "right").json()["user"]["auth_token"]
        assert claims(token)["exp"] - claims(token)["iat"] == 60
        market.advance(59_999)
        with Client(market.url) as client:
            client.send("set_auth_token", token)
            client.send("chart_create_session", "cs_1", "")
            client.send("get_first_bar_time", "cs_1", "nope", "1D")
            client.until_kind("critical_error")
        market.advance(1)
        with Client(market.url) as client:
            client.send("set_auth_token", token)
            refused = client.until_kind("protocol_error")
            assert [refused] == [json.loads(text) for text in packets(capture("074"))]
            client.until_closed()


def test_every_answer_is_dated_by_the_simulated_clock(browser: Browser, market: Simulator) -> None:
    responses = [browser.get(), browser.sign_in("plain", "wrong"), browser.get("/nosuch")]
    for response in responses:
        dated_s = parsedate_to_datetime(response.headers["Date"]).timestamp()
        assert dated_s == market.now_ms() // 1000


def test_what_is_not_there_is_404_and_a_wrong_method_405(browser: Browser) -> None:
    assert browser.get("/nosuch/").status_code == 404
    assert browser.get("/accounts/signin/").status_code == 405
    assert browser.post("/", {}).status_code == 405
    assert browser.post("/accounts/two-factor/signin/carrier-pigeon/", {}).status_code == 404
    assert browser.post("/accounts/signin/", {"password": "x" * 70_000}).status_code == 413


def test_accounts_do_not_show_their_secrets_and_refuse_bad_ones() -> None:
    assert SECRET not in repr(TOTP)
    assert TOTP.password not in repr(TOTP)
    for secret in ("", "not base32!", "ü"):
        with pytest.raises(ValueError, match="base32"):
            Account("plain", "right", totp_secret=secret)


def test_a_taken_web_port_is_an_error_and_nothing_goes_on_listening(market: Simulator) -> None:
    port = int(market.web_url.rpartition(":")[2])
    failing = Simulator(web_port=port)
    with pytest.raises(OSError, match="address already in use"):
        failing.start()
    with pytest.raises(OSError, match="refused"):
        Client(failing.url)


def test_addresses_of_the_newer_kind_are_served_too() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    with Simulator(host="::1", accounts=ACCOUNTS) as market, Browser(market) as browser:
        assert market.web_url.startswith("http://[::1]:")
        assert browser.get().status_code == 200
        with Client(market.url) as client:
            assert client.hello["protocol"] == "json"


def test_cookies_that_cannot_be_read_are_none(browser: Browser) -> None:
    response = browser.get(headers={"Cookie": "a/b=1"})
    assert (response.status_code, token_in(response.text)) == (200, "")


def test_what_is_remembered_of_sign_ins_is_bounded_and_the_oldest_goes() -> None:
    tokens = Tokens()
    accounts = Accounts([PLAIN], tokens)
    first, *others = (
        accounts.sign_in("plain", "right", 0).cookies for _ in range(SESSIONS_MAX + 1)
    )
    assert accounts.signed_in(first) is None
    assert all(accounts.signed_in(cookies) is PLAIN for cookies in others)
    first_token, *newer = (accounts.new_token(PLAIN, 0) for _ in range(TOKENS_MAX + 1))
    assert tokens.plan_of(first_token, 0) is None
    assert {tokens.plan_of(token, 0) for token in newer} == {""}
