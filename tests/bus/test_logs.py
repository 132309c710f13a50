"""Logs: readable by machines and people, and no secret in them."""

from __future__ import annotations

import io
import json
import logging
import secrets
import sys
import threading
import tracemalloc
from datetime import datetime
from typing import Any

import pytest
import structlog
from pydantic import SecretBytes, SecretStr

from bus import logs
from bus.logs import HIDDEN, configure, redact, register_secret

SECRET = 'hun"t3r/2 \\ñ'


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def _log(stream: io.StringIO, **fields: Any) -> dict[str, Any]:
    configure("json", "debug", stream)
    structlog.get_logger().info("a.happened", **fields)
    line: dict[str, Any] = json.loads(stream.getvalue())
    return line


def test_a_line_is_json_with_time_level_and_event() -> None:
    line = _log(io.StringIO(), series="A-B-1m", bars=12, ratio=0.5, empty=None, yes=True)
    time = line.pop("time")
    assert time.endswith("Z")
    assert len(time) == len("2026-01-01T00:00:00.000Z")
    assert datetime.fromisoformat(time).tzinfo is not None
    assert line == {
        "level": "info",
        "event": "a.happened",
        "series": "A-B-1m",
        "bars": 12,
        "ratio": 0.5,
        "empty": None,
        "yes": True,
    }


def test_below_the_level_nothing_is_written() -> None:
    stream = io.StringIO()
    configure("json", "warning", stream)
    structlog.get_logger().info("a.happened")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("chosen", "stream", "is_json"),
    [
        ("auto", io.StringIO(), True),
        ("auto", Terminal(), False),
        ("json", Terminal(), True),
        ("console", io.StringIO(), False),
    ],
)
def test_the_format_follows_the_terminal_unless_chosen(
    chosen: logs.Format, stream: io.StringIO, is_json: bool
) -> None:
    configure(chosen, "info", stream)
    structlog.get_logger().info("a.happened")
    assert stream.getvalue().startswith("{") is is_json


def test_colours_are_for_terminals_and_no_color_is_respected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    streams = Terminal(), io.StringIO(), Terminal()
    for stream in streams[:2]:
        configure("console", "info", stream)
        structlog.get_logger().info("a.happened")
    monkeypatch.setenv("NO_COLOR", "1")
    configure("console", "info", streams[2])
    structlog.get_logger().info("a.happened")
    assert ["\x1b[" in stream.getvalue() for stream in streams] == [True, False, False]


def test_the_default_stream_is_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    structlog.get_logger().info("a.happened")
    assert "a.happened" in capsys.readouterr().out


@pytest.mark.parametrize("chosen", ["json", "console"])
def test_a_registered_secret_never_appears_wherever_it_is_hidden(chosen: logs.Format) -> None:
    register_secret(SECRET)
    stream = io.StringIO()
    configure(chosen, "debug", stream)
    log = structlog.get_logger().bind(bound=SECRET)
    log.info(
        f"said {SECRET}",
        text=f"x{SECRET}y",
        raw=SECRET.encode(),
        nested={"a": [{"b": (SECRET, {SECRET})}], SECRET: 1},
        deep=[[[[[[[[SECRET]]]]]]]],
        thing=ValueError(SECRET),
        shown=repr(SECRET),
        quoted="hun%22t3r%2F2%20%5C%C3%B1",
        encoded=json.dumps({"p": SECRET}),
        **{SECRET: "as a key"},
    )
    try:
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            raise RuntimeError(f"failed: {error!r}") from error
    except RuntimeError:
        log.exception("a.failed")
    structlog.contextvars.bind_contextvars(context=SECRET)
    log.debug("a.frame")
    structlog.contextvars.clear_contextvars()
    logging.getLogger("library").warning("using %s", SECRET)
    text = stream.getvalue()
    assert "hun" not in text
    assert "t3r" not in text
    assert HIDDEN in text


def test_secret_types_are_hidden_unregistered() -> None:
    line = _log(
        io.StringIO(), one=SecretStr("hush"), two=[SecretBytes(b"hush")], none=SecretStr("")
    )
    assert line["one"] == HIDDEN
    assert line["two"] == [HIDDEN]
    assert line["none"] == ""


def test_fields_that_are_secret_by_name_are_hidden_but_a_fencing_token_is_a_number() -> None:
    line = _log(
        io.StringIO(), password="a", auth_token="b", headers={"Cookie": b"c"}, fencing_token=7
    )
    assert line["password"] == line["auth_token"] == line["headers"]["Cookie"] == HIDDEN
    assert line["fencing_token"] == 7


def test_a_number_that_is_a_secret_is_hidden_and_others_are_not() -> None:
    register_secret("483920")
    line = _log(io.StringIO(), pin=483920, bars=1483920)
    assert line["pin"] == HIDDEN
    assert line["bars"] == 1483920


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("redis://u:p@h:1/0", f"redis://{HIDDEN}@h:1/0"),
        ("at redis://:p/a@b@h now", f"at redis://{HIDDEN}@h now"),
        (
            "wss://h/x?date=1&auth_token=abc&type=chart",
            f"wss://h/x?date=1&auth_token={HIDDEN}&type=chart",
        ),
        ("unix:///s?password=abc", f"unix:///s?password={HIDDEN}"),
        ("token eyJhbGciOi.eyJ1c2Vy.c2lnbmF0dXJl!", f"token {HIDDEN}!"),
        ("https://example.com/a?b=c", "https://example.com/a?b=c"),
        ("somebody@example.com", "somebody@example.com"),
    ],
)
def test_credentials_in_texts_are_hidden_unregistered(text: str, clean: str) -> None:
    assert redact(text) == clean


def test_the_longer_secret_wins_and_empty_ones_hide_nothing() -> None:
    for value in ("", "  ", None, SecretStr("")):
        register_secret(value)
    assert redact("plain") == "plain"
    register_secret("abcd")
    register_secret(SecretStr("abcdefgh"))
    assert redact("<abcdefgh>") == f"<{HIDDEN}>"


def test_remembered_secrets_are_bounded_and_the_newest_stay() -> None:
    for number in range(logs.SECRETS_MAX + 1):
        register_secret(f"secret-{number:03}")
    assert redact("secret-000") == "secret-000"
    assert redact("secret-001") == HIDDEN
    assert redact(f"secret-{logs.SECRETS_MAX:03}") == HIDDEN


def test_refreshed_tokens_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, token_bytes, rounds = 10, 700, 40
    monkeypatch.setattr(logs, "SECRETS_MAX", kept)

    def refresh(times: int) -> None:
        for _ in range(times):
            register_secret(secrets.token_hex(token_bytes // 2))

    refresh(2 * kept)
    tracemalloc.start()
    try:
        # Those of before are let go untraced, so the ten that stay count as new.
        refresh(rounds)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken < 4 * kept * token_bytes


def test_what_a_peer_sent_cannot_rewrite_the_terminal() -> None:
    stream = Terminal()
    configure("console", "info", stream)
    structlog.get_logger().info("a.happened", text="\x1b[2Jx\x00\r\x9b\u202e")
    assert "\x1b[2J" not in stream.getvalue()
    assert r"\x1b[2Jx\x00\x0d\x9b\u202e" in stream.getvalue()


def test_values_that_json_cannot_hold_are_texts() -> None:
    line = _log(io.StringIO(), a=float("nan"), b=2**70, c="\udc80", d=object, e=b"\xff", f={1: 2})
    assert line["a"] == "nan"
    assert line["b"] == str(2**70)
    assert line["c"] == r"\udc80"
    assert line["d"] == "<class 'object'>"
    assert line["e"] == r"\xff"
    assert line["f"] == {"1": 2}


def test_a_library_that_logs_nonsense_is_noted() -> None:
    stream = io.StringIO()
    configure("json", "info", stream)
    logging.getLogger("library").warning("%d", "hush")
    line = json.loads(stream.getvalue())
    assert line["event"] == "log.unreadable"
    assert line["logger"] == "library"
    assert "hush" not in stream.getvalue()


def test_libraries_are_heard_from_warning_on() -> None:
    stream = io.StringIO()
    configure("json", "debug", stream)
    logging.getLogger("library").info("chatter")
    assert stream.getvalue() == ""


def test_a_log_that_cannot_be_written_does_not_stop_the_program() -> None:
    class Broken(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    configure("json", "info", Broken())
    structlog.get_logger().info("a.happened")
    closed = io.StringIO()
    configure("json", "info", closed)
    closed.close()
    structlog.get_logger().info("a.happened")


def test_a_crash_of_the_process_or_a_thread_is_a_line_without_secrets() -> None:
    register_secret(SECRET)
    stream = io.StringIO()
    configure("json", "info", stream)

    def crash() -> None:
        raise RuntimeError(SECRET)

    thread = threading.Thread(target=crash, name="worker")
    thread.start()
    thread.join()
    try:
        crash()
    except RuntimeError as error:
        sys.excepthook(RuntimeError, error, error.__traceback__)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    quiet = threading.Thread(target=sys.exit)
    quiet.start()
    quiet.join()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["thread.crashed", "process.crashed"]
    assert lines[0]["thread"] == "worker"
    assert all("RuntimeError: **********" in line["exception"] for line in lines)
