"""What must be true at every moment, by a record of its own.

It sees every command that the server did and reads the streams through a client of
its own; what a bar should be it knows from the market, not from the publisher.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgpack
from redis.exceptions import NoScriptError

from publisher.wire import Series
from tests.simulation.bus import Bus
from tests.simulation.clients import Command
from tests.simulation.consuming import group_of
from tests.simulation.loop import Loop
from tests.simulation.plan import CORRECTED, UNLIMITED_BARS, Plan
from tests.simulation.publishing import KEYS
from tests.simulation.reading import Reading
from tests.simulation.records import Entry, Stream
from tests.simulation.truth import Truth, Values


class Violation(BaseException):
    """Something is not as it must be. No handler of the product may catch it."""


class Checker:
    """Watches everything; raises Violation at once."""

    def __init__(self, loop: Loop, plan: Plan, truths: dict[Series, Truth], bus: Bus) -> None:
        self._loop = loop
        self._plan = plan
        self._client = bus.client
        self.streams = {series: Stream(truth) for series, truth in truths.items()}
        self.gaps: list[tuple[Series, tuple[int, ...], int]] = []
        """Series, possible times before, and time after each gap that was found."""
        self.announced: set[tuple[str, int, int]] = set()
        self.completed: dict[tuple[str, int], int] = {}
        """Interval and end time → how many series published their bar or were named."""
        self.bars = 0
        self._granted = 0
        self._resets = 0
        self._by_key = {KEYS.series(series): series for series in truths}
        bus.observers.append(self.observe)
        self.reading = Reading(bus, self.streams, self.fail)
        bus.on_reset.append(self.reset)

    def fail(self, what: str) -> None:
        """Say what is wrong."""
        self._loop.trace.say(self._loop.now_ms, "checker", what)
        raise Violation(what)

    # What the server did.

    def observe(self, name: str, command: Command, reply: Any) -> None:
        """Look at one command that the server did."""
        if command[0] == "EVALSHA" and group_of(name) is None:
            self._observe_script(name, command, reply)
        elif command[0] == "XADD" and command[1] == KEYS.events:
            self._observe_event(command[-1])

    def _observe_script(self, name: str, command: Command, reply: Any) -> None:
        keys = command[3 : 3 + int(command[2])]
        arguments = command[3 + len(keys) :]
        if isinstance(reply, Exception):
            if isinstance(reply, NoScriptError):
                self._loop.trace.counts["script unknown"] += 1
            return
        if keys[0] == KEYS.publisher:
            if arguments[0] == "acquire" and reply > 0:
                self._grant(reply)
            return
        series = self._by_key[keys[-1]]
        status = reply[0].decode()
        self._loop.trace.counts[f"script {status}"] += 1
        if status == "appended":
            self._write(name, series, int(arguments[0]))
        if keys[0] == KEYS.bars(series):
            if reply[2]:
                self._loop.trace.counts["script present"] += 1
            self.read_bars(series)
        elif keys[0] == KEYS.corrections(series):
            self._read_corrections(series)
        elif keys[0] == KEYS.forming(series) and status == "appended":
            self._form(series, arguments)

    def _grant(self, token: int) -> None:
        if token < self._granted:
            self.fail(f"the lease gives token {token} after {self._granted}")
        self._granted = token

    def _write(self, name: str, series: Series, token: int) -> None:
        stream = self.streams[series]
        if token < stream.token:
            self.fail(f"{name} writes to {series} with token {token} after {stream.token}")
        stream.token = token

    def _form(self, series: Series, arguments: Command) -> None:
        bar = _payload({arguments[3]: arguments[4]})
        assert bar is not None
        stream, token = self.streams[series], int(arguments[0])
        newest_ms = stream.newest.open_time_ms if stream.newest else 0
        # A failover may bring back an earlier holder of the lease, so that there are two.
        doubtful = self._resets and token != stream.forming_token
        if not doubtful and (bar["t"] < stream.forming_ms or bar["t"] <= newest_ms):
            known = f"{stream.forming_ms} formed and {newest_ms} closed"
            self.fail(f"{series} {bar['t']} forms after {known}")
        stream.forming_ms, stream.forming_token = bar["t"], token

    def _observe_event(self, text: bytes) -> None:
        event = json.loads(text)
        if event["event"] == "series.interrupted":
            reason = re.sub(r" within .*|[A-Z0-9]+-[A-Z_]+-\w+", "", event["reason"])
            self._loop.trace.counts[f"again: {reason.strip()}"] += 1
        if event["event"] == "gap.abandoned":
            self.announced.add((event["series"], event["after_ms"], event["before_ms"]))
        if event["event"] == "interval.completed":
            self._complete(event["interval"], event["end_time_ms"], event)

    def _complete(self, interval: str, end_ms: int, event: dict[str, Any]) -> None:
        stand = [
            series
            for series, stream in self.streams.items()
            if series.interval == interval
            and (bar := stream.truth.ending(end_ms)) is not None
            and bar.start_ms in stream.entries
        ]
        # What the bus lost since is nobody's lie.
        if event["published"] > len(stand) and not self._resets:
            told = f"{event['published']} bars of {interval} are said to be there for {end_ms}"
            self.fail(f"{told}, there are {len(stand)}")
        self.completed[interval, end_ms] = event["published"] + event["missing_count"]

    # The streams.

    def read_bars(self, series: Series) -> None:
        """Look at what is new in a stream."""
        stream = self.streams[series]
        after = f"({stream.last_id[0]}-{stream.last_id[1]}" if any(stream.last_id) else "-"
        for raw_id, fields in self._client.xrange(KEYS.bars(series), after):
            first, second = map(int, raw_id.split(b"-"))
            self._check_entry(series, stream, (first, second), fields)

    def _check_entry(
        self, series: Series, stream: Stream, entry_id: tuple[int, int], fields: Any
    ) -> None:
        where = f"{series} {entry_id[0]}-{entry_id[1]}"
        if entry_id <= stream.last_id:
            self.fail(f"{where} follows {stream.last_id}")
        bar = _payload(fields)
        before_ms = stream.last_id[0] or None
        stream.last_id = entry_id
        if bar is None:
            entry = Entry(entry_id[0], None, fields, self._loop.now_ms)
            stream.entries.setdefault(entry_id[0], entry)
            return
        if entry_id != (bar["t"], 0):
            self.fail(f"{where} holds a bar of {bar['t']}")
        if bar["p"] != before_ms:
            self.fail(f"{where} names {bar['p']} as the entry before it, that is {before_ms}")
        gap = bar.get("gap") is True
        entry = Entry(entry_id[0], _values(bar), fields, self._loop.now_ms, gap)
        self._check_bar(series, stream, entry, bar["e"])
        self._check_succession(series, stream, entry, before_ms)
        stream.entries[entry.open_time_ms] = stream.newest = entry
        self.bars += 1

    def _check_bar(self, series: Series, stream: Stream, entry: Entry, end_ms: int | None) -> None:
        where = f"{series} {entry.open_time_ms}"
        truth = stream.truth.bar(entry.open_time_ms)
        if truth is None or entry.values is None:
            self.fail(f"{where}: there is no such bar")
            return
        if end_ms is not None and end_ms != truth.end_ms:
            self.fail(f"{where} ends at {end_ms}, it says; must be {truth.end_ms}")
        early_ms = truth.end_ms - (self._loop.now_ms - stream.truth.delay_ms)
        if early_ms > 0:
            self.fail(f"{where} is published {early_ms} ms before its end")
        if not stream.truth.sent_ms(entry.open_time_ms, entry.values):
            self.fail(f"{where}: nobody ever sent {entry.values}")
        if entry.values != tuple(truth.values[1:]):
            self._loop.trace.counts["bar wrong at first"] += 1
            if self._plan.right_at_once and series != CORRECTED:
                self.fail(f"{where} is {entry.values}, must be {tuple(truth.values[1:])}")

    def _check_succession(
        self, series: Series, stream: Stream, entry: Entry, before_ms: int | None
    ) -> None:
        if stream.newest is None:
            return
        where = f"{series} {entry.open_time_ms}"
        after_ms = stream.newest.open_time_ms
        missing = stream.truth.between(after_ms, entry.open_time_ms)
        limited = self._plan.window_bars < UNLIMITED_BARS
        if missing and not entry.gap:
            self.fail(f"{where} follows {after_ms}, and {missing} are missing without a word")
        if entry.gap and not missing and not limited:
            self.fail(f"{where} tells of a gap after {after_ms}, and nothing is missing")
        if missing:
            opened = stream.truth.opened_since(missing[-1], self._loop.now_ms)
            if opened <= self._plan.window_bars:
                self.fail(f"{where}: {missing[-1]} was given up while TradingView had it")
            self._loop.trace.counts["gap found"] += 1
        if entry.gap:
            self.gaps.append((series, (after_ms, before_ms or 0), entry.open_time_ms))

    def _read_corrections(self, series: Series) -> None:
        stream = self.streams[series]
        key, after = KEYS.corrections(series), f"({stream.correction_id}"
        for raw_id, fields in self._client.xrange(key, after):
            stream.correction_id = raw_id.decode()
            bar = _payload(fields)
            assert bar is not None
            where = f"correction {stream.correction_id} of {series} {bar['t']}"
            if bar["t"] > stream.last_id[0]:
                self.fail(f"{where} comes before its bar")
            if not stream.truth.sent_ms(bar["t"], _values(bar)):
                self.fail(f"{where}: nobody ever sent {_values(bar)}")
            revision = stream.corrections.get(bar["t"], (0, ()))[0]
            if bar.get("n", 0) <= revision:
                self.fail(f"{where} is revision {bar.get('n')} after {revision}")
            stream.corrections[bar["t"]] = (bar["n"], _values(bar))

    def reset(self) -> None:
        """The server is not what it was: take what stands there now as the beginning."""
        self._resets += 1
        for series, stream in self.streams.items():
            self.streams[series] = Stream(stream.truth)
            self._take_over(series)

    def _take_over(self, series: Series) -> None:
        stream = self.streams[series]
        for raw_id, fields in self._client.xrange(KEYS.bars(series)):
            first, second = map(int, raw_id.split(b"-"))
            bar = _payload(fields)
            values = None if bar is None else _values(bar)
            entry = Entry(first, values, fields, self._loop.now_ms)
            stream.entries.setdefault(first, entry)
            stream.last_id = (first, second)
            stream.newest = entry if bar is not None else stream.newest
        for raw_id, fields in self._client.xrange(KEYS.corrections(series)):
            bar = _payload(fields)
            assert bar is not None
            stream.correction_id = raw_id.decode()
            stream.corrections[bar["t"]] = (bar["n"], _values(bar))


def _payload(fields: dict[bytes, bytes]) -> dict[str, Any] | None:
    if b"bar" in fields:
        return msgpack.unpackb(fields[b"bar"])  # type: ignore[no-any-return]
    if b"bar.json" in fields:
        return json.loads(fields[b"bar.json"])  # type: ignore[no-any-return]
    return None


def _values(bar: dict[str, Any]) -> Values:
    prices = (bar["o"], bar["h"], bar["l"], bar["c"])
    return prices if bar["v"] is None else (*prices, bar["v"])
