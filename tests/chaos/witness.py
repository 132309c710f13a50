"""A reader that is not the project's: it follows every stream and keeps what it saw.

Entries are decoded as the contract's page says, not by the project's own code, so a
mistake there cannot hide itself. When the bus loses data an epoch begins: everything
is read anew from the first entry.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgpack
import redis

from publisher.wire import Series
from tests.chaos.verdict import Entry

POLL_S: Final = 0.03
PAUSE_S_MIN: Final = 3.0
"""A longer time without a new bar of any series, of which bars end every second, is a pause."""
COUNT_MAX: Final = 2_000


class Witness(threading.Thread):
    """Follows bars, corrections and events until stopped."""

    def __init__(self, url: str, series: Sequence[Series]) -> None:
        super().__init__(name="witness", daemon=True)
        # As built by hand, so that what the project decides of clients does not matter here.
        self._client = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
        self._bars = {f"tv:bars:{{{name}}}".encode(): name for name in series}
        self._corrections = {f"tv:corrections:{{{name}}}".encode(): name for name in series}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._last: dict[bytes, bytes] = {}
        self._events_last = b"0-0"
        self._newest_ms: dict[Series, int] = {}
        self._newest_s: dict[Series, float] = {}
        self.entries: dict[Series, list[Entry]] = {}
        """What stands in each stream since the epoch began, as read."""
        self.corrected: dict[Series, list[Entry]] = {}
        self.ever: dict[Series, set[int]] = {name: set() for name in series}
        """Open times of all bars that ever stood in a stream."""
        self.events: Counter[str] = Counter()
        self.reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.abandoned: dict[Series, list[tuple[int, int]]] = {name: [] for name in series}
        self.outage_s: dict[Series, float] = dict.fromkeys(series, 0.0)
        """The longest real time without a new bar."""
        self.pauses_s: list[float] = []
        """How long each pause lasted that ended."""
        self._pause_from_s = time.monotonic()
        self.epochs = 0
        self.faults: list[str] = []
        """What was seen on the way that must never be."""
        self._begin()

    @contextmanager
    def looking_away(self) -> Iterator[None]:
        """Do not read while the bus loses data; read everything anew afterwards."""
        with self._lock:
            yield
            self._begin()

    def stop(self) -> None:
        """Read once more, and end."""
        self._stopping.set()
        self.join(10)
        self._client.close()

    def run(self) -> None:
        """Read until stopped."""
        while not self._stopping.wait(POLL_S):
            self.read()

    def read(self) -> None:
        """Read what is new, as far as the bus answers."""
        with self._lock:
            try:
                while self._read_once():
                    pass
            except redis.RedisError:
                return

    def note_pause(self) -> None:
        """Count the time since the newest bars as an outage, if it is the longest."""
        with self._lock:
            now_s = time.monotonic()
            for series in self._newest_s:
                self._note_outage(series, now_s)

    def reset_outages(self) -> None:
        """Measure outages from now on."""
        with self._lock:
            now_s = time.monotonic()
            self._newest_s = dict.fromkeys(self._bars.values(), now_s)
            self.outage_s = dict.fromkeys(self._bars.values(), 0.0)
            self._pause_from_s = now_s
            self.pauses_s.clear()

    def _begin(self) -> None:
        self.epochs += 1
        self._last = dict.fromkeys([*self._bars, *self._corrections], b"0-0")
        self.entries = {name: [] for name in self._bars.values()}
        self.corrected = {name: [] for name in self._bars.values()}

    def _read_once(self) -> bool:
        wanted: dict[Any, Any] = {**self._last, b"tv:events": self._events_last}
        replies: Any = self._client.xread(wanted, count=COUNT_MAX)
        for key, entries in replies:
            for entry_id, fields in entries:
                self._take(key, entry_id, fields)
        return any(len(entries) >= COUNT_MAX for _, entries in replies)

    def _take(self, key: bytes, entry_id: bytes, fields: dict[bytes, bytes]) -> None:
        if key == b"tv:events":
            self._events_last = entry_id
            self._take_event(json.loads(fields[b"event"]))
            return
        self._last[key] = entry_id
        entry = decode(entry_id, fields)
        if key in self._corrections:
            self.corrected[self._corrections[key]].append(entry)
        else:
            self._take_bar(self._bars[key], entry)

    def _take_bar(self, series: Series, entry: Entry) -> None:
        entries = self.entries[series]
        before_ms = entries[-1].open_time_ms if entries else None
        place = f"{series}, entry {entry.entry_id}"
        if entry.entry_id != f"{entry.open_time_ms}-0":
            self.faults.append(f"{place}: its time is {entry.open_time_ms}")
        if before_ms is not None and entry.open_time_ms <= before_ms:
            self.faults.append(f"{place} came after {before_ms}")
        if entry.previous_ms != before_ms:
            self.faults.append(f"{place} names {entry.previous_ms} before it, was {before_ms}")
        entries.append(entry)
        self.ever[series].add(entry.open_time_ms)
        if entry.open_time_ms > self._newest_ms.get(series, 0):
            now_s = time.monotonic()
            self._newest_ms[series] = entry.open_time_ms
            if now_s - self._pause_from_s > PAUSE_S_MIN:
                self.pauses_s.append(now_s - self._pause_from_s)
            self._pause_from_s = now_s
            if series in self._newest_s:
                self._note_outage(series, now_s)
            self._newest_s[series] = now_s

    def _note_outage(self, series: Series, now_s: float) -> None:
        self.outage_s[series] = max(self.outage_s[series], now_s - self._newest_s[series])

    def _take_event(self, event: dict[str, Any]) -> None:
        name = event["event"]
        self.events[name] += 1
        if name in {"session.lost", "series.interrupted", "series.checked", "store.lost"}:
            self.reasons[name][str(event.get("reason"))[:90]] += 1
        if name == "gap.abandoned":
            series = Series.parse(event["series"])
            self.abandoned[series].append((event["after_ms"], event["before_ms"]))


def decode(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    """Return an entry as the contract's page describes it."""
    [(name, text)] = fields.items()
    payload = msgpack.unpackb(text) if name == b"bar" else json.loads(text)
    prices = (payload["t"] / 1000, payload["o"], payload["h"], payload["l"], payload["c"])
    volume = payload["v"]
    return Entry(
        entry_id.decode(),
        payload["t"],
        prices if volume is None else (*prices, volume),
        payload["p"],
        bool(payload.get("gap")),
        payload.get("n", 0),
    )
