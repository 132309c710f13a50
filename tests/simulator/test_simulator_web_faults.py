"""Each fault of the web does over real HTTP what its name says, as often as told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import requests
from simulator_world import TUESDAY_MS, Client, recorded
from web_world import ACCOUNTS, TOTP, Browser, totp

from publisher.simulator import Fault, Faults, Kind, Simulator
from tests.waiting import eventually


@pytest.fixture
def market() -> Iterator[Simulator]:
    """A simulator with accounts whose clock stands still."""
    with Simulator(seed=7, speed=0, start_ms=TUESDAY_MS, accounts=ACCOUNTS) as running:
        yield running


@pytest.fixture
def browser(market: Simulator) -> Iterator[Browser]:
    """A browser without cookies."""
    with Browser(market) as opened:
        yield opened


@pytest.mark.parametrize(
    ("kind", "code"), [(Kind.CAPTCHA, "recaptcha_required"), (Kind.RATE_LIMIT, "rate_limit")]
)
def test_sign_ins_are_refused_as_often_as_told(
    browser: Browser, market: Simulator, kind: Kind, code: str
) -> None:
    market.faults.inject(kind, count=2)
    assert browser.get().status_code == 200, "a page is no sign-in"
    for _ in range(2):
        response = browser.sign_in("plain", "right")
        assert response.json()["code"] == code
        assert response.json()["error"]
        assert browser.cookies() == {}
    assert browser.sign_in("plain", "right").json()["error"] == ""
    assert market.faults.counts[kind] == 2
    assert market.web_counts["signin"] == 3


def test_the_captcha_is_the_recorded_one(browser: Browser, market: Simulator) -> None:
    market.faults.inject("captcha")
    assert browser.sign_in("plain", "right").json() == recorded("064")


def test_a_code_that_cannot_be_sent_is_told(browser: Browser, market: Simulator) -> None:
    market.faults.inject(Kind.SMS_NOT_SENT)
    assert browser.sign_in("plain", "right").json()["error"] == "", "no code was to be sent"
    browser.session.cookies.clear()
    response = browser.sign_in("phone", "right")
    assert response.json()["code"] == "2FA_challenge_not_generated"
    assert browser.cookies() == {}
    assert browser.sign_in("phone", "right").json()["code"] == "2FA_required"


def test_the_second_step_may_succeed_in_html(browser: Browser, market: Simulator) -> None:
    market.faults.inject(Kind.HTML_FACTOR)
    browser.sign_in("careful", TOTP.password)
    assert browser.factor("000000").status_code == 400, "only a success is told in HTML"
    response = browser.factor(totp(market))
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    assert "auth_token" not in response.text
    assert set(browser.cookies()) == {"sessionid", "sessionid_sign", "device_t"}
    assert browser.token()


@pytest.mark.parametrize(
    ("kind", "status"),
    [(Kind.WEB_ERROR, 503), (Kind.WEB_FORBID, 403), (Kind.WEB_THROTTLE, 429)],
)
def test_any_request_may_be_answered_with_an_error_page(
    browser: Browser, market: Simulator, kind: Kind, status: int
) -> None:
    market.faults.inject(kind, count=4)
    responses = [
        browser.get(),
        browser.sign_in("plain", "right"),
        browser.factor("123456"),
        browser.get("/symbol_search/v3/", params={"text": "AAPL"}),
    ]
    assert [response.status_code for response in responses] == [status] * 4
    assert all(response.text.startswith("<!DOCTYPE html>") for response in responses)
    assert browser.get().status_code == 200
    counts = {"page": 2, "signin": 1, "factor": 1, "search_v3": 1}
    assert market.web_counts == counts, "refused requests are counted too"


def test_a_slow_answer_comes_when_its_time_is_over(browser: Browser, market: Simulator) -> None:
    market.faults.inject(Kind.SLOW_WEB, duration_s=0.3)
    began = time.monotonic()
    assert browser.get().status_code == 200
    assert time.monotonic() - began >= 0.3
    assert market.faults.counts[Kind.SLOW_WEB] == 1


def test_a_slow_answer_does_not_hold_up_the_end_of_the_simulator() -> None:
    simulator = Simulator().start()
    simulator.faults.inject(Kind.SLOW_WEB, duration_s=600)
    failures = []

    def ask() -> None:
        with Browser(simulator) as browser:
            try:
                browser.get()
            except requests.ConnectionError as error:
                failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    eventually(lambda: simulator.faults.counts[Kind.SLOW_WEB], "the request waits")
    simulator.stop()
    thread.join(10)
    assert len(failures) == 1


def test_the_page_may_lack_its_token(browser: Browser, market: Simulator) -> None:
    market.faults.inject(Kind.NO_TOKEN)
    assert browser.token() == ""
    browser.sign_in("plain", "right")
    assert browser.token() == "", "the page of nobody had none to lose"
    assert browser.token()


def test_search_version_3_may_be_gone(browser: Browser, market: Simulator) -> None:
    market.faults.inject(Kind.SEARCH_V3_GONE)
    assert browser.get("/symbol_search/", params={"text": "AAPL"}).status_code == 200
    codes = [browser.get("/symbol_search/v3/").status_code for _ in range(2)]
    assert codes == [404, 200]


def test_the_next_token_may_be_answered_with_a_ban(market: Simulator) -> None:
    with Client(market.url) as bystander, Client(market.url) as client:
        market.faults.inject(Kind.BANNED)
        client.send("set_auth_token", "unauthorized_user_token")
        assert client.until_kind("protocol_error")["p"] == ["banned"]
        client.until_closed()
        assert bystander.ask("BINANCE:BTCUSDT", "1", 2)["m"] == "series_completed"
    assert list(market.faults.log)[-1][0] == 2


def test_faults_that_wait_for_a_request_are_bounded_and_can_be_dropped() -> None:
    faults = Faults()
    for _ in range(5000):
        faults.inject(Kind.WEB_ERROR)
    assert sum(faults.take_request(Kind.WEB_ERROR) is not None for _ in range(5000)) == 1000
    faults.inject(Kind.WEB_ERROR)
    faults.clear()
    assert faults.take_request(Kind.WEB_ERROR) is None


def test_a_fault_of_the_web_can_be_scheduled(browser: Browser, market: Simulator) -> None:
    market.faults.play([(0.0, Fault(Kind.CAPTCHA))])
    assert browser.sign_in("plain", "right").json() == recorded("064")
