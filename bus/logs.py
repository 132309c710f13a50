"""Structured logs for every process, with no secret in them.

A line is JSON, or readable text on a terminal. Whatever is logged, by this project
or by a library, passes one filter on its way out: registered secrets, passwords in
addresses, tokens, and fields that are secret by name are replaced by `HIDDEN`,
in texts, nested values and exceptions alike.

What a peer sent may be logged too, so control characters, which could rewrite a
terminal, are shown as escapes.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal, TextIO
from urllib.parse import quote, quote_plus

import orjson
import structlog
from pydantic import SecretBytes, SecretStr

Format = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error"]

HIDDEN: Final = "**********"
SECRETS_MAX: Final = 100
"""How many secrets are remembered; a refreshed token takes the oldest one's place."""
SECRET_CHARACTERS_MIN: Final = 4
DEPTH_MAX: Final = 6
"""How deep nested values are written out; deeper ones are shown as text."""
INTEGER_MAX: Final = 2**63 - 1
"""Greater integers are written as text, as JSON readers expect."""

_URL_CREDENTIALS: Final = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*://)[^\s\"'<>]*@")
_URL_OPTION: Final = re.compile(
    r"([?&;](?:[A-Za-z_]*(?:password|token|secret|signature)|sessionid(?:_sign)?|code)=)[^&;\s\"'<>]+",
    re.IGNORECASE,
)
_JSON_WEB_TOKEN: Final = re.compile(r"\beyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?")
_SECRET_NAME: Final = re.compile(
    r"password|passwd|secret|cookie|authorization|sessionid|credentials|(?:^|_)token$",
    re.IGNORECASE,
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class _Registry:
    """The secrets of this process, in every spelling in which one could be written."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spellings: dict[str, frozenset[str]] = {}
        self._longest_first: tuple[str, ...] = ()

    def add(self, secret: str) -> None:
        with self._lock:
            spellings = {
                secret,
                quote(secret, safe=""),
                quote(secret),
                quote_plus(secret),
                json.dumps(secret)[1:-1],
                json.dumps(secret, ensure_ascii=False)[1:-1],
                repr(secret)[1:-1],
            }
            self._spellings.pop(secret, None)
            self._spellings[secret] = frozenset(spellings)
            while len(self._spellings) > SECRETS_MAX:
                self._spellings.pop(next(iter(self._spellings)))
            # One secret may begin with another.
            every = {text for texts in self._spellings.values() for text in texts}
            self._longest_first = tuple(sorted(every, key=len, reverse=True))

    def clear(self) -> None:
        with self._lock:
            self._spellings.clear()
            self._longest_first = ()

    def hide(self, text: str) -> str:
        # No pattern of them all: `re` keeps each that it ever compiled, and one of a
        # hundred tokens takes half a megabyte and a tenth of a second.
        for spelling in self._longest_first:
            text = text.replace(spelling, HIDDEN)
        return text


_registry: Final = _Registry()


def register_secret(value: str | SecretStr | None) -> None:
    """Never let this value reach a log.

    None and texts of fewer than `SECRET_CHARACTERS_MIN` are ignored: a user name such
    as `me` stands in half of all words, and hiding it would show what it is.
    """
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if text and len(text.strip()) >= SECRET_CHARACTERS_MIN:
        _registry.add(text)


def forget_secrets() -> None:
    """Forget every registered secret; for tests."""
    _registry.clear()


def redact(text: str) -> str:
    """Return the text without secrets; for texts that leave by another way than the logs."""
    text = _registry.hide(text)
    text = _URL_CREDENTIALS.sub(rf"\1{HIDDEN}@", text)
    text = _URL_OPTION.sub(rf"\1{HIDDEN}", text)
    return _JSON_WEB_TOKEN.sub(HIDDEN, text)


def configure(
    format: Format,  # noqa: A002
    level: Level,
    stream: TextIO | None = None,
    *,
    hooks: bool = True,
) -> None:
    """Send every log of the process, libraries' warnings too, to the stream (stdout).

    A command that prints data on stdout passes `sys.stderr`. `auto` is readable text
    on a terminal and JSON elsewhere; NO_COLOR is respected. May be called again.
    `hooks`: crashes of the process and its threads are logged too.
    """
    out = sys.stdout if stream is None else stream
    terminal = out.isatty()
    console = format == "console" or (format == "auto" and terminal)
    render: list[Any]
    if console:
        colors = terminal and not os.environ.get("NO_COLOR")
        render = [
            structlog.dev.ConsoleRenderer(
                colors=colors,
                timestamp_key="time",
                pad_event_to=24,
                # The other formatters show local variables.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    else:
        render = [_render_json]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        _add_time,
        structlog.processors.format_exc_info,
        _hide_secrets,
    ]
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_Lines(out),
        cache_logger_on_first_use=False,
    )
    handler = _LibraryHandler(_Lines(out))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(max(threshold, logging.WARNING))
    if hooks:
        sys.excepthook = _log_crash
        threading.excepthook = _log_thread_crash


def into_logging() -> None:
    """Send structured lines to the program's own `logging`, without secrets.

    For programs that only use the library: their handlers, levels and formats count, and
    nothing of theirs is touched. Does nothing where structlog is configured already.
    """
    if structlog.is_configured():
        return
    processors: list[Any] = [
        structlog.stdlib.filter_by_level,
        structlog.processors.format_exc_info,
        _hide_secrets,
        structlog.dev.ConsoleRenderer(
            colors=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


class _Lines:
    """Writes lines; a log that cannot be written never stops the program."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def __call__(self, *_: Any) -> _Lines:
        return self

    def msg(self, line: str) -> None:
        try:
            with self._lock:
                self._out.write(line + "\n")
                self._out.flush()
        except (OSError, ValueError):
            # The reader has gone or the disk is full: there is nowhere left to say so.
            return

    debug = info = warning = warn = error = err = critical = fatal = exception = log = msg


class _LibraryHandler(logging.Handler):
    """What libraries log, on the same lines."""

    def __init__(self, lines: _Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except (TypeError, ValueError):
            # A library's arguments do not fit its text; show neither.
            line = self.format(
                logging.LogRecord(record.name, record.levelno, "", 0, "log.unreadable", None, None)
            )
        self._lines.msg(line)


def _add_time(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    event["time"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


def _hide_secrets(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """Replace every value by a plain one without secrets."""
    # The formatter for libraries' records keeps its own objects under these names.
    own: dict[str, Any] = {
        name: event.pop(name) for name in ("_record", "_from_structlog") if name in event
    }
    return _plain_mapping(event, 0) | own


def _plain_mapping(mapping: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    plain = {}
    for key, value in mapping.items():
        name = _plain_text(str(key))
        hidden = isinstance(value, str | bytes) and value and _SECRET_NAME.search(name)
        plain[name] = HIDDEN if hidden else _plain(value, depth + 1)
    return plain


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, SecretStr | SecretBytes):
        return HIDDEN if value else ""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, int):
        if _registry.hide(str(value)) == HIDDEN:
            return HIDDEN
        return int(value) if -INTEGER_MAX <= value <= INTEGER_MAX else str(value)
    if isinstance(value, bytes | bytearray):
        return _plain_text(bytes(value).decode("utf-8", "backslashreplace"))
    if isinstance(value, Mapping) and depth < DEPTH_MAX:
        return _plain_mapping(value, depth)
    if isinstance(value, list | tuple | set | frozenset) and depth < DEPTH_MAX:
        return [_plain(part, depth + 1) for part in value]
    return _plain_text(str(value))


def _plain_text(text: str) -> str:
    # Lone surrogates cannot be written as UTF-8.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return _CONTROL.sub(_escape, redact(text))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def _render_json(_: Any, __: str, event: dict[str, Any]) -> str:
    first = {name: event[name] for name in ("time", "level", "event") if name in event}
    return orjson.dumps(first | event).decode()


def _log_crash(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger().error("process.crashed", exc_info=(kind, error, traceback))


def _log_thread_crash(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is None or issubclass(crash.exc_type, SystemExit):
        return
    structlog.get_logger().error(
        "thread.crashed",
        thread=crash.thread.name if crash.thread else None,
        exc_info=(crash.exc_type, crash.exc_value, crash.exc_traceback),
    )
