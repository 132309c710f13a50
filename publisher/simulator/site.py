"""The pages of the simulated TradingView: which request gets which answer."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from publisher.simulator import answers
from publisher.simulator.accounts import Account, Accounts, Outcome, Step
from publisher.simulator.faults import Faults, Kind
from publisher.simulator.search import search_v1, search_v3

REFERER: Final = "https://www.tradingview.com"

_ORIGIN: Final = re.compile(r"https://([\w-]+\.)*tradingview\.com/?")
_SIGN_IN: Final = "/accounts/signin/"
_FACTOR: Final = "/accounts/two-factor/signin/"
_SEARCH: Final = MappingProxyType(
    {"/symbol_search/v3/": "search_v3", "/symbol_search/": "search_v1"}
)
_HTML: Final = "text/html; charset=utf-8"
_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"

_REFUSED: Final = MappingProxyType(
    {
        Kind.WEB_ERROR: HTTPStatus.SERVICE_UNAVAILABLE,
        Kind.WEB_FORBID: HTTPStatus.FORBIDDEN,
        Kind.WEB_THROTTLE: HTTPStatus.TOO_MANY_REQUESTS,
    }
)
_NOT_SIGNED_IN: Final = MappingProxyType(
    {Kind.CAPTCHA: Outcome.CAPTCHA, Kind.RATE_LIMIT: Outcome.RATE_LIMIT}
)


@dataclass(frozen=True, slots=True)
class Request:
    """A web request, read."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = b""

    @property
    def form(self) -> dict[str, str]:
        """The fields of a url-encoded form, the last of each name; empty where it is none."""
        if self.headers.get("content-type", "").partition(";")[0].strip() != _FORM:
            return {}
        return dict(parse_qsl(self.body.decode("latin-1"), keep_blank_values=True))

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies; none where they cannot be read."""
        try:
            morsels = SimpleCookie(self.headers.get("cookie", ""))
        except CookieError:
            return {}
        return {name: morsel.value for name, morsel in morsels.items()}


@dataclass(frozen=True, slots=True)
class Response:
    """A web answer."""

    status: int
    body: bytes
    content_type: str = _HTML
    cookies: Mapping[str, str] = field(default_factory=dict)
    location: str = ""


class Site:
    """Answers web requests. Safe in any thread."""

    def __init__(self, accounts: Accounts, faults: Faults) -> None:
        self.counts: Counter[str] = Counter()
        """How many requests of each sort came, and sign-ins that succeeded: `signin_ok`."""
        self._accounts = accounts
        self._faults = faults
        self._lock = threading.Lock()

    def answer(self, request: Request, now_ms: int) -> Response:
        """Return the answer to a request; `now_ms` is the simulated time."""
        sort = _sort(request)
        if sort is not None:
            self._count(sort)
        if (fault := self._faults.take_request(*_REFUSED)) is not None:
            return _plain(_REFUSED[fault.kind])
        if sort is None:
            known = any(_sort(_as(request, method)) for method in ("GET", "POST"))
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_FOUND)
        if sort == "page":
            return self._page(request, now_ms)
        if sort in _SEARCH.values():
            return self._search(request, sort, now_ms)
        if not request.headers.get("referer", "").startswith(REFERER):
            return _plain(HTTPStatus.FORBIDDEN)
        if sort == "signin":
            return self._sign_in(request, now_ms)
        return self._second_step(request, now_ms)

    def _sign_in(self, request: Request, now_ms: int) -> Response:
        form = request.form
        fault = self._faults.take_request(*_NOT_SIGNED_IN)
        step = self._accounts.sign_in(
            form.get("username", ""),
            form.get("password", ""),
            now_ms,
            _NOT_SIGNED_IN[fault.kind] if fault is not None else None,
            lambda: self._faults.take_request(Kind.SMS_NOT_SENT) is None,
        )
        return self._told(step, now_ms)

    def _second_step(self, request: Request, now_ms: int) -> Response:
        factor = request.path.removeprefix(_FACTOR).removesuffix("/")
        code = request.form.get("code", "")
        step = self._accounts.second_step(request.cookies, factor, code, now_ms)
        response = self._told(step, now_ms)
        if step.outcome is Outcome.SIGNED_IN and self._faults.take_request(Kind.HTML_FACTOR):
            return Response(HTTPStatus.OK, answers.page("en", None), cookies=step.cookies)
        return response

    def _told(self, step: Step, now_ms: int) -> Response:
        if step.account is None:
            return _json(*answers.refusal(step.outcome))
        if step.outcome is Outcome.FACTOR_NEEDED:
            return _json(HTTPStatus.OK, answers.factor_needed(step.account), step.cookies)
        self._count("signin_ok")
        return _json(HTTPStatus.OK, self._signed_in(step.account, now_ms), step.cookies)

    def _signed_in(self, account: Account, now_ms: int) -> dict[str, Any]:
        token = self._accounts.new_token(account, now_ms)
        return answers.signed_in(account, self._accounts.user_id(account), token)

    def _page(self, request: Request, now_ms: int) -> Response:
        account = self._accounts.signed_in(request.cookies)
        language = request.path.strip("/") or "en"
        if account is not None and account.locale and request.path == "/":
            return Response(HTTPStatus.FOUND, b"", location=f"/{account.locale}/")
        if account is None or self._faults.take_request(Kind.NO_TOKEN) is not None:
            return Response(HTTPStatus.OK, answers.page(language, None))
        token = self._accounts.new_token(account, now_ms)
        person = answers.user(account, self._accounts.user_id(account), token)
        return Response(HTTPStatus.OK, answers.page(language, person))

    def _search(self, request: Request, sort: str, now_ms: int) -> Response:
        if not _ORIGIN.fullmatch(request.headers.get("origin", "")):
            return _plain(HTTPStatus.FORBIDDEN)
        query = dict(parse_qsl(request.query, keep_blank_values=True))
        if sort == "search_v1":
            return _json(HTTPStatus.OK, search_v1(query, now_ms))
        if self._faults.take_request(Kind.SEARCH_V3_GONE) is not None:
            return _plain(HTTPStatus.NOT_FOUND)
        return _json(HTTPStatus.OK, search_v3(query, now_ms))

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1


def _sort(request: Request) -> str | None:
    path = request.path
    if request.method == "POST":
        if path == _SIGN_IN:
            return "signin"
        factor = path.removeprefix(_FACTOR)
        return "factor" if factor in {"totp/", "sms/", "email/"} else None
    if path in _SEARCH:
        return _SEARCH[path]
    is_home = path == "/" or (len(path) == 4 and path.endswith("/") and path[1:3].isalpha())
    return "page" if is_home else None


def _as(request: Request, method: str) -> Request:
    return Request(method, request.path, "", {})


def _plain(status: HTTPStatus) -> Response:
    return Response(status, answers.plain_page(f"{status.value} {status.phrase}"))


def _json(
    status: int,
    body: dict[str, Any] | list[dict[str, Any]],
    cookies: Mapping[str, str] | None = None,
) -> Response:
    return Response(status, orjson.dumps(body), _JSON, cookies or {})
