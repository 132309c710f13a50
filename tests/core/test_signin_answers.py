"""TradingView's answers to a sign-in become typed results; the recorded ones first."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from recordings import needs_recordings, text

from publisher.core.account import Cookies, Session, account_of, clean_cookie
from publisher.core.signin import (
    TEXT_CHARACTERS_MAX,
    Answer,
    CodeWrong,
    FactorWanted,
    Home,
    PageShown,
    Refusal,
    SignedIn,
    choose_factor,
    read_code_answer,
    read_home,
    read_password_answer,
    shown,
)
from publisher.core.tokens import TOKEN_CHARACTERS_MAX
from publisher.errors import (
    AccountStopped,
    ChallengeRequired,
    ConnectFailed,
    CredentialsRejected,
    PublisherError,
    RemoteProtocolError,
    SignInError,
    SignInThrottled,
)

COOKIES = Cookies(SecretStr("s1"), SecretStr("v3:s2"))
IN = {"error": "", "user": {"auth_token": "eyJ.a.b", "username": "Alice"}}


def answer(body: Any, status: int = 200) -> Answer:
    """An answer with JSON, or with a text as it is."""
    return Answer(status, body if isinstance(body, str) else json.dumps(body), COOKIES)


def refused(result: object) -> tuple[type[PublisherError], str, str | None]:
    """What a refusal says."""
    assert isinstance(result, Refusal)
    return type(result.error), str(result.error), result.mark


@needs_recordings
def test_the_recorded_answers_to_a_password_are_read() -> None:
    assert read_password_answer(answer(text("060-signin-2FA_required.json"))) == FactorWanted(
        ("totp",)
    )
    wrong = refused(read_password_answer(answer(text("062-signin-invalid_credentials.json"), 400)))
    assert wrong[0] is CredentialsRejected
    assert "Invalid username or password" in wrong[1]
    assert wrong[2] is None
    captcha = refused(read_password_answer(answer(text("064-signin-recaptcha_required.json"))))
    assert captcha[0] is ChallengeRequired
    assert "tvbus login --cookies" in captcha[1]
    assert captcha[2] == "captcha"


@needs_recordings
def test_the_recorded_success_is_read() -> None:
    result = read_password_answer(answer(text("063-signin-success.json")))
    assert result == SignedIn(SecretStr("REDACTED"), "REDACTED")


@needs_recordings
def test_the_recorded_answer_to_a_wrong_code_is_read() -> None:
    assert read_code_answer(answer(text("061-signin-invalid_totp.json"), 400)) == CodeWrong()


READERS = [read_password_answer, read_code_answer]


@pytest.mark.parametrize("read", READERS)
def test_a_success_has_an_error_too_an_empty_one(read: Any) -> None:
    assert read(answer(IN)) == SignedIn(SecretStr("eyJ.a.b"), "Alice")


@pytest.mark.parametrize("token", [None, "", 7, "x" * (TOKEN_CHARACTERS_MAX + 1)])
def test_a_success_may_come_without_a_token(token: Any) -> None:
    body = {"error": "", "user": {"auth_token": token}}
    assert read_password_answer(answer(body)) == SignedIn(None, "")


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("body", "status", "kind", "words", "mark"),
    [
        (
            {"code": "rate_limit", "error": "You have been locked out"},
            200,
            SignInThrottled,
            "locked out",
            "lock",
        ),
        ({"code": "2FA_challenge_not_generated"}, 200, ChallengeRequired, "could not send", None),
        ({"error": "You are banned!", "code": "x"}, 200, AccountStopped, "You are banned!", "ban"),
        ({"detail": "This account was blocked"}, 400, AccountStopped, "was blocked", "ban"),
        ({"error": "Sorry", "code": "user_banned"}, 200, AccountStopped, "Sorry", "ban"),
        ({"code": "user_blocked"}, 403, AccountStopped, "no reason given", "ban"),
        ({"error": "unblocked soon", "code": ""}, 200, SignInError, "code none: unblocked", None),
        ({"error": "Hm", "code": "new_thing"}, 200, SignInError, "code new_thing: Hm", None),
        ({"code": "new_thing"}, 200, SignInError, "code new_thing: no reason given", None),
        ({"detail": "CSRF Failed"}, 403, SignInError, "CSRF Failed", None),
        ({"detail": "Request was throttled."}, 429, SignInThrottled, "429", "lock"),
        ({"error": "Oops", "code": "internal"}, 503, ConnectFailed, "503", None),
        ({}, 429, SignInThrottled, "429", "lock"),
        ({}, 403, ConnectFailed, "403", None),
        ({}, 500, ConnectFailed, "500", None),
        ({"error": ""}, 200, RemoteProtocolError, "without a user", None),
        ({"user": []}, 200, RemoteProtocolError, "without a user", None),
        ("<html>Too many", 429, SignInThrottled, "429", "lock"),
        ("<html>Forbidden", 403, ConnectFailed, "403", None),
        ("<html>Bad gateway", 502, ConnectFailed, "502", None),
        ("<html>Gone", 404, RemoteProtocolError, "404", None),
        ("[1]", 404, RemoteProtocolError, "404", None),
    ],
)
def test_refusals_say_what_is_wrong(
    read: Any, body: Any, status: int, kind: type[PublisherError], words: str, mark: str | None
) -> None:
    error, message, remembered = refused(read(answer(body, status)))
    assert error is kind
    assert words in message
    assert remembered == mark
    assert "\n" not in message


def test_a_page_in_place_of_the_first_answer_is_no_sign_in() -> None:
    error, message, _ = refused(read_password_answer(answer("<html>hello")))
    assert error is RemoteProtocolError
    assert "TVBUS_WEB_URL" in message


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, PageShown()),
        (204, PageShown()),
        (400, CodeWrong()),
        (401, CodeWrong()),
        (422, CodeWrong()),
    ],
)
def test_a_page_in_place_of_the_second_answer_leaves_it_to_the_cookies(
    status: int, expected: object
) -> None:
    assert read_code_answer(answer("<html>", status)) == expected


@pytest.mark.parametrize(
    ("types", "kinds"),
    [
        ([{"name": "totp"}], ("totp",)),
        ([{"name": "sms", "code_ttl": 60}, {"name": "totp"}], ("sms", "totp")),
        ([{"name": ""}, {"name": 5}, {}, 7, None], ()),
        (None, ()),
        ([{"name": f"k{i}"} for i in range(20)], tuple(f"k{i}" for i in range(8))),
    ],
)
def test_the_kinds_of_second_factor_are_read(types: Any, kinds: tuple[str, ...]) -> None:
    body = {"error": "2FA_required", "code": "2FA_required", "two_factor_types": types}
    assert read_password_answer(answer(body)) == FactorWanted(kinds)


@pytest.mark.parametrize(
    ("kinds", "kind"),
    [(["sms", "totp"], "totp"), (["email", "sms"], "sms"), (["passkey", "email"], "email")],
)
def test_the_factor_that_needs_no_message_comes_first(kinds: list[str], kind: str) -> None:
    assert choose_factor(kinds) == kind


@pytest.mark.parametrize(("kinds", "words"), [(["passkey"], "passkey"), ([], "does not name")])
def test_a_factor_that_nobody_here_knows_needs_a_browser(kinds: list[str], words: str) -> None:
    with pytest.raises(ChallengeRequired, match=words):
        choose_factor(kinds)


@pytest.mark.parametrize(
    ("page", "token"),
    [
        ('<script>var user = {"id":1,"auth_token":"eyJ.x.y","a":1}</script>', "eyJ.x.y"),
        ('{"auth_token" : "abc"}', "abc"),
        ('{"auth_token":""} {"auth_token":"later"}', "later"),
        ('{"auth_token":""}', None),
        ("<html>welcome, stranger</html>", None),
        (f'"auth_token":"{"x" * (TOKEN_CHARACTERS_MAX + 1)}"', None),
    ],
)
def test_the_token_stands_in_the_home_page(page: str, token: str | None) -> None:
    found = read_home(answer(page))
    assert (found and found.token.get_secret_value()) == token


@pytest.mark.parametrize(
    ("page", "nick"),
    [
        ('{"username":"Alice","auth_token":"t"}', "Alice"),
        ('{"auth_token":"t","username" : "Alice"}', "Alice"),
        ('{"auth_token":"t"}', ""),
        (f'{{"auth_token":"t","username":"{"x" * 300}"}}', ""),
    ],
)
def test_the_home_page_may_name_the_user(page: str, nick: str) -> None:
    assert read_home(answer(page)) == Home(SecretStr("t"), nick)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, ConnectFailed), (429, ConnectFailed), (500, ConnectFailed), (404, RemoteProtocolError)],
)
def test_a_home_page_that_does_not_come_says_nothing_of_the_cookies(
    status: int, kind: type[PublisherError]
) -> None:
    with pytest.raises(kind, match=str(status)):
        read_home(answer("<html>", status))


def test_a_page_that_was_cut_off_says_nothing_of_the_cookies() -> None:
    with pytest.raises(RemoteProtocolError, match="longer"):
        read_home(Answer(200, "<html>", COOKIES, whole=False))
    cut_off = Answer(200, '"auth_token":"t"', COOKIES, whole=False)
    assert read_home(cut_off) == Home(SecretStr("t"), "")


@given(st.text(), st.sampled_from([200, 302, 400, 403, 404, 429, 500]))
def test_any_answer_is_read(body: str, status: int) -> None:
    for read in READERS:
        assert read(answer(body, status)) is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(["error", "code", "detail", "user", "two_factor_types"]), json_values
    )
)
def test_any_json_is_read(body: dict[str, Any]) -> None:
    for read in READERS:
        assert read(answer(body)) is not None


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("abc123", "abc123"),
        ("  abc123\n", "abc123"),
        ("sessionid=abc123;", "abc123"),
        ('"abc123"', "abc123"),
        ("v3:AbC/+=", "v3:AbC/+="),
    ],
)
def test_a_cookie_is_taken_as_it_was_copied(typed: str, value: str) -> None:
    assert clean_cookie(SecretStr(typed), "sessionid").get_secret_value() == value


@pytest.mark.parametrize(
    "typed", ["", "  ", "geheim geheim", "a;b", "a\r\nb", "ü", "a" * 4097, 'a"b']
)
def test_what_is_no_cookie_is_refused_without_showing_it(typed: str) -> None:
    with pytest.raises(CredentialsRejected, match="sessionid_sign") as error:
        clean_cookie(SecretStr(typed), "sessionid_sign")
    assert "geheim" not in str(error.value)


def test_a_session_belongs_to_its_user_by_either_name_in_any_case() -> None:
    session = Session(COOKIES, SecretStr("Alice@example.com"), SecretStr("alice"), 0)
    assert session.belongs_to(" ALICE@example.com")
    assert session.belongs_to("Alice")
    assert not session.belongs_to("bob")


def test_a_session_whose_user_is_unknown_may_be_anybodys() -> None:
    assert Session(COOKIES, SecretStr(""), SecretStr(""), 0).belongs_to("bob")


def test_accounts_are_told_apart_without_their_names() -> None:
    assert account_of("Alice ") == account_of("alice")
    assert account_of("alice") != account_of("bob")
    assert "alice" not in account_of("alice")


def test_what_tradingview_says_is_shown_as_one_short_line() -> None:
    assert shown("a\n  b\tc") == "a b c"
    long = shown("x" * 1_000)
    assert len(long) == TEXT_CHARACTERS_MAX
    assert long.endswith("…")


def test_an_answer_prints_neither_body_nor_cookies() -> None:
    printed = repr(answer(IN)) + repr(read_password_answer(answer(IN)))
    assert "eyJ" not in printed
    assert "s1" not in printed
