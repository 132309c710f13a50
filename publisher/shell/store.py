"""The bus as the publisher writes it: Redis or Valkey, from version 6.2 on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import MasterNotFoundError

from bus.connection import Client
from bus.scripts import Call, Script, run
from publisher.core.bars import RECENT_BARS_MAX
from publisher.core.decisions import Recent, StreamEnd
from publisher.core.points import Point
from publisher.errors import (
    AppendUnknown,
    Fenced,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    StreamDiverged,
)
from publisher.ports import Appended, Batch
from publisher.wire import (
    DAY_MS,
    Bar,
    Encoding,
    EntryMalformed,
    Keys,
    Series,
    Summary,
    decode_bar,
    encode_bar,
)
from publisher.wire.answers import REPLIES_EXPIRE_MS, Reply

FORMING_ENTRIES_MAX: Final = 4
CORRECTIONS_MAX: Final = 10_000
EVENTS_MAX: Final = 10_000

_APPEND: Final = Script.read("publisher.shell", "fence", "last", "append")
_PUT: Final = Script.read("publisher.shell", "fence", "last", "put")
_DESCRIBE: Final = Script.read("publisher.shell", "fence", "describe")


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of each stream is kept, about; 0: all."""

    bars: int
    days: int


class RedisStore:
    """Writes and reads the bus through one client, which never retries by itself."""

    def __init__(
        self, client: Client, keys: Keys, encoding: Encoding, retention: Retention
    ) -> None:
        self._client = client
        self._keys = keys
        self._encoding: Encoding = encoding
        self._retention = retention
        self._states = count(1)

    def ping(self) -> None:
        """Ask whether the bus answers. Raises StoreError."""
        with _translated("a ping"):
            self._client.ping()

    def stream_end(self, series: Series) -> StreamEnd:
        """Read the end of a series' stream. Raises StoreUnavailable, StoreRefused."""
        with _translated(str(series)):
            key, corrections = self._keys.bars(series), self._keys.corrections(series)
            self._check_types(series, (key, corrections, self._keys.series(series)))
            if not self._client.exists(key):
                return StreamEnd()
            info: Any = self._client.xinfo_stream(key)
            entries: Any = self._client.xrevrange(key, count=RECENT_BARS_MAX)
            changed: Any = self._client.xrevrange(corrections, count=RECENT_BARS_MAX)
        watermark_ms = int(info["last-generated-id"].split(b"-")[0])
        if watermark_ms == 0:
            return StreamEnd()
        recent = {bar.open_time_ms: bar for bar in _decode(series, entries)}
        for bar in reversed(list(_decode(series, changed))):
            if bar.open_time_ms >= min(recent, default=watermark_ms):
                recent[bar.open_time_ms] = bar
        return StreamEnd(
            watermark_ms,
            {time_ms: Recent(_point(bar), bar.revision) for time_ms, bar in recent.items()},
            max((int(entry[0].split(b"-")[0]) for entry in changed), default=0),
        )

    def append(self, token: int, batches: Sequence[Batch]) -> list[Appended | StoreError]:
        """Append batches in one round trip; one outcome each.

        Raises StoreUnavailable where nothing was sent and AppendUnknown where
        the reply was lost; both are made good by appending the same again.
        """
        calls = [self._append_call(token, batch) for batch in batches]
        with _translated("bars"):
            replies = run(self._client, calls)
            return [
                self._error(batch.series, call, reply) or Appended(new=reply[1], present=reply[2])
                for batch, call, reply in zip(batches, calls, replies, strict=True)
            ]

    def put_forming(self, token: int, bars: Sequence[Bar]) -> list[StoreError | None]:
        """Put the newest states of forming bars in one round trip; one outcome each.

        Raises StoreUnavailable and AppendUnknown.
        """
        # IDs rise with each state and each grant of the lease, so a state that arrives
        # late, after its sender gave it up, is behind the newer ones and is refused.
        calls = [
            self._put_call(
                token,
                self._keys.forming(bar.series),
                FORMING_ENTRIES_MAX,
                f"{token}-{next(self._states)}",
                bar,
                after_ms=0,
            )
            for bar in bars
        ]
        with _translated("forming bars"):
            replies = run(self._client, calls)
            return [
                self._error(bar.series, call, reply)
                for bar, call, reply in zip(bars, calls, replies, strict=True)
            ]

    def put_correction(self, token: int, bar: Bar, entry_ms: int) -> None:
        """Put a corrected bar; `entry_ms` names the entry. Raises StoreError."""
        key = self._keys.corrections(bar.series)
        call = self._put_call(
            token, key, CORRECTIONS_MAX, f"{entry_ms}-0", bar, after_ms=bar.open_time_ms
        )
        self._run(bar.series, call, "corrections")

    def describe(self, token: int, series: Series, fields: dict[str, str]) -> None:
        """Set fields of a series' hash. Raises StoreError."""
        pairs = [text for pair in fields.items() for text in pair]
        call = Call(_DESCRIBE, (self._keys.series(series),), (token, *pairs))
        self._run(series, call, "series")

    def catalogue(self) -> list[Summary]:
        """Read the catalogue; lines that cannot be read are left out. Raises StoreError."""
        with _translated(self._keys.catalogue):
            lines: Any = self._client.hgetall(self._keys.catalogue)
        summaries = []
        for series, text in lines.items():
            try:
                summaries.append(Summary.decode(series, text))
            except EntryMalformed:
                continue  # a newer version's line; it will be written anew when its series is
        return summaries

    def list_series(self, summaries: Sequence[Summary]) -> None:
        """Set lines of the catalogue. Raises StoreError."""
        lines: Any = {str(summary.series): summary.encode() for summary in summaries}
        with _translated(self._keys.catalogue):
            self._client.hset(self._keys.catalogue, mapping=lines)

    def emit(self, events: Sequence[bytes]) -> None:
        """Put events. Raises StoreError."""
        with _translated(self._keys.events):
            pipeline = self._client.pipeline(transaction=False)
            for event in events:
                pipeline.xadd(self._keys.events, {"event": event}, maxlen=EVENTS_MAX)
            pipeline.execute()

    def answer(self, request: str, answers: Sequence[Reply]) -> None:
        """Answer a request; the answers expire. Raises StoreError."""
        key = self._keys.replies(request)
        with _translated(key):
            pipeline = self._client.pipeline(transaction=False)
            pipeline.rpush(key, *(answer.encode() for answer in answers))
            pipeline.pexpire(key, REPLIES_EXPIRE_MS)
            pipeline.execute()

    def put_session(self, session: bytes) -> None:
        """Say as whom TradingView is read, beside the lease. Raises StoreError."""
        with _translated(self._keys.publisher):
            self._client.hset(self._keys.publisher, "session", session)

    def note_commands_read(self, entry_id: str) -> None:
        """Remember up to where requests are done. Raises StoreError."""
        with _translated(self._keys.publisher):
            self._client.hset(self._keys.publisher, "commands_id", entry_id)

    def _append_call(self, token: int, batch: Batch) -> Call:
        field = encode_bar(batch.bars[0], self._encoding)[0]
        arguments: list[Any] = [token, self._retention.bars, self._retention.days * DAY_MS, field]
        for bar in batch.bars:
            before = "" if bar.previous_open_time_ms is None else bar.previous_open_time_ms
            arguments += (bar.open_time_ms, before, encode_bar(bar, self._encoding)[1])
        keys = (self._keys.bars(batch.series), self._keys.series(batch.series))
        return Call(_APPEND, keys, tuple(arguments))

    def _put_call(
        self, token: int, key: str, entries_max: int, entry: str, bar: Bar, *, after_ms: int
    ) -> Call:
        field, payload = encode_bar(bar, self._encoding)
        keys = (key, self._keys.bars(bar.series), self._keys.series(bar.series))
        return Call(_PUT, keys, (token, entries_max, entry, field, payload, after_ms))

    def _run(self, series: Series, call: Call, what: str) -> None:
        with _translated(what):
            [reply] = run(self._client, [call])
            error = self._error(series, call, reply)
        if error is not None:
            raise error

    def _error(self, series: Series, call: Call, reply: Any) -> StoreError | None:
        """Return what a script's reply says went wrong."""
        if isinstance(reply, RedisError):
            if "WRONGTYPE" in str(reply):
                try:
                    # Redis does not say which key it was.
                    self._check_types(series, call.keys)
                except StoreRefused as error:
                    return error
            return _store_error(reply, str(series))
        if reply[0] == b"fenced":
            return Fenced(f"another publisher took over {series}")
        if reply[0] == b"diverged":
            return StreamDiverged(f"the stream of {series} is not as this publisher left it")
        return None

    def _check_types(self, series: Series, keys: Sequence[str]) -> None:
        """Raise StoreRefused for the first key that is not of the bus's type."""
        for key in keys:
            wanted = "hash" if key == self._keys.series(series) else "stream"
            kind: Any = self._client.type(key)
            kind = kind.decode()
            if kind not in {"none", wanted}:
                raise StoreRefused(f"key {key} holds a {kind}, not a {wanted}: rename or delete it")


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn what redis-py raises into the publisher's errors."""
    try:
        yield
    except RedisError as error:
        raise _store_error(error, what) from error
    except RedisClusterException as error:
        raise StoreUnavailable(f"the Redis Cluster cannot be reached: {error}") from error


_NOT_NOW: Final = (BusyLoadingError, OutOfMemoryError, ReadOnlyError)
_NOT_ALLOWED: Final = (AuthenticationError, NoPermissionError)
_NOT_NOW_WORDS: Final = ("MISCONF", "OOM", "READONLY", "LOADING", "CLUSTERDOWN", "NOREPLICAS")


def _store_error(error: RedisError, what: str) -> StoreError:
    text = str(error)
    if isinstance(error, _NOT_ALLOWED):
        return StoreUnavailable(f"Redis does not allow {what}: {text}; check user and ACL")
    if isinstance(error, _NOT_NOW) or text.startswith(_NOT_NOW_WORDS):
        return StoreUnavailable(f"Redis does not take {what} now: {text}")
    if isinstance(error, (RedisConnectionError, RedisTimeoutError)):
        if "connecting to" in text or isinstance(error, MasterNotFoundError):
            return StoreUnavailable(f"Redis cannot be reached: {text}")
        return AppendUnknown(f"no reply from Redis about {what}: {text}")
    if isinstance(error, ResponseError) and "WRONGTYPE" in text:
        return StoreRefused(
            f"a key of {what} holds something that is not the bus's: rename or delete it ({text})"
        )
    return StoreUnavailable(f"Redis refused {what}: {text}")


def _decode(series: Series, entries: Sequence[tuple[bytes, Any]]) -> Iterator[Bar]:
    for _, fields in entries:
        try:
            yield decode_bar(series, fields)
        except EntryMalformed:
            continue  # somebody else's entry: nothing to compare with


def _point(bar: Bar) -> Point:
    return Point(bar.open_time_ms, bar.open, bar.high, bar.low, bar.close, bar.volume)
