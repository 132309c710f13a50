"""Every way in and every refusal, against the simulated TradingView over real HTTP."""

from __future__ import annotations

import base64
import hmac
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from publisher_servers import Server
from pydantic import SecretStr
from signin_world import (
    GERMAN,
    MAIL,
    NOW_MS,
    PLAIN,
    SECRET,
    SMS,
    STEP_004217,
    TOTP,
    SigninWorld,
    login,
)

from publisher.core.account import Cookies
from publisher.core.tokens import ANONYMOUS, Token, read_claims
from publisher.errors import (
    AccountStopped,
    ChallengeRequired,
    ConnectFailed,
    CredentialsRejected,
    PublisherError,
    RemoteProtocolError,
    SessionExpired,
    SignInError,
    SignInThrottled,
)
from publisher.shell import pages
from publisher.shell.vault import Stored
from publisher.signing_in import build_access
from publisher.simulator import Account, Simulator

LIFE_MS = 14_400_000
HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("TVBUS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SigninWorld]:
    with SigninWorld(tmp_path) as running:
        yield running


def web_token(expires_ms: int, **claims: Any) -> str:
    """A token that somebody copied from a page."""
    body = json.dumps({"exp": expires_ms // 1000, "iat": 0, "plan": "pro", **claims}).encode()
    return f"eyJhbGciOiJSUzUxMiJ9.{base64.urlsafe_b64encode(body).decode().rstrip('=')}.c2ln"


def cookies_of(world: SigninWorld, account: Account = PLAIN) -> dict[str, str]:
    """The cookies that a browser has after signing in."""
    step = world.site.accounts.sign_in(account.username, account.password, world.site.now_ms())
    return {name: step.cookies[name] for name in ("sessionid", "sessionid_sign")}


def is_good(world: SigninWorld, token: Token) -> bool:
    """Whether the simulated TradingView gave this token out."""
    text = token.text.get_secret_value()
    return world.site._tokens.plan_of(text, world.site.now_ms()) is not None


def test_a_password_is_enough_where_no_second_factor_is_wanted(world: SigninWorld) -> None:
    token = world.access(**login(PLAIN)).obtain()
    assert token.way == "password"
    assert is_good(world, token)
    assert token.claims.expires_ms == NOW_MS + LIFE_MS
    assert token.limits.plan == "pro"
    assert token.server_ms == NOW_MS
    assert token.drift_ms == 0
    assert token.failures == ()
    assert token.account
    assert "alice" not in repr(token)


def test_the_e_mail_address_is_a_user_name_too(world: SigninWorld) -> None:
    token = world.access(username="alice@example.com", password="simple").obtain()
    assert is_good(world, token)
    again = world.access(username="ALICE", password="simple").obtain()
    assert again.way == "stored session"


def test_a_session_is_stored_and_used_by_all_later_starts(world: SigninWorld) -> None:
    first = world.access(**login(TOTP, secret=SECRET)).obtain()
    for _ in range(20):
        token = world.access(**login(TOTP, secret=SECRET)).obtain()
        assert token.way == "stored session"
        assert token.account == first.account
        assert is_good(world, token)
    assert world.count("signin", "factor") == (1, 1)


def test_the_stored_session_needs_no_credential(world: SigninWorld) -> None:
    world.access(**login(PLAIN)).obtain()
    assert world.access().obtain().way == "stored session"


def code_of_the_standard(step: int) -> str:
    digest = hmac.digest(base64.b32decode("JBSWY3DPEHPK3PXP"), step.to_bytes(8, "big"), "sha1")
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4], 'big') & 0x7FFF_FFFF) % 10**6:06d}"


def test_awkward_passwords_and_codes_with_leading_zeros_pass(world: SigninWorld) -> None:
    assert code_of_the_standard(STEP_004217) == "004217"
    assert all(character in TOTP.password for character in '&+%ü"')
    assert is_good(world, world.access(**login(TOTP, secret=SECRET)).obtain())
    assert world.count("signin", "factor", "signin_ok") == (1, 1, 1)
    assert world.waits_s == []


def test_a_page_in_place_of_the_second_answer_is_understood(world: SigninWorld) -> None:
    world.site.faults.inject("html_factor")
    token = world.access(**login(TOTP, secret=SECRET)).obtain()
    assert is_good(world, token)
    assert world.count("signin", "factor", "page") == (1, 1, 1)
    assert world.access().obtain().way == "stored session"


def test_a_page_that_lets_nobody_in_counts_as_a_wrong_code(world: SigninWorld) -> None:
    world.site.faults.inject("html_factor", count=2)
    world.site.faults.inject("no_token", count=2)
    with pytest.raises(SignInError):
        world.access(**login(TOTP, secret=SECRET)).obtain()
    assert world.access().obtain() == ANONYMOUS


def test_a_locale_of_its_own_is_followed(world: SigninWorld) -> None:
    world.access(**login(GERMAN)).obtain()
    assert world.access().obtain().way == "stored session"
    assert world.count("page") == (2,)


def test_a_code_is_not_sent_in_the_last_moments_of_its_step(world: SigninWorld) -> None:
    world.wait(23.5)
    world.waits_s.clear()
    world.access(**login(TOTP, secret=SECRET)).obtain()
    assert world.waits_s == [1.5]
    assert world.count("factor") == (1,)


def test_a_wrong_secret_is_tried_in_two_steps_and_no_more(world: SigninWorld) -> None:
    access = world.access(**login(TOTP, secret="A" * 16))
    with pytest.raises(CredentialsRejected, match=r"TVBUS_TOTP_SECRET.*") as refused:
        access.obtain()
    assert "clock agrees" in str(refused.value)
    assert world.waits_s == [25.0]
    assert world.count("signin", "factor") == (1, 2)


def test_a_code_that_was_used_elsewhere_is_followed_by_the_next(world: SigninWorld) -> None:
    world.access(**login(TOTP, secret=SECRET), state_dir=world.folder / "other").obtain()
    assert world.waits_s == []
    token = world.access(**login(TOTP, secret=SECRET)).obtain()
    assert is_good(world, token)
    assert world.waits_s == [25.0]
    assert world.count("factor") == (3,)


def test_no_step_is_tried_twice_by_the_processes_of_a_machine(world: SigninWorld) -> None:
    world.access(**login(TOTP, secret=SECRET)).obtain()
    world.site.accounts.end_sessions(TOTP.username)
    token = world.access(**login(TOTP, secret=SECRET)).obtain()
    assert token.way == "password"
    assert world.waits_s == [25.0]
    assert world.count("factor") == (2,)


@pytest.mark.parametrize("ahead_ms", [HOUR_MS, -HOUR_MS])
def test_codes_follow_tradingviews_clock_not_the_machines(
    world: SigninWorld, ahead_ms: int
) -> None:
    world.clock.wall += ahead_ms
    token = world.access(**login(TOTP, secret=SECRET)).obtain()
    assert is_good(world, token)
    assert world.count("factor") == (1,)
    assert abs(token.drift_ms - ahead_ms) <= 1_000
    assert token.server_ms == NOW_MS


def test_a_wrong_code_tells_of_a_wrong_clock(world: SigninWorld) -> None:
    world.clock.wall += HOUR_MS
    with pytest.raises(CredentialsRejected, match="3599 s ahead of TradingView's"):
        world.access(**login(TOTP, secret="A" * 16)).obtain()


def test_a_secret_that_is_none_costs_no_sign_in(world: SigninWorld) -> None:
    with pytest.raises(CredentialsRejected, match="not a base32 secret") as refused:
        world.access(**login(TOTP, secret="004217")).obtain()
    assert "004217" not in str(refused.value)
    assert world.count("signin") == (0,)


@pytest.mark.parametrize(
    ("account", "words"),
    [(TOTP, "set TVBUS_TOTP_SECRET"), (SMS, r"\(sms\)"), (MAIL, r"\(email\)")],
)
def test_a_factor_that_a_person_has_needs_a_person(
    world: SigninWorld, account: Account, words: str
) -> None:
    with pytest.raises(ChallengeRequired, match=words) as refused:
        world.access(**login(account)).obtain()
    assert "tvbus login" in str(refused.value)
    assert world.count("signin", "factor") == (1, 0)


def test_a_code_that_could_not_be_sent_is_told(world: SigninWorld) -> None:
    world.site.faults.inject("sms_not_sent")
    with pytest.raises(ChallengeRequired, match="could not send the code"):
        world.access(**login(SMS)).obtain()


def test_a_wrong_password_is_told_without_showing_it(world: SigninWorld) -> None:
    with pytest.raises(CredentialsRejected, match="Invalid username or password") as refused:
        world.access(username="alice", password="geheim").obtain()
    assert "geheim" not in str(refused.value)
    assert world.count("signin") == (1,)


def test_after_a_captcha_nothing_reaches_tradingview(world: SigninWorld) -> None:
    world.site.faults.inject("captcha")
    for _ in range(3):
        with pytest.raises(ChallengeRequired, match="tvbus login --cookies"):
            world.access(**login(PLAIN)).obtain()
    assert world.count("signin") == (1,)
    world.wait(24 * 3_600)
    assert is_good(world, world.access(**login(PLAIN)).obtain())


@pytest.mark.parametrize(
    ("fault", "words"), [("rate_limit", "locked out"), ("web_throttle", "429")]
)
def test_after_a_lock_nothing_reaches_tradingview_for_an_hour(
    world: SigninWorld, fault: str, words: str
) -> None:
    world.site.faults.inject(fault)
    with pytest.raises(SignInThrottled, match=words):
        world.access(**login(PLAIN)).obtain()
    with pytest.raises(SignInThrottled, match=words) as refused:
        world.access(**login(PLAIN)).obtain()
    assert refused.value.retry_at_ms == NOW_MS + HOUR_MS
    assert refused.value.retryable
    assert world.count("signin") == (1,)
    world.wait(3_600)
    assert is_good(world, world.access(**login(PLAIN)).obtain())


@pytest.mark.parametrize(("fault", "words"), [("web_forbid", "403"), ("web_error", "503")])
def test_pages_that_do_not_work_are_tried_again_within_the_budget(
    world: SigninWorld, fault: str, words: str
) -> None:
    world.site.faults.inject(fault, count=2)
    for _ in range(2):
        with pytest.raises(ConnectFailed, match=words) as failed:
            world.access(**login(PLAIN)).obtain()
        assert failed.value.retryable
    with pytest.raises(SignInThrottled, match="2 an hour, 4 a day"):
        world.access(**login(PLAIN)).obtain()
    assert world.count("signin") == (2,)


def test_a_mute_page_is_given_up(world: SigninWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "READ_TIMEOUT_S", 0.2)
    world.site.faults.inject("slow_web", duration_s=30)
    with pytest.raises(ConnectFailed, match="did not answer in time"):
        world.access(**login(PLAIN)).obtain()


def test_a_crash_in_the_middle_of_a_sign_in_counts(
    world: SigninWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    for _ in range(2):
        access = world.access(**login(PLAIN))
        assert world.means is not None
        monkeypatch.setattr(world.means.pages, "sign_in", crash)
        with pytest.raises(KeyboardInterrupt):
            access.obtain()
    with pytest.raises(SignInThrottled):
        world.access(**login(PLAIN)).obtain()


def test_two_publishers_of_a_bus_share_the_budget(world: SigninWorld, valkey: Server) -> None:
    with valkey.client() as client:
        client.flushall()
    wrong = {"username": "alice", "password": "wrong", "redis_url": valkey.url}
    for name in ("one", "other"):
        with pytest.raises(CredentialsRejected):
            world.access(**wrong, state_dir=world.folder / name).obtain()
    for name in ("one", "other", "third"):
        with pytest.raises(SignInThrottled):
            world.access(**wrong, state_dir=world.folder / name).obtain()
    assert world.count("signin") == (2,)


def test_a_captcha_that_one_publisher_met_holds_for_the_other(
    world: SigninWorld, valkey: Server
) -> None:
    with valkey.client() as client:
        client.flushall()
    world.site.faults.inject("captcha")
    for name in ("one", "other"):
        place = {"redis_url": valkey.url, "state_dir": world.folder / name}
        access = world.access(**login(PLAIN), **place)
        with pytest.raises(ChallengeRequired):
            access.obtain()
    assert world.count("signin") == (1,)


def test_cookies_of_a_browser_give_tokens(world: SigninWorld) -> None:
    token = world.access(**cookies_of(world)).obtain()
    assert token.way == "cookies"
    assert is_good(world, token)
    assert world.count("signin", "page") == (0, 1)
    assert not (world.folder / "state" / "signin" / "session").exists()


def test_cookies_are_taken_as_they_were_copied(world: SigninWorld) -> None:
    cookies = cookies_of(world)
    copied = {
        "sessionid": f" sessionid={cookies['sessionid']};",
        "sessionid_sign": f"\t{cookies['sessionid_sign']}\n",
    }
    assert is_good(world, world.access(**copied).obtain())


def test_what_is_no_cookie_never_leaves_the_machine(world: SigninWorld) -> None:
    with pytest.raises(CredentialsRejected, match="sessionid"):
        world.access(sessionid="a b", sessionid_sign="v3:x").obtain()
    assert world.count("page") == (0,)


def test_wrong_cookies_are_told(world: SigninWorld) -> None:
    with pytest.raises(SessionExpired, match="TVBUS_SESSIONID and TVBUS_SESSIONID_SIGN") as told:
        world.access(sessionid="geheim", sessionid_sign="v3:geheim").obtain()
    assert "geheim" not in str(told.value)


def test_a_refused_token_of_cookies_is_replaced(world: SigninWorld) -> None:
    access = world.access(**cookies_of(world))
    first = access.obtain()
    second = access.obtain(rejected=first)
    assert second.way == "cookies"
    assert second.text != first.text
    assert is_good(world, second)


def test_cookies_whose_new_token_is_refused_too_are_given_up(world: SigninWorld) -> None:
    access = world.access(**cookies_of(world))
    second = access.obtain(rejected=access.obtain())
    with pytest.raises(SessionExpired, match="refuses the new token"):
        access.obtain(rejected=second)


def test_a_new_token_that_lived_its_life_is_replaced_again(world: SigninWorld) -> None:
    access = world.access(**cookies_of(world))
    token = access.obtain()
    for _ in range(10):
        ended = replace(token, claims=replace(token.claims, expires_ms=world.site.now_ms()))
        token = access.obtain(rejected=ended)
    assert is_good(world, token)


def test_a_new_token_that_held_for_a_while_is_replaced_again(world: SigninWorld) -> None:
    access = world.access(**cookies_of(world))
    second = access.obtain(rejected=access.obtain())
    world.wait(3_600)
    assert is_good(world, access.obtain(rejected=second))


def test_a_page_that_gives_the_refused_token_again_is_no_use(world: SigninWorld) -> None:
    access = world.access(**cookies_of(world))
    first = access.obtain()
    world.site._site._accounts.new_token = (  # type: ignore[method-assign]
        lambda *_: first.text.get_secret_value()
    )
    with pytest.raises(SessionExpired, match="gives the token again"):
        access.obtain(rejected=first)


def test_a_home_page_without_a_token_means_that_the_cookies_ended(world: SigninWorld) -> None:
    access = world.access(**cookies_of(world))
    world.site.faults.inject("no_token")
    with pytest.raises(SessionExpired, match="no longer"):
        access.obtain()


@pytest.mark.parametrize("fault", ["web_error", "web_forbid", "web_throttle"])
def test_a_home_page_that_does_not_come_says_nothing_of_the_cookies(
    world: SigninWorld, fault: str
) -> None:
    access = world.access(**cookies_of(world), **login(PLAIN), allow_anonymous=True)
    world.site.faults.inject(fault)
    with pytest.raises(ConnectFailed):
        access.obtain()
    assert access.obtain().way == "cookies"
    assert world.count("signin") == (0,)


def test_cookies_that_ended_pass_on_to_the_password(world: SigninWorld) -> None:
    token = world.access(sessionid="x", sessionid_sign="v3:y", **login(PLAIN)).obtain()
    assert token.way == "password"
    assert len(token.failures) == 1
    assert "TVBUS_SESSIONID" in token.failures[0]


def test_a_stored_session_that_ended_passes_on_to_the_password(world: SigninWorld) -> None:
    world.access(**login(PLAIN)).obtain()
    world.site.accounts.end_sessions("alice")
    token = world.access(**login(PLAIN)).obtain()
    assert token.way == "password"
    assert "stored session is no use" in token.failures[0]
    assert world.access(**login(PLAIN)).obtain().way == "stored session"


def test_a_stored_session_that_ended_is_told_where_nothing_else_is_left(
    world: SigninWorld,
) -> None:
    world.access(**login(PLAIN)).obtain()
    world.site.accounts.end_sessions("alice")
    with pytest.raises(SessionExpired, match="run `tvbus login` again"):
        world.access().obtain()


def test_a_refused_token_of_a_password_is_replaced_by_the_stored_session(
    world: SigninWorld,
) -> None:
    access = world.access(**login(PLAIN))
    token = access.obtain(rejected=access.obtain())
    assert token.way == "stored session"
    assert world.count("signin") == (1,)


def test_another_users_stored_session_is_not_used(world: SigninWorld) -> None:
    world.access(**login(PLAIN)).obtain()
    token = world.access(**login(GERMAN)).obtain()
    assert token.way == "password"
    assert "another user than TVBUS_USERNAME" in token.failures[0]
    assert world.access(**login(GERMAN)).obtain().way == "stored session"


def test_a_given_token_comes_first_and_asks_nobody(world: SigninWorld) -> None:
    text = web_token(NOW_MS + 1_000)
    token = world.access(auth_token=text, **cookies_of(world), **login(PLAIN)).obtain()
    assert token.way == "token"
    assert token.text == SecretStr(text)
    assert token.limits.plan == "pro"
    assert not world.site.web_counts


def test_a_given_token_that_cannot_be_read_is_used_all_the_same(world: SigninWorld) -> None:
    token = world.access(auth_token="widget_user_token").obtain()
    assert token.way == "token"
    assert token.claims == read_claims("")


def test_a_given_token_that_ended_says_when_and_what_to_do(world: SigninWorld) -> None:
    with pytest.raises(SessionExpired, match=r"expired at 2024-05-10 19:39:00Z.*tvbus login"):
        world.access(auth_token=web_token(1_715_369_940_000)).obtain()


def test_a_given_token_that_ended_passes_on(world: SigninWorld) -> None:
    token = world.access(auth_token=web_token(NOW_MS - 1), **cookies_of(world)).obtain()
    assert token.way == "cookies"
    assert "TVBUS_AUTH_TOKEN expired" in token.failures[0]


def test_a_given_token_that_was_refused_is_never_tried_again(world: SigninWorld) -> None:
    access = world.access(auth_token=web_token(NOW_MS + LIFE_MS), **cookies_of(world))
    second = access.obtain(rejected=access.obtain())
    assert second.way == "cookies"
    assert "TVBUS_AUTH_TOKEN is accepted no longer" in second.failures[0]
    assert access.obtain().way == "cookies"


def test_a_given_token_that_was_refused_cannot_be_replaced(world: SigninWorld) -> None:
    access = world.access(auth_token=web_token(NOW_MS + LIFE_MS))
    with pytest.raises(SessionExpired, match="copy a new one"):
        access.obtain(rejected=access.obtain())


def test_each_way_that_failed_is_told(world: SigninWorld) -> None:
    world.access(**login(PLAIN)).obtain()
    world.site.accounts.end_sessions("alice")
    token = world.access(
        auth_token=web_token(NOW_MS - 1), sessionid="x", sessionid_sign="y", **login(PLAIN)
    ).obtain()
    assert token.way == "password"
    first, second, third = token.failures
    assert first.startswith("TVBUS_AUTH_TOKEN expired")
    assert second.startswith("TVBUS_SESSIONID and TVBUS_SESSIONID_SIGN are no use")
    assert third.startswith("the stored session is no use")


def test_nobody_signs_in_where_nothing_is_configured(world: SigninWorld) -> None:
    assert world.access().obtain() == ANONYMOUS
    assert not world.site.web_counts


def test_nobody_who_is_refused_has_no_other_way(world: SigninWorld) -> None:
    with pytest.raises(SignInError, match="tvbus login"):
        world.access().obtain(rejected=ANONYMOUS)


FAILING: list[tuple[dict[str, Any], str]] = [
    ({"auth_token": web_token(NOW_MS - 1)}, "expired"),
    ({"sessionid": "x", "sessionid_sign": "y"}, "TVBUS_SESSIONID"),
    ({"sessionid": "x x", "sessionid_sign": "y"}, "cookie"),
    ({"username": "alice", "password": "wrong"}, "Invalid username"),
    (login(SMS), "sms"),
    (login(TOTP, secret="!"), "base32"),
]


@pytest.mark.parametrize(("values", "words"), FAILING)
def test_a_sign_in_that_fails_is_never_anonymous_by_itself(
    world: SigninWorld, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(SignInError, match=words) as failed:
        world.access(**values).obtain()
    assert not failed.value.retryable


@pytest.mark.parametrize(("values", "words"), FAILING)
def test_a_sign_in_that_fails_is_anonymous_where_that_is_allowed(
    world: SigninWorld, values: dict[str, Any], words: str
) -> None:
    token = world.access(**values, allow_anonymous=True).obtain()
    assert token.anonymous
    assert words in token.failures[-1]


def test_nobody_who_is_refused_hears_why_the_sign_in_failed(world: SigninWorld) -> None:
    access = world.access(username="alice", password="wrong", allow_anonymous=True)
    token = access.obtain()
    with pytest.raises(CredentialsRejected):
        access.obtain(rejected=token)


@pytest.mark.parametrize(
    ("fault", "kind"), [("rate_limit", SignInThrottled), ("web_error", ConnectFailed)]
)
def test_what_may_go_well_later_is_never_anonymous(
    world: SigninWorld, fault: str, kind: type[PublisherError]
) -> None:
    world.site.faults.inject(fault)
    with pytest.raises(kind):
        world.access(**login(PLAIN), allow_anonymous=True).obtain()


def test_a_ban_stops_every_way_until_a_person_acts(world: SigninWorld) -> None:
    access = world.access(**login(PLAIN))
    access.obtain()
    assert world.means is not None
    access.stop("banned, said the websocket")
    before = dict(world.site.web_counts)
    for values in (
        {},
        login(PLAIN),
        {"auth_token": "x"},
        {"sessionid": "x", "sessionid_sign": "y"},
        {"allow_anonymous": True},
    ):
        with pytest.raises(AccountStopped, match="banned, said the websocket"):
            world.access(**values).obtain()
    assert world.site.web_counts == before
    assert world.means.governor.stopped() == "banned, said the websocket"
    world.means.governor.forgive()
    assert world.access().obtain().way == "stored session"


def test_a_session_file_that_is_damaged_is_not_anonymous(world: SigninWorld) -> None:
    world.access(**login(PLAIN)).obtain()
    path = world.folder / "state" / "signin" / "session"
    path.write_bytes(b"{damaged")
    with pytest.raises(SessionExpired, match="is damaged"):
        world.access().obtain()
    assert world.access(**login(PLAIN)).obtain().way == "password"
    assert world.access().obtain().way == "stored session"


def test_a_session_file_that_others_can_read_is_refused(world: SigninWorld) -> None:
    world.access(**login(PLAIN)).obtain()
    path = world.folder / "state" / "signin" / "session"
    path.chmod(0o640)
    with pytest.raises(SignInError, match=f"chmod 600 {path}"):
        world.access(**login(PLAIN)).obtain()
    assert world.count("signin") == (1,)


def test_a_session_that_cannot_be_stored_signs_in_all_the_same(
    world: SigninWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = world.access(**login(PLAIN))
    assert world.means is not None

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(world.means.vault, "save", full)
    assert is_good(world, access.obtain())


def test_a_session_that_is_not_encrypted_for_a_reason_says_so(
    world: SigninWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = world.access(**login(PLAIN))
    assert world.means is not None
    monkeypatch.setattr(world.means.vault, "save", lambda _: Stored("plain", "locked"))
    with structlog.testing.capture_logs() as logs:
        access.obtain()
    assert [(line["event"], line["reason"]) for line in logs] == [("signin.unencrypted", "locked")]


def test_cookies_that_tradingview_changed_are_stored(
    world: SigninWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.access(**login(PLAIN)).obtain()
    access = world.access()
    assert world.means is not None
    real = world.means.pages.home
    changed = Cookies(SecretStr("new"), SecretStr("v3:new"))
    monkeypatch.setattr(
        world.means.pages, "home", lambda cookies: replace(real(cookies), cookies=changed)
    )
    assert is_good(world, access.obtain())
    stored = world.means.vault.load()
    assert stored is not None
    assert stored.cookies == changed
    assert stored.nick == SecretStr("alice")


def test_the_real_parts_fit_together(tmp_path: Path) -> None:
    account = Account("real", "simple", totp_secret=SECRET)
    with Simulator(accounts=[account]) as site, SigninWorld(tmp_path) as world:
        settings = world.settings(web_url=site.web_url, **login(account, secret=SECRET))
        token = build_access(settings, None).obtain()
        assert token.way == "password"
        assert build_access(settings, "redis://127.0.0.1:1").obtain().way == "stored session"
        assert abs(token.drift_ms) <= 1_000
        assert site.web_counts["signin"] == 1


def test_no_session_of_a_sign_in_without_cookies_is_stored(
    world: SigninWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = world.access(**login(PLAIN))
    assert world.means is not None
    real = world.means.pages.sign_in
    monkeypatch.setattr(
        world.means.pages, "sign_in", lambda *parts: replace(real(*parts), cookies=None)
    )
    assert is_good(world, access.obtain())
    assert world.access().obtain() == ANONYMOUS


def test_a_token_that_the_answer_lacks_is_on_the_home_page(
    world: SigninWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = world.access(**login(PLAIN))
    assert world.means is not None
    real = world.means.pages.sign_in
    bare = json.dumps({"error": "", "user": {}})
    monkeypatch.setattr(
        world.means.pages, "sign_in", lambda *parts: replace(real(*parts), body=bare)
    )
    assert is_good(world, access.obtain())
    assert world.count("signin", "page") == (1, 1)


def test_a_second_step_without_cookies_is_told(
    world: SigninWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = world.access(**login(TOTP, secret=SECRET))
    assert world.means is not None
    world.site.faults.inject("html_factor")
    real = world.means.pages.send_code
    monkeypatch.setattr(
        world.means.pages, "send_code", lambda *parts: replace(real(*parts), cookies=None)
    )
    with pytest.raises(RemoteProtocolError, match="set no cookies"):
        access.obtain()


def test_a_sign_in_that_gives_nothing_is_told(
    world: SigninWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = world.access(**login(PLAIN))
    assert world.means is not None
    real = world.means.pages.sign_in
    empty = json.dumps({"error": "", "user": {}})
    monkeypatch.setattr(
        world.means.pages,
        "sign_in",
        lambda *parts: replace(real(*parts), cookies=None, body=empty),
    )
    with pytest.raises(RemoteProtocolError, match="neither token nor cookies"):
        access.obtain()
