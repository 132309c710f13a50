"""Bars posted to a real HTTP server: signed, known by a key, and what its answers mean."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from consumer_world import BTC, MINUTE_MS, T0
from web_service import Service

from bus.logs import redact
from consumers.errors import SinkRejected, SinkUnavailable, UsageError
from consumers.sinks import webhook
from consumers.sinks.webhook import WebhookSink, sign
from publisher.wire import Bar, Series

BAR = Bar(
    *(BTC, T0, 100.1, 101.5, 99.25, 100.2, 7.5),
    *(T0 + MINUTE_MS, None, T0 + MINUTE_MS + 41, "next"),
)
SECRET = "planted secret 7Qz"


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service()
    yield running
    running.stop()


@pytest.fixture
def sink(service: Service) -> Iterator[WebhookSink]:
    made = WebhookSink(service.url, SECRET, now_s=lambda: 1_760_000_101.9)
    yield made
    made.close()


def test_a_bar_is_posted_as_json(sink: WebhookSink, service: Service) -> None:
    sink(BAR)
    ((path, headers, body),) = service.requests
    assert path == "/hooks/planted-path-7Qz"
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {
        "series": "BTCUSDT-BINANCE-1m",
        "open_time": "2025-10-09T08:54:00+00:00",
        "open_time_ms": T0,
        "end_time_ms": T0 + MINUTE_MS,
        **{"open": 100.1, "high": 101.5, "low": 99.25, "close": 100.2, "volume": 7.5},
        "previous_open_time_ms": None,
        "received_ms": T0 + MINUTE_MS + 41,
        "closed_by": "next",
        "gap": False,
        "revision": 0,
    }


def test_the_signature_is_that_of_the_standard() -> None:
    # The example of the Standard Webhooks specification.
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("secret", "key"),
    [(SECRET, SECRET.encode()), ("whsec_cGxhbnRlZDdReg==", b"planted7Qz")],
)
def test_what_is_posted_is_signed_with_key_and_time(
    service: Service, secret: str, key: bytes
) -> None:
    sink = WebhookSink(service.url, secret, now_s=lambda: 1_760_000_101.9)
    sink(BAR)
    sink.close()
    ((_, headers, body),) = service.requests
    signed = b"BTCUSDT-BINANCE-1m:1760000040000.1760000101." + body
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-timestamp"] == "1760000101"
    assert headers["webhook-id"] == headers["idempotency-key"]


def test_without_a_secret_nothing_is_signed(service: Service) -> None:
    sink = WebhookSink(service.url)
    sink(BAR)
    sink.close()
    assert "webhook-signature" not in service.requests[0][1]


def test_the_key_names_series_open_time_and_revision(sink: WebhookSink, service: Service) -> None:
    odd = Series("50% Ä", "X", "5m", extended=True)
    sink.write([BAR, BAR, replace(BAR, series=odd)])
    sink.correct(replace(BAR, revision=2))
    assert [headers["idempotency-key"] for _, headers, _ in service.requests] == [
        f"BTCUSDT-BINANCE-1m:{T0}",
        f"BTCUSDT-BINANCE-1m:{T0}",
        f"50%25%20%C3%84-X-5m+extended:{T0}",
        f"BTCUSDT-BINANCE-1m:{T0}:2",
    ]
    assert len(service.connections) == 1, "the connection is used again"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_an_answer_of_2xx_means_kept(sink: WebhookSink, service: Service, status: int) -> None:
    service.status = status
    sink(BAR)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_an_answer_about_the_moment_is_tried_again(
    sink: WebhookSink, service: Service, status: int
) -> None:
    service.status = status
    with pytest.raises(SinkUnavailable, match=f"answered {status}") as caught:
        sink(BAR)
    assert caught.value.retryable
    assert len(service.requests) == 1, "nobody retries in secret"
    service.status = 200
    sink(BAR)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422, 499])
def test_another_answer_of_4xx_is_the_end_of_the_bar(
    sink: WebhookSink, service: Service, status: int
) -> None:
    service.status = status
    with pytest.raises(SinkRejected, match=f"answered {status}") as caught:
        sink(BAR)
    assert not caught.value.retryable
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(sink: WebhookSink, service: Service, status: int) -> None:
    service.status = status
    with pytest.raises(SinkUnavailable, match="give the address that it redirects to") as caught:
        sink(BAR)
    assert len(service.requests) == 1
    assert "planted" not in str(caught.value)


def test_a_mute_service_is_given_up_for_now(
    sink: WebhookSink, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = threading.Event()
    service.answer = lambda _: silent.wait(20)  # type: ignore[assignment,return-value]
    monkeypatch.setattr(webhook, "SILENCE_S_MAX", 0.1)
    with pytest.raises(SinkUnavailable, match=r"did not answer within 0\.1 s"):
        sink(BAR)
    silent.set()


def test_a_connection_that_ends_is_given_up_for_now(sink: WebhookSink, service: Service) -> None:
    service.answer = lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(SinkUnavailable, match="the connection was closed") as caught:
        sink(BAR)
    assert "planted" not in f"{caught.value!r}"


def test_a_service_that_is_not_there_is_told_without_its_path() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    sink = WebhookSink(f"http://127.0.0.1:{port}/planted-path-7Qz?token=planted")
    with pytest.raises(SinkUnavailable) as caught:
        sink(BAR)
    assert str(caught.value) == f"127.0.0.1:{port} cannot be reached: Connection refused"
    shown = "".join(traceback.format_exception(caught.value))
    assert "planted" not in shown, "the library's own error has the path"


def test_a_service_without_tls_is_told(service: Service) -> None:
    sink = WebhookSink(service.url.replace("http://", "https://"))
    with pytest.raises(SinkUnavailable, match="speaks no TLS") as caught:
        sink(BAR)
    assert "planted" not in str(caught.value)


def test_an_endless_answer_is_not_waited_for(
    sink: WebhookSink, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "ANSWER_S_MAX", 0.2)
    monkeypatch.setattr(webhook, "SILENCE_S_MAX", 0.3)
    hold = threading.Event()

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n")
        while not hold.wait(0.01):
            try:
                handler.wfile.write(b"x")
            except OSError:
                return

    service.answer = endless
    sink(BAR)
    hold.set()


def test_credentials_of_the_address_are_sent_and_hidden(service: Service) -> None:
    sink = WebhookSink(service.url.replace("http://", "http://me:planted%40pass@"), SECRET)
    sink(BAR)
    sink.close()
    expected = base64.b64encode(b"me:planted@pass").decode()
    assert service.requests[0][1]["authorization"] == f"Basic {expected}"
    for text in ("planted@pass", "planted%40pass", SECRET, "/hooks/planted-path-7Qz"):
        assert "planted" not in redact(f"x {text} y")


def test_proxies_and_netrc_are_not_for_this_machine(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password planted\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    sink = WebhookSink(service.url)
    sink(BAR)
    assert "authorization" not in service.requests[0][1]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "must be like https://HOST/PATH"),
        ("ftp://planted/x", "must be like https://HOST/PATH"),
        ("https://", "must be like https://HOST/PATH"),
        ("https://h:port/planted", "must be like https://HOST/PATH"),
        ("https://[::1/planted", "must be like https://HOST/PATH"),
        ("http://example.com/planted", "https://, http:// is for this machine only, was 'exam"),
        ("http://10.0.0.1/planted", "was '10.0.0.1'"),
    ],
)
def test_an_address_that_cannot_be_is_refused_without_its_path(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        WebhookSink(url)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://localhost/x", "http://[::1]:8/x", "https://h/x"])
def test_an_address_that_can_be_is_taken(url: str) -> None:
    WebhookSink(url).close()


def test_a_secret_that_is_not_what_it_begins_as_is_refused() -> None:
    with pytest.raises(UsageError, match="Base64 must follow") as caught:
        WebhookSink("https://h/x", "whsec_planted!")
    assert "planted" not in str(caught.value)
