"""Asking a web page: bounded in time and size, and why it failed in one line."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

import requests
import urllib3
from requests.auth import AuthBase

from publisher.errors import ConnectFailed

CONNECT_S_MAX: Final = 5.0
BODY_BYTES_MAX: Final = 4 * 1024 * 1024
"""Largest page that is read; beyond, it is given up."""
CHUNK_BYTES: Final = 65_536
REASON_CHARACTERS_MAX: Final = 200

CAUSES_MAX: Final = 10

# No browser is imitated. Compressed, a small page could fill the memory.
_HEADERS: Final = {
    "User-Agent": "Mozilla/5.0 (compatible; tvbus)",
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a page answered, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(
    url: str,
    *,
    method: Literal["GET", "HEAD"] = "GET",
    parameters: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
) -> Reply:
    """Ask a page once, following no redirect.

    `timeout_s` bounds each silence, and the whole of the body.
    Raises ConnectFailed with one line that tells DNS, TLS, a proxy and silence apart.
    """
    end_s = time.monotonic() + timeout_s
    try:
        with requests.Session() as session:
            # What is for this machine only goes through no proxy.
            session.trust_env = url.startswith("https:")
            session.auth = NoCredentials()
            with session.request(
                method,
                url,
                params=parameters,
                headers={**_HEADERS, **(headers or {})},
                timeout=(min(CONNECT_S_MAX, timeout_s), timeout_s),
                allow_redirects=False,
                stream=True,
            ) as response:
                return Reply(response.status_code, response.headers, _read(response, url, end_s))
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise connect_error(url, error) from error


class NoCredentials(AuthBase):
    """Keeps requests from sending what a ~/.netrc says."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Leave the request as it is."""
        return request


def _read(response: requests.Response, url: str, end_s: float) -> bytes:
    body = bytearray()
    while chunk := response.raw.read1(CHUNK_BYTES):
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise ConnectFailed(f"{place(url)} sent more than {BODY_BYTES_MAX} bytes")
        if time.monotonic() > end_s:
            raise ConnectFailed(f"{place(url)} did not finish its answer in time")
    return bytes(body)


def place(url: str) -> str:
    """Return the host and port of an address, fit for messages."""
    return urlsplit(url).netloc.rpartition("@")[2]


def connect_error(url: str, error: Exception) -> ConnectFailed:
    """Say in one line why a page could not be asked."""
    where, causes = place(url), list(_causes(error))
    if isinstance(error, requests.exceptions.ProxyError):
        return ConnectFailed(f"the proxy does not lead to {where}: {_deepest(causes)}")
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return ConnectFailed(
                f"{where} cannot be found: {cause.strerror or cause}; check the network and DNS"
            )
        if isinstance(cause, ssl.SSLError):
            why = getattr(cause, "verify_message", "") or cause.reason or cause
            return ConnectFailed(f"no secure connection to {where}: {why}")
    if any(isinstance(cause, requests.Timeout | TimeoutError) for cause in causes):
        return ConnectFailed(f"{where} did not answer in time")
    return ConnectFailed(f"no answer from {where}: {_deepest(causes)}")


def _deepest(causes: list[BaseException]) -> str:
    """Return what the system said, else the words of the innermost library, on one line."""
    told = [cause for cause in causes if isinstance(cause, OSError) and cause.strerror]
    text = str(told[-1].strerror if told else causes[-1])
    return " ".join(text.split())[:REASON_CHARACTERS_MAX]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what led to it; requests wraps urllib3, which wraps the system's."""
    cause: BaseException | None = error
    for _ in range(CAUSES_MAX):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__
