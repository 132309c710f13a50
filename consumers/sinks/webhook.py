"""Bars posted to a web service, signed, in the headers of https://www.standardwebhooks.com."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from http.client import responses
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

import requests
import urllib3
from requests.auth import AuthBase, HTTPBasicAuth

from bus.logs import register_secret
from bus.loopback import is_loopback
from consumers.errors import SinkRejected, SinkUnavailable, UsageError
from consumers.sinks.print import bar_json
from consumers.sinks.sink import Sink
from publisher.wire import Bar

CONNECT_S_MAX: Final = 5.0
SILENCE_S_MAX: Final = 10.0
"""How long the service may be mute before it counts as unreachable."""
ANSWER_BYTES_MAX: Final = 65_536
"""How much of an answer is read, to use the connection again; it says nothing to us."""
ANSWER_S_MAX: Final = 5.0
CAUSES_MAX: Final = 10
_BASE64: Final = "whsec_"
"""How a secret begins that is Base64, as the libraries for receivers have it."""

_RETRYABLE: Final = frozenset((408, 425, 429))
"""Answers that are about the moment, not about the bar: timeout, too early, too many."""


class WebhookSink(Sink):
    """POST each bar as JSON; the service tells repeats by the key in `Idempotency-Key`.

    A 2xx answer means that the bar is kept. 429, 5xx and silence are waited out;
    other answers of 4xx mean that the service will never take this bar.
    """

    def __init__(
        self, url: str, secret: str | None = None, now_s: Callable[[], float] = time.time
    ) -> None:
        """Read where to post; nothing is connected yet. Raises UsageError."""
        parts = _checked(url)
        self._place = parts.netloc.rpartition("@")[2]
        self._url = parts._replace(netloc=self._place, fragment="").geturl()
        self._key = _signing_key(secret)
        self._now_s = now_s
        self._session = requests.Session()
        # What is for this machine only goes through no proxy.
        self._session.trust_env = parts.scheme == "https"
        self._session.auth = _credentials(parts)
        # Services put secrets into paths, too.
        register_secret(f"{parts.path}?{parts.query}" if parts.query else parts.path)
        register_secret(secret)

    def write(self, bars: Sequence[Bar]) -> None:
        """Post bars, one by one. Raises SinkUnavailable and SinkRejected."""
        for bar in bars:
            self._post(bar)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _post(self, bar: Bar) -> None:
        body = bar_json(bar).encode()
        try:
            response = self._session.post(
                self._url,
                data=body,
                headers=self._headers(bar, body),
                timeout=(CONNECT_S_MAX, SILENCE_S_MAX),
                allow_redirects=False,
                stream=True,
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            # The error's own text has the path, which may be a secret.
            raise SinkUnavailable(f"{self._place} {_reason(error)}") from None
        with response:
            _read(response)
        self._judge(response.status_code)

    def _headers(self, bar: Bar, body: bytes) -> dict[str, str]:
        key = f"{bar.series}:{bar.open_time_ms}"
        if bar.revision:
            key += f":{bar.revision}"
        sent_s = str(int(self._now_s()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "tvbus",
            "Idempotency-Key": key,
            "webhook-id": key,
            "webhook-timestamp": sent_s,
        }
        if self._key is not None:
            headers["webhook-signature"] = sign(self._key, key, sent_s, body)
        return headers

    def _judge(self, status: int) -> None:
        if status in range(200, 300):
            return
        if status in range(300, 400):
            raise SinkUnavailable(
                f"{self._place} redirects ({status}): give the address that it redirects to"
            )
        message = f"{self._place} answered {status} {responses.get(status, '')}".rstrip()
        if status in range(400, 500) and status not in _RETRYABLE:
            raise SinkRejected(message)
        raise SinkUnavailable(message)


def sign(key: bytes, name: str, sent_s: str, body: bytes) -> str:
    """Return the signature of a message: HMAC-SHA256 of its name, time and body."""
    signature = hmac.new(key, f"{name}.{sent_s}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signature).decode()}"


class _NoCredentials(AuthBase):
    """Keeps requests from sending what a ~/.netrc says."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise UsageError("the address of a webhook must be like https://HOST/PATH")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise UsageError(
            "a webhook's address must begin with https://, "
            f"http:// is for this machine only, was {parts.hostname!r}"
        )
    return parts


def _credentials(parts: SplitResult) -> AuthBase:
    if parts.username is None:
        return _NoCredentials()
    register_secret(parts.password)
    password = unquote(parts.password or "")
    register_secret(password)
    return HTTPBasicAuth(unquote(parts.username), password)


def _signing_key(secret: str | None) -> bytes | None:
    if not secret:
        return None
    if not secret.startswith(_BASE64):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_BASE64), validate=True)
    except binascii.Error:
        raise UsageError(
            f"TVBUS_WEBHOOK_SECRET begins with {_BASE64}, so Base64 must follow"
        ) from None


def _read(response: requests.Response) -> None:
    """Read the answer, so that the connection can be used again; it may fail to come."""
    end_s = time.monotonic() + ANSWER_S_MAX
    left = ANSWER_BYTES_MAX
    with suppress(urllib3.exceptions.HTTPError, OSError):
        while left > 0 and time.monotonic() < end_s:
            chunk = response.raw.read1(left)
            if not chunk:
                return
            left -= len(chunk)


def _reason(error: BaseException) -> str:
    if isinstance(error, requests.Timeout):
        return f"did not answer within {SILENCE_S_MAX:g} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "has no certificate that this machine trusts, or speaks no TLS"
    if isinstance(error, requests.exceptions.ProxyError):
        return "cannot be reached through the proxy"
    told = [cause.strerror for cause in _causes(error) if isinstance(cause, OSError)]
    told = [text for text in told if text]
    return f"cannot be reached: {told[-1] if told else 'the connection was closed'}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(CAUSES_MAX):
        if cause is None:
            return
        yield cause
        inner = getattr(cause, "reason", None)
        cause = inner if isinstance(inner, BaseException) else cause.__cause__ or cause.__context__
