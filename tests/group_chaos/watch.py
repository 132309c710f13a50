"""Watches the streams and the shares of a group from outside, by the contract's keys."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from publisher.wire import Keys, Series
from tests.group_chaos.leases import Shares, read_shares

POLL_S: Final = 0.05
COUNT_MAX: Final = 1_000


@dataclass(slots=True)
class Evenness:
    """How long the shares were uneven after each change of the members, monotonic s."""

    settled_s: list[float] = field(default_factory=list)
    """After each change that was followed by no other one before the shares were even."""
    _members: frozenset[str] = frozenset()
    _since_s: float | None = None

    def see(self, shares: Shares, series: int, now_s: float) -> None:
        """Take in a look at the shares."""
        counts = [shares.held[member] for member in shares.members]
        all_held = shares.held.total() == series
        even = bool(counts) and all_held and max(counts) - min(counts) <= 1
        if shares.members != self._members:
            self._members, self._since_s = shares.members, now_s
        if even and self._since_s is not None:
            self.settled_s.append(now_s - self._since_s)
            self._since_s = None

    def unsettled_s(self, now_s: float) -> float:
        """Return for how long the shares have been uneven by now; 0 where they are even."""
        return 0.0 if self._since_s is None else now_s - self._since_s


class Watch(threading.Thread):
    """Notes when each bar stood in its stream, and how the group shares the series."""

    def __init__(self, url: str, series: Sequence[Series], group: str) -> None:
        super().__init__(name="watch", daemon=True)
        self._client = redis.Redis.from_url(url)
        self._keys = Keys()
        self._group = group
        self._after: dict[Any, Any] = {self._keys.bars(one): "0-0" for one in series}
        self._names = {self._keys.bars(one).encode(): str(one) for one in series}
        self._stopping = threading.Event()
        self.published: dict[str, dict[int, float]] = {str(one): {} for one in series}
        """By series and open time, ms: when the bar was seen, monotonic s."""
        self.evenness = Evenness()
        self.members_seen: Counter[int] = Counter()

    def run(self) -> None:
        """Look until stopped."""
        while not self._stopping.wait(POLL_S):
            self._look()

    def stop(self) -> None:
        """Look once more, and end."""
        self._stopping.set()
        self.join(10)
        self._look()

    def shares(self) -> Shares:
        """Return who holds how much now."""
        return read_shares(self._client, self._keys, self._group)

    def _look(self) -> None:
        replies: Any = self._client.xread(self._after, count=COUNT_MAX)
        now_s = time.monotonic()
        for key, entries in replies:
            self._after[key.decode()] = entries[-1][0]
            for entry_id, _ in entries:
                open_time_ms = int(entry_id.split(b"-")[0])
                self.published[self._names[key]].setdefault(open_time_ms, now_s)
        shares = self.shares()
        self.evenness.see(shares, len(self.published), time.monotonic())
        self.members_seen[len(shares.members)] += 1
