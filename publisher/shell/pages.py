"""TradingView's web pages: sign-in, second factor, home page.

Each request stands alone: cookies are passed in and handed out, and nothing is kept
in between. Redirects are followed here, step by step, so that cookies and passwords
never travel to another site.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from pydantic import SecretStr

from publisher.core.account import Cookies
from publisher.core.signin import Answer
from publisher.errors import ConnectFailed, RemoteProtocolError
from publisher.ports import Clock
from publisher.web import NoCredentials, connect_error, place

CONNECT_TIMEOUT_S: Final = 10.0
READ_TIMEOUT_S: Final = 20.0
"""How long the peer may be mute."""
ANSWER_MS_MAX: Final = 60_000
"""How long one answer may take as a whole, redirects included."""
PAGE_BYTES_MAX: Final = 8 * 1024 * 1024
"""How much of a page is read."""
CHUNK_BYTES: Final = 65_536
REDIRECTS_MAX: Final = 5
DATE_STEP_MS: Final = 1_000
"""A Date header tells whole seconds."""

SITE: Final = "tradingview.com"
AGENT: Final = "Mozilla/5.0 (compatible; tvbus)"
"""Plain and true: no browser is imitated."""


class Pages:
    """TradingView's pages at one address; tells its clock after the first answer."""

    def __init__(self, web_url: str, origin: str, clock: Clock) -> None:
        self._web_url = web_url
        self._clock = clock
        self._headers = {
            "User-Agent": AGENT,
            "Accept-Language": "en",
            "Origin": origin,
            "Referer": origin,
            "X-Requested-With": "XMLHttpRequest",
        }
        self.drift_ms = 0
        """How far this machine's clock is certainly ahead of TradingView's."""

    def server_now_ms(self) -> int:
        """Return TradingView's time, as far as its last answer told."""
        return self._clock.wall_ms() - self.drift_ms

    def sign_in(self, username: SecretStr, password: SecretStr) -> Answer:
        """Send user name and password. Raises ConnectFailed or RemoteProtocolError."""
        form = {
            "username": username.get_secret_value(),
            "password": password.get_secret_value(),
            "remember": "on",
        }
        return self._exchange("/accounts/signin/", form, None)

    def send_code(self, kind: str, code: SecretStr, cookies: Cookies | None) -> Answer:
        """Send a second factor's code. Raises like `sign_in`."""
        form = {"code": code.get_secret_value(), "remember": "on"}
        return self._exchange(f"/accounts/two-factor/signin/{kind}/", form, cookies)

    def home(self, cookies: Cookies) -> Answer:
        """Fetch the home page. Raises like `sign_in`."""
        return self._exchange("/", None, cookies)

    def _exchange(self, path: str, form: dict[str, str] | None, cookies: Cookies | None) -> Answer:
        url = self._web_url + path
        held = _spelled(cookies)
        deadline_ms = self._clock.monotonic_ms() + ANSWER_MS_MAX
        with requests.Session() as session:
            _isolate(session, url)
            for _ in range(REDIRECTS_MAX + 1):
                with self._send(session, url, form, held) as response:
                    held |= _set_cookies(response)
                    if not response.is_redirect:
                        return self._read(response, held, deadline_ms)
                    url = self._next_url(response, moved=form is None)
                    form = None
        raise RemoteProtocolError(f"TradingView redirects more than {REDIRECTS_MAX} times")

    def _send(
        self,
        session: requests.Session,
        url: str,
        form: dict[str, str] | None,
        held: Mapping[str, str],
    ) -> requests.Response:
        headers = dict(self._headers)
        if held:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in held.items())
        method = "GET" if form is None else "POST"
        sent_ms = self._clock.wall_ms()
        try:
            request = session.prepare_request(requests.Request(method, url, headers, data=form))
            # Not `Session.send`: that reads the whole body of a redirect, whatever its size,
            # and would keep cookies for the next request.
            options: Any = session.merge_environment_settings(url, {}, True, None, None)
            timeout = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
            response = session.get_adapter(url).send(request, timeout=timeout, **options)
        except requests.RequestException as error:
            raise connect_error(url, error) from error
        self._compare_clocks(sent_ms, _date_ms(response))
        return response

    def _read(
        self, response: requests.Response, held: Mapping[str, str], deadline_ms: int
    ) -> Answer:
        body = bytearray()
        try:
            for part in _parts(response):
                body += part
                if len(body) > PAGE_BYTES_MAX:
                    break
                if self._clock.monotonic_ms() > deadline_ms:
                    raise ConnectFailed(
                        f"{place(response.url)} takes more than {ANSWER_MS_MAX // 1000} s to answer"
                    )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise connect_error(response.url, error) from error
        return Answer(
            response.status_code,
            bytes(body[:PAGE_BYTES_MAX]).decode("utf-8", "replace"),
            _cookies(held),
            _date_ms(response),
            len(body) <= PAGE_BYTES_MAX,
        )

    def _next_url(self, response: requests.Response, *, moved: bool) -> str:
        """Return where a redirect leads, if cookies may go there.

        A form is sent once, to where the settings say; what follows is fetched.
        """
        if response.status_code in {307, 308} and not moved:
            raise RemoteProtocolError(
                f"TradingView wants the sign-in sent elsewhere ({response.status_code}), "
                "which is not done; is TVBUS_WEB_URL right?"
            )
        try:
            url = urljoin(response.url, response.headers["location"])
            target, base = urlsplit(url), urlsplit(self._web_url)
        except ValueError as error:
            raise RemoteProtocolError("TradingView's page redirects to no address") from error
        at_home = (target.scheme, target.netloc) == (base.scheme, base.netloc)
        host = target.hostname or ""
        at_site = target.scheme == "https" and (host == SITE or host.endswith(f".{SITE}"))
        if not at_home and not at_site:
            raise RemoteProtocolError(
                f"TradingView's page redirects to {target.scheme}://{host}, "
                "where cookies are not sent"
            )
        return url

    def _compare_clocks(self, sent_ms: int, date_ms: int | None) -> None:
        """Bound the drift: the Date was taken between sending and receiving."""
        if date_ms is None:
            return
        least_ms = sent_ms - date_ms - DATE_STEP_MS
        most_ms = self._clock.wall_ms() - date_ms
        self.drift_ms = max(least_ms, 0) + min(most_ms, 0)


def _isolate(session: requests.Session, url: str) -> None:
    session.auth = NoCredentials()
    # A proxy must not read what is only for this machine.
    session.trust_env = url.startswith("https:")


def _parts(response: requests.Response) -> Iterator[bytes]:
    """Yield the body as it comes; a peer that drips cannot hide behind full buffers."""
    while part := response.raw.read1(CHUNK_BYTES, decode_content=True):
        yield part


def _set_cookies(response: requests.Response) -> dict[str, str]:
    return {
        cookie.name: cookie.value
        for cookie in response.cookies
        if cookie.name in {"sessionid", "sessionid_sign", "device_t"} and cookie.value
    }


def _spelled(cookies: Cookies | None) -> dict[str, str]:
    if cookies is None:
        return {}
    parts = {
        "sessionid": cookies.sessionid,
        "sessionid_sign": cookies.sessionid_sign,
        "device_t": cookies.device_t,
    }
    return {name: value.get_secret_value() for name, value in parts.items() if value is not None}


def _cookies(held: Mapping[str, str]) -> Cookies | None:
    if "sessionid" not in held or "sessionid_sign" not in held:
        return None
    secret = {name: SecretStr(value) for name, value in held.items()}
    return Cookies(secret["sessionid"], secret["sessionid_sign"], secret.get("device_t"))


def _date_ms(response: requests.Response) -> int | None:
    """Return the Date header; one that a cache kept tells an older time."""
    if response.headers.get("age", "0").strip() != "0":
        return None
    try:
        return int(parsedate_to_datetime(response.headers.get("date", "")).timestamp() * 1000)
    except (ValueError, TypeError, OverflowError):
        return None
