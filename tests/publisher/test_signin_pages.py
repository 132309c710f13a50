"""What can go wrong between this machine and TradingView's pages, over real sockets."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from publisher_servers import free_port
from publisher_world import FakeClock
from pydantic import SecretStr

from publisher.core.account import Cookies
from publisher.errors import ConnectFailed, PublisherError, RemoteProtocolError
from publisher.settings import ORIGIN
from publisher.shell import pages as module
from publisher.shell.clock import SystemClock
from publisher.shell.pages import PAGE_BYTES_MAX, REDIRECTS_MAX, Pages

COOKIES = Cookies(SecretStr("geheim-id"), SecretStr("v3:geheim-sign"), SecretStr("geheim-device"))
DATE = "Tue, 14 Nov 2023 22:14:00 GMT"
DATE_MS = 1_700_000_040_000

Reply = Callable[[BaseHTTPRequestHandler], None]


class Scripted:
    """A web server that answers what a test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.requests: list[tuple[str, str, dict[str, str], str]] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length).decode()
                headers = {name.lower(): value for name, value in self.headers.items()}
                script.requests.append((self.command, self.path, headers, body))
                # A client that has seen enough goes away.
                with contextlib.suppress(OSError):
                    script.replies[self.path](self)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None: ...

            def date_time_string(self, timestamp: float | None = None) -> str:
                return DATE

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def says(status: int = 200, body: bytes = b"<html>", **headers: str) -> Reply:
    """Answer so; `_` in a header's name stands for `-`."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            for each in value.split("\n"):
                handler.send_header(name.replace("_", "-"), each)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return reply


@pytest.fixture
def script() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.stop()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def pages(script: Scripted, clock: FakeClock) -> Pages:
    return Pages(script.url, ORIGIN, clock)


def test_a_sign_in_is_a_url_encoded_form_with_the_headers_of_the_site(
    script: Scripted, pages: Pages
) -> None:
    script.replies["/accounts/signin/"] = says(body=b"{}")
    pages.sign_in(SecretStr("a@b.c"), SecretStr('p&s+w%r=d ü"'))
    [(method, _, headers, body)] = script.requests
    assert method == "POST"
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert headers["referer"] == headers["origin"] == "https://www.tradingview.com"
    assert headers["x-requested-with"] == "XMLHttpRequest"
    assert headers["accept-language"] == "en"
    assert headers["user-agent"].startswith("Mozilla/5.0")
    assert "cookie" not in headers
    assert parse_qs(body) == {
        "username": ["a@b.c"],
        "password": ['p&s+w%r=d ü"'],
        "remember": ["on"],
    }


def test_a_code_is_sent_as_text_with_the_cookies_of_the_first_step(
    script: Scripted, pages: Pages
) -> None:
    script.replies["/accounts/two-factor/signin/sms/"] = says(body=b"{}")
    pages.send_code("sms", SecretStr("004217"), COOKIES)
    [(_, _, headers, body)] = script.requests
    assert parse_qs(body)["code"] == ["004217"]
    assert headers["cookie"] == (
        "sessionid=geheim-id; sessionid_sign=v3:geheim-sign; device_t=geheim-device"
    )


def test_new_cookies_replace_those_that_were_sent(script: Scripted, pages: Pages) -> None:
    script.replies["/"] = says(Set_Cookie="sessionid=new; Path=/\nother=x\nsessionid_sign=v3:n")
    cookies = pages.home(COOKIES).cookies
    assert cookies == Cookies(SecretStr("new"), SecretStr("v3:n"), SecretStr("geheim-device"))


def test_a_cookie_that_is_taken_back_does_not_count(script: Scripted, pages: Pages) -> None:
    script.replies["/"] = says(Set_Cookie='sessionid=""; expires=Thu, 01 Jan 1970 00:00:00 GMT')
    assert pages.home(COOKIES).cookies == COOKIES


@pytest.mark.parametrize("set_cookie", ["sessionid=a", "sessionid_sign=b", "device_t=c", "x=y"])
def test_half_a_session_is_none(script: Scripted, pages: Pages, set_cookie: str) -> None:
    script.replies["/accounts/signin/"] = says(Set_Cookie=set_cookie)
    assert pages.sign_in(SecretStr("u"), SecretStr("p")).cookies is None


def test_redirects_are_followed_with_the_cookies(script: Scripted, pages: Pages) -> None:
    script.replies["/"] = says(302, Location="/de/", Set_Cookie="sessionid=new")
    script.replies["/de/"] = says(body="grüß".encode())
    answer = pages.home(COOKIES)
    assert answer.body == "grüß"
    assert answer.cookies is not None
    assert answer.cookies.sessionid == SecretStr("new")
    assert "sessionid=new" in script.requests[1][2]["cookie"]


def test_a_form_that_is_redirected_is_followed_without_the_form(
    script: Scripted, pages: Pages
) -> None:
    script.replies["/accounts/signin/"] = says(302, Location="/")
    script.replies["/"] = says()
    pages.sign_in(SecretStr("u"), SecretStr("geheim"))
    method, _, _, body = script.requests[1]
    assert (method, body) == ("GET", "")


@pytest.mark.parametrize("status", [307, 308])
def test_a_form_is_never_sent_elsewhere(script: Scripted, pages: Pages, status: int) -> None:
    script.replies["/accounts/signin/"] = says(status, Location="/")
    with pytest.raises(RemoteProtocolError, match="sent elsewhere"):
        pages.sign_in(SecretStr("u"), SecretStr("geheim"))
    assert len(script.requests) == 1


def test_a_page_may_move_for_good(script: Scripted, pages: Pages) -> None:
    script.replies["/"] = says(308, Location="/en/")
    script.replies["/en/"] = says()
    assert pages.home(COOKIES).status == 200


@pytest.mark.parametrize(
    "target",
    [
        *("http://www.tradingview.com/", "https://tradingview.com.example/", "https://example.com"),
        *("//evil.example/x", "ftp://www.tradingview.com/", "http://localhost:{port}/"),
        *("http://127.0.0.1:1/", "https://127.0.0.1:{port}/", "https://eviltradingview.com/"),
        *("https://www.tradingview.com@evil.example/", "http://[::1/"),
    ],
)
def test_cookies_never_travel_to_another_site(script: Scripted, pages: Pages, target: str) -> None:
    script.replies["/"] = says(302, Location=target.format(port=script.server.server_port))
    with pytest.raises(RemoteProtocolError, match="redirects to") as refused:
        pages.home(COOKIES)
    assert len(script.requests) == 1
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize("target", ["https://de.tradingview.com/", "https://tradingview.com/"])
def test_a_regional_host_over_https_is_the_same_site(
    script: Scripted, pages: Pages, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    script.replies["/"] = says(302, Location=target)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    # It is gone to: what fails is the way there, not the permission.
    with pytest.raises(PublisherError, match="tradingview"):
        pages.home(COOKIES)


def test_the_body_of_a_redirect_is_not_read(script: Scripted, pages: Pages) -> None:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/en/")
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65_536)

    script.replies["/"] = reply
    script.replies["/en/"] = says()
    assert pages.home(COOKIES).body == "<html>"


def test_redirects_in_a_circle_end(script: Scripted, pages: Pages) -> None:
    script.replies["/"] = says(302, Location="/")
    with pytest.raises(RemoteProtocolError, match=f"more than {REDIRECTS_MAX} times"):
        pages.home(COOKIES)
    assert len(script.requests) == REDIRECTS_MAX + 1


def test_a_page_that_never_ends_is_read_up_to_a_size(script: Scripted, pages: Pages) -> None:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65_536)

    script.replies["/"] = reply
    answer = pages.home(COOKIES)
    assert len(answer.body) == PAGE_BYTES_MAX
    assert not answer.whole


def test_a_small_page_that_unpacks_to_a_large_one_is_read_up_to_a_size(
    script: Scripted, pages: Pages
) -> None:
    packed = gzip.compress(b"x" * (4 * PAGE_BYTES_MAX))
    script.replies["/"] = says(body=packed, Content_Encoding="gzip")
    assert not pages.home(COOKIES).whole


def test_a_packed_page_is_unpacked(script: Scripted, pages: Pages) -> None:
    packed = gzip.compress(b'"auth_token":"t"')
    script.replies["/"] = says(body=packed, Content_Encoding="gzip")
    answer = pages.home(COOKIES)
    assert (answer.body, answer.whole) == ('"auth_token":"t"', True)


def test_a_page_that_cannot_be_unpacked_is_told(script: Scripted, pages: Pages) -> None:
    script.replies["/"] = says(body=b"no gzip at all", Content_Encoding="gzip")
    with pytest.raises(ConnectFailed, match="decompressing"):
        pages.home(COOKIES)


def test_a_page_that_breaks_off_is_told(script: Scripted, pages: Pages) -> None:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"half")

    script.replies["/"] = reply
    with pytest.raises(ConnectFailed, match="no answer from"):
        pages.home(COOKIES)


def test_a_page_in_chunks_is_read(script: Scripted, pages: Pages) -> None:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")

    script.replies["/"] = reply
    assert pages.home(COOKIES).body == "abcdefg"


def test_a_page_that_drips_is_given_up_in_the_end(
    script: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_MS_MAX", 300)
    ended = threading.Event()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b"x")
                time.sleep(0.01)
        finally:
            ended.set()

    script.replies["/"] = reply
    with pytest.raises(ConnectFailed, match="to answer"):
        Pages(script.url, ORIGIN, SystemClock()).home(COOKIES)
    assert ended.wait(20)


def test_a_refused_connection_is_told(clock: FakeClock) -> None:
    with pytest.raises(ConnectFailed, match="Connection refused"):
        Pages(f"http://127.0.0.1:{free_port()}", ORIGIN, clock).home(COOKIES)


def test_a_host_that_does_not_exist_is_told(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConnectFailed, match=r"nosuch\.invalid cannot be found"):
        Pages("https://nosuch.invalid", ORIGIN, clock).home(COOKIES)


def test_a_server_without_tls_is_told(script: Scripted, clock: FakeClock) -> None:
    url = script.url.replace("http:", "https:")
    with pytest.raises(ConnectFailed, match=r"no secure connection to 127\.0\.0\.1"):
        Pages(url, ORIGIN, clock).home(COOKIES)


def test_a_proxy_that_is_not_there_is_told_without_its_password(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:geheim@127.0.0.1:{free_port()}")
    with pytest.raises(ConnectFailed, match="the proxy does not lead to") as failed:
        Pages("https://www.tradingview.com", ORIGIN, clock).home(COOKIES)
    assert "geheim" not in str(failed.value)


def test_a_mute_server_is_given_up(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(ConnectFailed, match="did not answer in time"):
            Pages(url, ORIGIN, clock).home(COOKIES)


def test_a_server_that_is_no_web_server_is_told(clock: FakeClock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as odd:

        def answer() -> None:
            peer = odd.accept()[0]
            with peer:
                peer.recv(65_536)
                peer.sendall(b"220 smtp ready\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{odd.getsockname()[1]}"
        with pytest.raises(ConnectFailed, match="no answer from"):
            Pages(url, ORIGIN, clock).home(COOKIES)
        thread.join()


def test_neither_a_proxy_nor_netrc_sees_what_is_for_this_machine(
    script: Scripted, pages: Pages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password geheim\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    script.replies["/"] = says()
    pages.home(COOKIES)
    assert "authorization" not in script.requests[0][2]


@pytest.mark.parametrize(
    ("ahead_ms", "drift_ms"),
    [(0, 0), (999, 0), (1_000, 0), (5_000, 4_000), (-1, -1), (-5_000, -5_000)],
)
def test_the_clocks_are_compared_as_far_as_a_date_tells(
    script: Scripted, pages: Pages, clock: FakeClock, ahead_ms: int, drift_ms: int
) -> None:
    clock.wall = DATE_MS + ahead_ms
    script.replies["/"] = says()
    answer = pages.home(COOKIES)
    assert answer.server_ms == DATE_MS
    assert pages.drift_ms == drift_ms
    assert pages.server_now_ms() == clock.wall - drift_ms


def test_a_date_that_a_cache_kept_tells_nothing(
    script: Scripted, pages: Pages, clock: FakeClock
) -> None:
    clock.wall = DATE_MS + 3_600_000
    script.replies["/"] = says(Age="3600")
    assert pages.home(COOKIES).server_ms is None
    assert pages.drift_ms == 0


@pytest.mark.parametrize("date", ["", "yesterday", "Tue, 99 Nov 2023 22:14:00 GMT"])
def test_a_date_that_is_none_tells_nothing(
    script: Scripted, pages: Pages, clock: FakeClock, date: str
) -> None:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response_only(200)
        handler.send_header("Date", date)
        handler.end_headers()

    script.replies["/"] = reply
    assert pages.home(COOKIES).server_ms is None
