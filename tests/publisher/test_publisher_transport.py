"""The websocket's reading thread against real servers on this machine."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from publisher_servers import free_port
from websockets.sync.server import ServerConnection, serve

from publisher.errors import ConnectFailed, ConnectionLost, PublisherError, RemoteProtocolError
from publisher.ports import Connected, Disconnected, Fact, Received
from publisher.shell import transport as shell
from publisher.shell.clock import SystemClock
from publisher.shell.transport import WebSocketTransport
from publisher.simulator import Simulator
from tests.waiting import eventually as wait_for

ORIGIN = "https://www.tradingview.com"
CLOCK = SystemClock()


class Line:
    """A transport and what it told."""

    def __init__(self, url: str, inbox_max: int = 1_000) -> None:
        self.inbox: queue.Queue[Fact] = queue.Queue(inbox_max)
        self.transport = WebSocketTransport(url, ORIGIN, CLOCK, self.inbox)
        self.transport.open(1)

    def fact(self) -> Fact:
        return self.inbox.get(timeout=10)

    def connected(self) -> Line:
        assert self.fact() == Connected(1)
        return self

    def received(self) -> tuple[str, ...]:
        fact = self.fact()
        assert isinstance(fact, Received), fact
        return fact.payloads

    def error(self) -> PublisherError:
        """What ended the connection, after anything that came before."""
        while not isinstance(fact := self.fact(), Disconnected):
            pass
        assert fact.connection == 1
        return fact.error


@contextlib.contextmanager
def server(handle: Callable[[ServerConnection], None], **options: Any) -> Iterator[str]:
    """Serve websockets as TradingView's address does."""

    def quietly(peer: ServerConnection) -> None:
        with contextlib.suppress(Exception):
            handle(peer)

    with serve(quietly, "127.0.0.1", 0, **options) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{running.socket.getsockname()[1]}/"
        running.shutdown()
        thread.join(5)


@contextlib.contextmanager
def raw_server(answer: bytes, *, after: float = 0.0) -> Iterator[str]:
    """A TCP server that answers each connection with some bytes and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer = listener.accept()[0]
                    with peer:
                        peer.recv(65536)
                        peer.sendall(answer)
                        time.sleep(after)

        threading.Thread(target=run, daemon=True).start()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def line() -> Iterator[Callable[..., Line]]:
    lines: list[Line] = []

    def make(url: str, inbox_max: int = 1_000) -> Line:
        lines.append(Line(url, inbox_max))
        return lines[-1]

    yield make
    for one in lines:
        one.transport.close()
    wait_for(lambda: not [t for t in threading.enumerate() if t.name == "tradingview-1"])


Lines = Callable[..., Line]


def frame(payload: str) -> str:
    return f"~m~{len(payload)}~m~{payload}"


# Talking.


def test_the_handshake_names_the_origin_and_offers_no_compression(line: Lines) -> None:
    heard: list[Any] = []

    def handle(peer: ServerConnection) -> None:
        assert peer.request is not None
        heard.append(peer.request.headers)
        peer.recv()

    with server(handle) as url:
        line(url).connected()
        wait_for(lambda: heard)
    assert heard[0]["Origin"] == ORIGIN
    assert "Sec-WebSocket-Extensions" not in heard[0]


def test_heartbeats_are_answered_while_nobody_empties_the_inbox(line: Lines) -> None:
    answers: list[Any] = []
    waited: list[float] = []

    def handle(peer: ServerConnection) -> None:
        for number in range(20):
            began = time.monotonic()
            peer.send(frame('{"m":"du"}') + frame(f"~h~{number}"))
            answers.append(peer.recv(timeout=5))
            waited.append(time.monotonic() - began)
        peer.recv()

    with server(handle) as url:
        line(url)
        wait_for(lambda: len(answers) == 20)
    assert answers == [frame(f"~h~{number}") for number in range(20)]
    assert sorted(waited)[10] < 0.1


def test_frames_are_sent_in_order_and_payloads_come_in_order(line: Lines) -> None:
    def handle(peer: ServerConnection) -> None:
        while True:
            peer.send(peer.recv())

    frames = [frame(f"payload {number}") for number in range(500)]
    with server(handle) as url:
        one = line(url).connected()
        one.transport.send(frames)
        assert [one.received()[0] for _ in frames] == [f"payload {n}" for n in range(500)]


def test_a_message_may_hold_many_payloads_and_a_payload_many_messages(line: Lines) -> None:
    payload = "ä€𝄞" * 10

    def handle(peer: ServerConnection) -> None:
        text = f"~m~{len(payload) + 10}~m~{payload}"
        peer.send(frame("a") + frame("b") + text[:20])
        peer.send([text[20:30], text[30:]])
        peer.send(frame("z").encode())
        peer.recv()

    with server(handle) as url:
        one = line(url).connected()
        assert one.received() == ("a", "b")
        assert one.received() == (payload,)
        assert one.received() == ("z",)


def test_pings_of_the_websocket_are_answered(line: Lines) -> None:
    answered: list[bool] = []

    def handle(peer: ServerConnection) -> None:
        answered.append(peer.ping().wait(5))
        peer.recv()

    with server(handle) as url:
        line(url).connected()
        wait_for(lambda: answered)
    assert answered == [True]


def test_a_peer_that_does_not_read_holds_nobody_up(
    line: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "STALL_TIMEOUT_S", 1.0)
    with mute_peer() as url:
        one = line(url).connected()
        began = time.monotonic()
        one.transport.send([frame("x" * 100_000)] * 200)
        assert time.monotonic() - began < 0.5
        assert isinstance(one.error(), ConnectionLost)


def test_a_close_while_the_peer_does_not_read_returns_soon(line: Lines) -> None:
    with mute_peer() as url:
        one = line(url).connected()
        one.transport.send([frame("x" * 100_000)] * 200)
        time.sleep(0.2)  # until the sending thread is held up
        began = time.monotonic()
        one.transport.close()
        assert time.monotonic() - began < 2


def test_more_frames_than_may_wait_end_the_connection(
    line: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "FRAMES_WAITING_MAX", 10)
    with server(lambda peer: peer.recv()) as url:  # type: ignore[arg-type,return-value]
        one = line(url).connected()
        one.transport.send([frame("x")] * 11)
        assert "wait to be sent" in str(one.error())


@contextlib.contextmanager
def mute_peer() -> Iterator[str]:
    """A websocket whose other side reads nothing after the handshake."""
    from websockets.server import ServerProtocol  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        peers = []

        def run() -> None:
            with contextlib.suppress(OSError):
                peer = listener.accept()[0]
                peers.append(peer)
                protocol = ServerProtocol()
                protocol.receive_data(peer.recv(65536))
                [request] = protocol.events_received()
                protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]
                for data in protocol.data_to_send():
                    peer.sendall(data)

        threading.Thread(target=run, daemon=True).start()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        for peer in peers:
            peer.close()


# Ends.


def test_a_clean_close_is_told_with_its_code(line: Lines) -> None:
    with server(lambda peer: peer.close(1001, "bye")) as url:
        error = line(url).connected().error()
    assert isinstance(error, ConnectionLost)
    assert "code 1001, bye" in str(error)


def test_a_reset_is_told(line: Lines) -> None:
    with Simulator(seed=3) as simulator:
        one = line(simulator.url).connected()
        one.received()
        simulator.faults.inject("reset")
        error = one.error()
    assert isinstance(error, ConnectionLost)
    assert "was lost" in str(error)


@pytest.mark.parametrize(
    ("kind", "words"), [("forbid", "refused (403)"), ("throttle", "refused (429)")]
)
def test_a_refused_handshake_is_told_with_its_meaning(line: Lines, kind: str, words: str) -> None:
    with Simulator(seed=3) as simulator:
        simulator.faults.inject(kind)
        error = line(simulator.url).error()
    assert isinstance(error, ConnectFailed)
    assert words in str(error)
    assert "TVBUS_WS_URL" in str(error)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "answered 200 instead of a websocket"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "answered 500 instead"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "is not a websocket"),
        (b"", "127.0.0.1"),
    ],
)
def test_what_is_no_websocket_is_told(line: Lines, answer: bytes, words: str) -> None:
    with raw_server(answer) as url:
        error = line(url).error()
    assert isinstance(error, ConnectFailed)
    assert words in str(error)
    assert "\n" not in str(error)


def test_a_redirect_is_not_followed(line: Lines) -> None:
    followed: list[bool] = []

    def handle(peer: ServerConnection) -> None:
        followed.append(True)
        peer.recv()

    with server(handle) as elsewhere:
        answer = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n"
        with raw_server(answer.encode()) as url:
            error = line(url).error()
    assert isinstance(error, ConnectFailed)
    assert not followed


def test_a_port_that_nobody_listens_on_is_told(line: Lines) -> None:
    port = free_port()
    error = line(f"ws://127.0.0.1:{port}/").error()
    assert isinstance(error, ConnectFailed)
    assert f"127.0.0.1:{port}" in str(error)
    assert "refused" in str(error)


def test_a_name_that_nobody_knows_is_told(line: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> object:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = line("wss://data.example.invalid/").error()
    assert isinstance(error, ConnectFailed)
    assert "check the network and DNS" in str(error)


def test_a_certificate_that_does_not_fit_is_told(line: Lines) -> None:
    with raw_server(b"not tls") as url:
        error = line(url.replace("ws://", "wss://")).error()
    assert isinstance(error, ConnectFailed)
    assert "no secure connection" in str(error)


def test_a_server_that_does_not_answer_the_handshake_is_told(
    line: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "CONNECT_TIMEOUT_S", 0.2)
    with raw_server(b"", after=3) as url:
        error = line(url).error()
    assert isinstance(error, ConnectFailed)
    assert "did not answer" in str(error)


def test_a_user_and_password_in_the_address_do_not_show(line: Lines) -> None:
    error = line(f"ws://bob:hunter2@127.0.0.1:{free_port()}/").error()
    assert "hunter2" not in str(error)


def test_bytes_that_are_not_utf8_are_a_protocol_error(line: Lines) -> None:
    def handle(peer: ServerConnection) -> None:
        peer.send(frame("ok"))
        peer.send(b"~m~2~m~\xff\xfe", text=True)
        peer.recv()

    with server(handle) as url:
        one = line(url).connected()
        assert one.received() == ("ok",)
        error = one.error()
    assert isinstance(error, RemoteProtocolError)
    assert "UTF-8" in str(error)


def test_what_is_not_framed_is_a_protocol_error(line: Lines) -> None:
    with server(lambda peer: peer.send("hello there, friend")) as url:
        error = line(url).connected().error()
    assert isinstance(error, RemoteProtocolError)


def test_a_frame_that_stops_in_its_middle_ends_the_connection(
    line: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "STALL_TIMEOUT_S", 0.3)

    def handle(peer: ServerConnection) -> None:
        peer.socket.sendall(b"\x81\x20only a pa")
        time.sleep(0.6)

    with server(handle) as url:
        one = line(url).connected()
        error = one.error()
        assert one.transport.drained_ms <= CLOCK.monotonic_ms() - 250
    assert isinstance(error, ConnectionLost)


def test_a_message_beyond_the_bound_ends_the_connection_before_it_is_kept(
    line: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "MESSAGE_BYTES_MAX", 1_000_000)
    sent = []

    def handle(peer: ServerConnection) -> None:
        for _ in range(20):  # many that are allowed, in sum more than the bound
            peer.send(frame("x" * 90_000))
        header = b"\x81\x7f" + (1 << 40).to_bytes(8, "big")
        peer.socket.sendall(header)
        for _ in range(1_000):
            peer.socket.sendall(b"x" * 100_000)
            sent.append(1)

    with server(handle) as url:
        one = line(url).connected()
        for _ in range(20):
            one.received()
        error = one.error()
    assert "more than 1000000 bytes" in str(error)
    assert len(sent) < 900


def test_an_inbox_that_overflows_ends_the_connection_and_is_never_silent(line: Lines) -> None:
    def handle(peer: ServerConnection) -> None:
        for number in range(1_000):
            peer.send(frame(str(number)))
        peer.recv()

    with server(handle) as url:
        one = line(url, inbox_max=10)
        wait_for(one.inbox.full)
        wait_for(lambda: one.transport._reader._socket.sock is None)  # type: ignore[union-attr]
        one.connected()
        seen = []
        while isinstance(fact := one.fact(), Received):
            seen += fact.payloads
        assert seen == [str(number) for number in range(len(seen))]
        assert isinstance(fact, Disconnected)
        assert "10 messages are waiting" in str(fact.error)


def test_a_close_ends_an_overflow_that_nobody_takes(line: Lines) -> None:
    def handle(peer: ServerConnection) -> None:
        for number in range(1_000):
            peer.send(frame(str(number)))
        peer.recv()

    with server(handle) as url:
        one = line(url, inbox_max=5)
        wait_for(one.inbox.full)
        one.transport.close()


# Closing.


def test_a_close_says_goodbye_and_nothing_follows_it(line: Lines) -> None:
    codes: list[object] = []

    def handle(peer: ServerConnection) -> None:
        with contextlib.suppress(Exception):
            while True:
                peer.send(frame("data"))
                time.sleep(0.001)
        codes.append(peer.close_code)

    with server(handle) as url:
        one = line(url).connected()
        one.received()
        closer = threading.Thread(target=one.transport.close)
        closer.start()
        closer.join(5)
        waiting = one.inbox.qsize()
        wait_for(lambda: codes)
        time.sleep(0.1)
        assert one.inbox.qsize() <= waiting
        assert one.transport.drained_ms == 0


def test_a_close_while_connecting_leaves_nothing_behind(line: Lines) -> None:
    with raw_server(b"", after=0.5) as url:
        one = line(url)
        began = time.monotonic()
        one.transport.close()
        one.transport.close()
        assert time.monotonic() - began < 0.3
        time.sleep(0.8)
        assert one.inbox.empty()


def test_the_next_connection_replaces_the_last(line: Lines) -> None:
    with Simulator(seed=3) as simulator:
        one = line(simulator.url).connected()
        one.transport.open(2)
        wait_for(lambda: Connected(2) in list(one.inbox.queue))
        wait_for(lambda: len(simulator.connections) == 1)
        one.transport.send([frame('{"m":"set_locale","p":["en"]}')])
        wait_for(lambda: simulator.received["message"] == 1)
    one.transport.close()


def test_sending_without_a_connection_does_nothing(line: Lines) -> None:
    one = line(f"ws://127.0.0.1:{free_port()}/")
    one.error()
    one.transport.send([frame("x")])
    one.transport.close()
    one.transport.send([frame("x")])


# What "drained" means.


def test_a_quiet_connection_is_drained_up_to_now(line: Lines) -> None:
    with server(lambda peer: peer.recv()) as url:  # type: ignore[arg-type,return-value]
        one = line(url).connected()
        now_ms = CLOCK.monotonic_ms()
        wait_for(lambda: one.transport.drained_ms > now_ms)
        assert one.transport.drained_ms <= CLOCK.monotonic_ms()


def test_it_is_not_drained_while_a_payload_is_there_in_part(line: Lines) -> None:
    goes_on = threading.Event()

    def handle(peer: ServerConnection) -> None:
        peer.send("~m~4~m~ab")
        goes_on.wait(5)
        peer.send("cd")
        peer.recv()

    with server(handle) as url:
        one = line(url).connected()
        time.sleep(0.5)
        drained, now_ms = one.transport.drained_ms, CLOCK.monotonic_ms()
        assert drained <= now_ms - 250
        goes_on.set()
        assert one.received() == ("abcd",)
        wait_for(lambda: one.transport.drained_ms >= now_ms)


STOPPED = """
import queue, sys, time
from publisher.ports import Received
from publisher.shell.clock import SystemClock
from publisher.shell.transport import WebSocketTransport
inbox = queue.Queue(100_000)
line = WebSocketTransport(sys.argv[1], "https://www.tradingview.com", SystemClock(), inbox)
line.open(1)
print("ready", flush=True)
seen, last_drained_ms = 0, 0
while seen < int(sys.argv[2]):
    drained_ms = line.drained_ms
    while not inbox.empty():
        fact = inbox.get()
        for payload in getattr(fact, "payloads", ()):
            seen += 1
            # Each payload says when it was sent, by the clock that all processes share.
            if int(payload) + 50 < last_drained_ms:
                print("late", payload, last_drained_ms, flush=True)
    last_drained_ms = drained_ms
print("done", seen, flush=True)
"""


def test_a_process_that_was_stopped_is_not_drained_before_it_has_read_all(line: Lines) -> None:
    count = 3_000

    def handle(peer: ServerConnection) -> None:
        for _ in range(count):
            peer.send(frame(str(CLOCK.monotonic_ms())))
            time.sleep(0.0005)
        peer.recv()

    with server(handle) as url:
        reader = subprocess.Popen(
            [sys.executable, "-c", STOPPED, url, str(count)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
            for _ in range(3):
                time.sleep(0.2)
                os.kill(reader.pid, signal.SIGSTOP)
                time.sleep(0.4)
                os.kill(reader.pid, signal.SIGCONT)
            assert reader.communicate(timeout=30)[0] == f"done {count}\n"
        finally:
            reader.kill()
            reader.wait()
