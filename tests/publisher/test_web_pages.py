"""A page is asked for within bounds, and each way to fail has a line of its own."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from web_pages import serve, serve_raw

from publisher.errors import ConnectFailed
from publisher.web import BODY_BYTES_MAX, ask

HEAD = b"HTTP/1.1 200 OK\r\n"


def mute(connection: socket.socket, ended: threading.Event) -> None:
    connection.recv(65536)
    ended.wait()


def close(connection: socket.socket, ended: threading.Event) -> None:
    connection.recv(65536)


def babble(connection: socket.socket, ended: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"220 mail.example\r\nready")


def short(connection: socket.socket, ended: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(HEAD + b"Content-Length: 100\r\n\r\nabc")


def trickle(connection: socket.socket, ended: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
    while not ended.wait(0.02):
        connection.sendall(b"x")


@pytest.mark.parametrize(
    ("talk", "words"),
    [
        (mute, "did not answer in time"),
        (close, "no answer from 127.0.0.1:[0-9]+: "),
        (babble, "no answer from 127.0.0.1:[0-9]+: "),
        (short, "IncompleteRead"),
        (trickle, "did not finish its answer in time"),
    ],
)
def test_a_server_that_misbehaves_is_told_in_one_line(talk, words: str) -> None:  # type: ignore[no-untyped-def]
    with serve_raw(talk) as port, pytest.raises(ConnectFailed, match=words) as caught:
        ask(f"http://127.0.0.1:{port}/", timeout_s=0.3)
    assert "\n" not in str(caught.value)


def test_a_body_that_trickles_ends_at_the_time_out() -> None:
    with serve_raw(trickle) as port:
        begun_s = time.monotonic()
        with pytest.raises(ConnectFailed):
            ask(f"http://127.0.0.1:{port}/", timeout_s=0.3)
        assert time.monotonic() - begun_s < 5, "100,000 bytes would take half an hour"


def test_tls_where_there_is_none_is_told() -> None:
    with serve_raw(babble) as port, pytest.raises(ConnectFailed, match="no secure connection to"):
        ask(f"https://127.0.0.1:{port}/", timeout_s=2)


def test_a_name_that_does_not_exist_is_told() -> None:
    with pytest.raises(ConnectFailed, match=r"nowhere\.invalid cannot be found: .*check the net"):
        ask("https://nowhere.invalid/")


def test_a_port_where_nobody_listens_is_told() -> None:
    with pytest.raises(ConnectFailed, match=r"127\.0\.0\.1:1: Connection refused"):
        ask("http://127.0.0.1:1/")


def test_a_proxy_that_leads_nowhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hush@127.0.0.1:1")
    with pytest.raises(ConnectFailed, match=r"the proxy does not lead to example\.com") as caught:
        ask("https://example.com/")
    assert "hush" not in str(caught.value)


def test_a_page_that_never_ends_is_given_up() -> None:
    with (
        serve(lambda *_: (200, b"x" * (BODY_BYTES_MAX + 1))) as pages,
        pytest.raises(ConnectFailed, match=f"more than {BODY_BYTES_MAX} bytes"),
    ):
        ask(pages.url)


def test_a_redirect_is_an_answer_and_a_status_no_error() -> None:
    with serve(lambda *_: (302, b"")) as pages:
        pages.location = pages.url + "/elsewhere"
        assert ask(pages.url, parameters={"text": "M&M ü"}).status == 302
        assert pages.asked == [("/", {"text": "M&M ü"})]
        assert pages.headers[0]["Accept-Encoding"] == "identity"


def test_a_head_brings_the_headers_alone() -> None:
    with serve(lambda *_: (200, b"page")) as pages:
        pages.date = "Tue, 24 Nov 2026 12:00:00 GMT"
        reply = ask(pages.url, method="HEAD")
        assert (reply.status, reply.body) == (200, b"")
        assert reply.headers["date"] == "Tue, 24 Nov 2026 12:00:00 GMT"
