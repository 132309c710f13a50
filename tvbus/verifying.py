"""Reads one stream, has it audited, and compared with history through the publisher."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson
from redis.exceptions import RedisError

from bus.connection import address
from bus.errors import BusUnreachable
from bus.logs import redact
from consumers.core.audit import (
    CorrectionsAudit,
    Difference,
    Differences,
    StreamAudit,
    check_times,
    longest_ms,
)
from consumers.core.comparison import Comparison, Known, compare
from consumers.core.ids import ZERO, EntryId
from consumers.core.times import utc_text
from consumers.errors import GroupUnavailable, RequestRefused, StreamRefused
from consumers.shell.requests import new_command
from consumers.shell.streams import backwards, forwards, translated
from publisher.shell.store import EVENTS_MAX
from publisher.wire import Bar, EntryMalformed, Series, decode_bar
from publisher.wire.answers import HistoryBar
from tvbus.shared import Bus

CORRECTIONS_READ_MAX: Final = 20_000
"""How many of the newest corrections are read; the publisher keeps about half as many."""
LOOKS_MAX: Final = 3
"""How often corrections that come meanwhile may explain what differs."""
LOOK_S: Final = 1.0
"""How long one of these looks waits; a correction and history come by different ways."""

Outcome = Literal["verified", "differed", "unverified"]
Correction = tuple[EntryId, Bar | EntryMalformed]


@dataclass(slots=True)
class Verdict:
    """What came of one series."""

    series: Series
    bars: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    corrections: int = 0
    late: int = 0
    """Bars that stand among the corrections alone."""
    gaps: int = 0
    """Bars with the gap flag."""
    comparison: Comparison | None = None
    """None where it was not compared."""
    limit: str = ""
    """Why history does not reach back to the first bar; empty where it does."""
    reason: str = ""
    """Why it could not be audited or compared; empty where it was, or was not to be."""
    found: Differences = field(default_factory=Differences)

    @property
    def outcome(self) -> Outcome:
        """What to call it; what was found counts more than what could not be looked into."""
        if self.found.total:
            return "differed"
        return "unverified" if self.reason else "verified"

    def summary(self) -> str:
        """Return one line for people."""
        parts = []
        if self.bars:
            parts.append(f"{self.bars} bars {utc_text(self.first_ms)} … {utc_text(self.last_ms)}")
        parts += self._counted((self.corrections, "corrections"), (self.late, "late"))
        parts += self._counted((self.gaps, "gaps announced"))
        if (reached := self.comparison) is not None:
            limit = f", back to {utc_text(reached.reach_ms)} ({self.limit})" if self.limit else ""
            parts.append(f"{reached.compared} compared with history{limit}")
            parts += self._counted((reached.unreached, "older ones audited by themselves"))
            parts += self._counted((reached.newer, "newer in history"))
        elif self.reason:
            parts.append(f"not compared: {self.reason}")
        else:
            parts.append("audited by themselves")
        if self.found.total:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.found.counts.items())
            parts.append(f"differences: {kinds}")
        return "; ".join(parts)

    def _counted(self, *counts: tuple[int, str]) -> Iterator[str]:
        return (f"{count} {what}" for count, what in counts if count)

    def facts(self) -> dict[str, Any]:
        """Return the same for programs."""
        compared = self.comparison or Comparison()
        return {
            "series": str(self.series),
            "bars": self.bars,
            "first_open_time_ms": self.first_ms,
            "last_open_time_ms": self.last_ms,
            "corrections": self.corrections,
            "late": self.late,
            "gaps": self.gaps,
            "compared": compared.compared,
            "reach_ms": compared.reach_ms,
            "unreached": compared.unreached,
            "newer": compared.newer,
            "limit": self.limit,
            "reason": self.reason,
            "differences": dict(self.found.counts),
        }

    def shown(self) -> list[Difference]:
        """Return the first differences, as many as are shown."""
        return self.found.shown


def verify(bus: Bus, series: Series, *, offline: bool) -> Verdict:
    """Audit a series' stream, and unless `offline` compare it with history.

    Raises BusUnreachable where the bus fails.
    """
    verdict = Verdict(series)
    try:
        _Check(bus, series, verdict).run(offline=offline)
    except (StreamRefused, RequestRefused) as error:
        verdict.reason = " ".join(redact(str(error)).split())
    except (RedisError, GroupUnavailable) as error:
        raise BusUnreachable(f"the bus at {address(bus.url)} failed: {error}") from error
    return verdict


def tell(bus: Bus, verdict: Verdict) -> None:
    """Put the outcome on the events stream. Raises BusUnreachable."""
    levels = {"verified": "info", "differed": "error", "unverified": "warning"}
    first = [str(one) for one in verdict.shown()[:1]]
    fact = {
        "event": f"stream.{verdict.outcome}",
        "at_ms": _machine_ms(),
        "level": levels[verdict.outcome],
        **verdict.facts(),
        **({"first": " ".join(first[0].split())} if first else {}),
    }
    fields: Any = {"event": orjson.dumps(fact)}
    try:
        bus.client.xadd(bus.keys.events, fields, maxlen=EVENTS_MAX)
    except RedisError as error:
        raise BusUnreachable(
            f"the bus at {address(bus.url)} does not take the event: {error}"
        ) from error


class _Check:
    """One series, looked into once."""

    def __init__(self, bus: Bus, series: Series, verdict: Verdict) -> None:
        self._bus = bus
        self._series = series
        self._verdict = verdict
        self._found = verdict.found
        self._stream = StreamAudit(self._found)
        self._corrected = ZERO
        """The newest correction that was read."""
        self._latest_ms = 0

    def run(self, *, offline: bool) -> None:
        # A correction that was read has its bar in the stream that is read afterwards.
        corrections = self._read_corrections()
        self._read_stream()
        if not self._stream.entries:
            self._verdict.reason = "there are no bars on the bus: see `tvbus series`"
            return
        newest = self._audit_corrections(corrections)
        self._latest_ms = self._present_ms()
        try:
            if not offline and self._stream.kept:
                self._compare(Known.of(self._stream.kept, newest))
        finally:
            longest = longest_ms(self._series)
            times = (bar.open_time_ms for bar in self._stream.kept)
            check_times(times, self._latest_ms + longest, self._found)

    def _read_stream(self) -> None:
        key, client, audit = self._bus.keys.bars(self._series), self._bus.client, self._stream
        # Bars that are appended meanwhile are not looked at.
        for last, _ in backwards(client, key, 1):
            for entry, fields in forwards(client, key, high=str(last)):
                try:
                    audit.take(entry, decode_bar(self._series, fields))
                except EntryMalformed as error:
                    audit.take_malformed(entry, str(error))
        verdict = self._verdict
        verdict.bars, verdict.gaps = audit.entries, audit.gaps
        verdict.first_ms, verdict.last_ms = audit.first_ms, audit.last_ms

    def _read_corrections(self) -> list[Correction]:
        """Return the corrections that came after those read before."""
        key, low = self._bus.keys.corrections(self._series), f"({self._corrected}"
        read: list[Correction] = []
        for entry, fields in backwards(self._bus.client, key, CORRECTIONS_READ_MAX, low):
            try:
                read.append((entry, decode_bar(self._series, fields)))
            except EntryMalformed as error:
                read.append((entry, error))
        if read:
            self._corrected = read[0][0]
        return read[::-1]

    def _audit_corrections(self, corrections: list[Correction]) -> dict[int, Bar]:
        audit = CorrectionsAudit(self._stream, self._found)
        for entry, bar in corrections:
            if isinstance(bar, EntryMalformed):
                audit.take_malformed(entry, str(bar))
            else:
                audit.take(bar)
        self._verdict.corrections, self._verdict.late = audit.entries, audit.late
        return audit.newest

    def _compare(self, known: Known) -> None:
        command = new_command("history", self._series, from_ms=known.times[0])
        history = self._bus.requests.history(command)
        if not history.bars:
            raise RequestRefused(f"history has no bars: {history.message}")
        # By TradingView's clock it may be later than by ours.
        self._latest_ms = max(self._latest_ms, history.bars[-1].open_time_ms)
        differences, comparison = self._differ(known, history.bars)
        for _ in range(LOOKS_MAX):
            if not differences.total:
                break
            time.sleep(LOOK_S)
            differences, comparison = self._differ(known, history.bars)
        self._found.extend(differences)
        self._verdict.comparison = comparison
        if not history.complete:
            self._verdict.limit = " ".join(redact(history.message).split())

    def _differ(self, known: Known, bars: list[HistoryBar]) -> tuple[Differences, Comparison]:
        """Compare with the corrections that have come by now."""
        for _, bar in self._read_corrections():
            if isinstance(bar, Bar):
                known.revise(bar)
        found = Differences()
        history = {
            bar.open_time_ms: (bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in bars
        }
        return found, compare(known, history, found)

    def _present_ms(self) -> int:
        """Return the latest that is known of the clocks: the bus's, ours, TradingView's."""
        server: Any = self._bus.client.time()
        times: list[int] = [_machine_ms(), server[0] * 1000 + server[1] // 1000]
        # A bar that forms opened already, by TradingView's own clock.
        with translated():
            forming: Any = self._bus.client.xrevrange(self._bus.keys.forming(self._series), count=1)
        for _, fields in forming:
            try:
                times.append(decode_bar(self._series, fields).open_time_ms)
            except EntryMalformed:
                continue  # conflated and short-lived; the other clocks do
        return max(times)


def _machine_ms() -> int:
    return time.time_ns() // 1_000_000
