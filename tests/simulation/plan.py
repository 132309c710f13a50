"""What one seed means: markets, tuning, and which faults strike when.

Everything random about a run is drawn here or from generators named here, so a
seed is a run.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Final

from publisher.simulator.plan import Limits
from publisher.wire import MINUTE_MS, Encoding, Series

SECOND_MS: Final = 1_000
LENGTHS_S: Final = {"publisher_frozen": (3, 4, 60)}
"""About how long strikes of a kind last, where it matters: a lease lasts four seconds."""
CLOSE_MS: Final = 3_000
"""How near to the end of a bar many faults strike."""
MARKETS: Final = 4
"""Different truths; few, so that what was computed of one serves many seeds."""
UNLIMITED_BARS: Final = 5_000
"""More bars than any run has."""
MEMBERS: Final = (1, 2, 2, 3)
"""How many members groups have, each as likely as it stands here."""
SLOW_MS: Final = (0, 0, 4_000, 20_000)
"""How slow the slowest handlers are, each as likely as it stands here."""
CORRECTED: Final = Series("BTCUSD", "BITFINEX", "1m")
"""Its source changes some closed bars."""

STRIKES: Final = {
    # The way to TradingView, and TradingView.
    "close": 90,
    "reset": 90,
    "refuse": 200,
    "silence": 200,
    "mute": 200,
    "lossy": 200,
    "late": 150,
    "repeat": 60,
    "reorder": 60,
    "bad_frame": 250,
    "bad_payload": 250,
    "malformed": 200,
    "bad_values": 90,
    "session_rate": 200,
    "token_rejected": 300,
    "signin_refused": 300,
    # Machines and processes.
    "clock_jump": 200,
    "publisher_frozen": 70,
    "publisher_killed": 200,
    "publisher_stopped": 300,
    "all_publishers_killed": 300,
    "consumer_frozen": 200,
    "consumer_killed": 150,
    "consumer_stopped": 300,
    # The bus.
    "bus_away": 200,
    "partition": 200,
    "read_only": 250,
    "out_of_memory": 250,
    "scripts_flushed": 200,
    "flushed": 600,
    "failed_over": 400,
    "evicted": 500,
    "alien": 500,
}
"""Mean seconds between two strikes of a kind where the mix has it."""

IN_CALL: Final = {
    "reply_lost": 0.01,
    "cut": 0.006,
    "stall_before": 0.003,
    "stall_after": 0.003,
    "ghost": 0.003,
}
"""Chance of each kind in one call of the bus where the mix has it."""

IN_HANDLER: Final = {"handler_fails": 0.06, "handler_stalls": 0.01, "handler_killed": 0.01}
"""Chance of each kind in one call of a handler where the mix has it."""

LATER_RIGHT: Final = frozenset({"mute", "lossy", "silence", "late", "reorder", "ghost"})
"""With these a bar may be published before its last values came; a correction follows."""


@dataclass(frozen=True)
class Scene:
    """A time of day, and what is worth publishing then."""

    start: datetime
    series: tuple[str, ...]


SCENES: Final = (
    Scene(
        datetime(2019, 3, 6, 11, 7, tzinfo=UTC),
        ("ETHUSDT-BINANCE-1m", "BTCUSDT-BINANCE-3m", "ZENUSDT-BINANCE-1m", "BTCUSDT-BINANCE-5m"),
    ),
    Scene(  # Wall Street opens at 13:30 and closes at 20:00.
        datetime(2019, 6, 12, 13, 17, tzinfo=UTC),
        ("AAPL-NASDAQ-1m", "BHV-NYSE-1m", "RUT-TVC-1m", "AAPL-NASDAQ-5m"),
    ),
    Scene(
        datetime(2019, 6, 12, 19, 44, tzinfo=UTC),
        ("AAPL-NASDAQ-1m", "BHV-NYSE-1m", "IBM-NYSE-3m"),
    ),
    Scene(  # Lunch in Saigon at 11:30, seen a quarter of an hour later.
        datetime(2019, 5, 8, 4, 33, tzinfo=UTC),
        ("VCB-HOSE-1m", "VCB-HOSE-3m"),
    ),
    Scene(  # Futures rest from 16:00 to 17:00 in Chicago; half of this run is quiet.
        datetime(2019, 6, 12, 20, 43, tzinfo=UTC),
        ("ES1!-CME_MINI-1m", "ES1!-CME_MINI-5m"),
    ),
)
ROUND_THE_CLOCK: Final = ("BTCUSDT-BINANCE-1m", str(CORRECTED), "ZENUSDT-BINANCE-1m")


@dataclass(frozen=True)
class Strike:
    """A fault that strikes at a time."""

    at_ms: int
    kind: str
    length_ms: int
    pick: float
    """In [0, 1): whom it befalls."""


@dataclass(frozen=True)
class Plan:
    """One run, before it."""

    seed: int
    market: int
    start_ms: int
    faults_ms: int
    """How long faults strike."""
    series: tuple[Series, ...]
    history_bars: int
    settle_ms: int
    encoding: Encoding
    limits: Limits
    outbox_bars_max: int
    inbox_max: int
    update_ms: int
    token_life_ms: int | None
    """None: nobody signs in."""
    mutes_expired: bool
    """A connection whose token ended is left without data, rather than ended."""
    mix: frozenset[str]
    strikes: tuple[Strike, ...]
    audit_bars: int
    """After so many bars a series is compared with history."""
    tardy_ms: int
    """How much later than its stamps say TradingView knows of trades."""
    members: int
    """How many processes each group of consumers has."""
    slow_ms: int
    """How long handlers take at most; 0: no time."""

    @property
    def end_ms(self) -> int:
        """When faults no longer strike."""
        return self.start_ms + self.faults_ms

    @property
    def longest_ms(self) -> int:
        """The longest interval."""
        return max(series.interval_ms for series in self.series)

    @property
    def right_at_once(self) -> bool:
        """True where nothing excuses a bar that is published with other than its last values."""
        return not self.mix & LATER_RIGHT and not self.mutes_expired

    @property
    def window_bars(self) -> int:
        """How many bars TradingView gives."""
        return self.limits.window_bars

    def __str__(self) -> str:
        """Tell it for people, the same in every process."""
        told = {name.name: getattr(self, name.name) for name in fields(self)}
        told |= {"mix": sorted(self.mix), "series": [str(series) for series in self.series]}
        told["strikes"] = len(self.strikes)
        return "\n".join(f"{name}: {value}" for name, value in told.items())

    def rng(self, purpose: str) -> random.Random:
        """Return a generator of its own for a purpose."""
        return random.Random(f"{self.seed}:{purpose}")

    def chance(self, kind: str) -> float:
        """Return how likely a fault is at each opportunity."""
        if kind not in self.mix:
            return 0.0
        return {**IN_CALL, **IN_HANDLER}[kind]


def draw(seed: int) -> Plan:
    """Draw the run that belongs to a seed."""
    rng = random.Random(f"{seed}:plan")
    scene = rng.choice(SCENES)
    faults_ms = rng.randrange(12, 20) * MINUTE_MS
    start_ms = int(scene.start.timestamp() * 1000) + rng.randrange(MINUTE_MS)
    mix = _mix(rng)
    life_min = rng.choice((None, 240, 240, 12, 6))
    return Plan(
        seed=seed,
        market=rng.randrange(MARKETS),
        start_ms=start_ms,
        faults_ms=faults_ms,
        series=_series(rng, scene),
        history_bars=rng.choice((3, 15, 40)),
        settle_ms=rng.choice((2_000, 2_000, 5_000)),
        encoding=rng.choice(("msgpack", "json")),
        limits=Limits(
            window_bars=rng.choice((UNLIMITED_BARS, UNLIMITED_BARS, 12, 5)),
            answer_bars=rng.choice((UNLIMITED_BARS, UNLIMITED_BARS, 8)),
        ),
        outbox_bars_max=rng.choice((200_000, 200_000, 12)),
        inbox_max=rng.choice((10_000, 10_000, 8)),
        update_ms=rng.choice((12, 20, 29)) * SECOND_MS,
        token_life_ms=None if life_min is None else life_min * MINUTE_MS,
        mutes_expired=bool(mix & LATER_RIGHT) and rng.random() < 0.5,
        mix=mix,
        strikes=_strikes(rng, mix, start_ms, faults_ms),
        audit_bars=rng.choice((3, 7)),
        tardy_ms=rng.choice((0, 1_500)),
        members=random.Random(f"{seed}:members").choice(MEMBERS),
        slow_ms=random.Random(f"{seed}:slow").choice(SLOW_MS),
    )


def after_the_close() -> Plan:
    """Return the run in which the bus loses the last bars of a day, and no bar follows."""
    close_ms = int(datetime(2019, 6, 12, 20, 0, tzinfo=UTC).timestamp() * 1000)
    lost = Strike(close_ms - 90 * SECOND_MS, "failed_over", 4 * MINUTE_MS, 0.0)
    return replace(
        draw(0),
        start_ms=close_ms - 10 * MINUTE_MS,
        faults_ms=14 * MINUTE_MS,
        series=(Series.parse("AAPL-NASDAQ-1m"),),
        limits=Limits(),
        mix=frozenset({"failed_over"}),
        strikes=(lost,),
        members=0,
    )


def _series(rng: random.Random, scene: Scene) -> tuple[Series, ...]:
    names = rng.sample(scene.series, k=min(len(scene.series), rng.randrange(1, 3)))
    names.append(rng.choice(ROUND_THE_CLOCK))
    return tuple(Series.parse(name) for name in dict.fromkeys(names))


def _mix(rng: random.Random) -> frozenset[str]:
    """Some seeds know few faults, some nearly all."""
    share = rng.choice((0.08, 0.2, 0.4, 0.8))
    kinds = [*STRIKES, *IN_CALL, *IN_HANDLER]
    mix = frozenset(kind for kind in kinds if rng.random() < share)
    return mix - LATER_RIGHT if rng.random() < 0.4 else mix


def _strikes(
    rng: random.Random, mix: frozenset[str], start_ms: int, faults_ms: int
) -> tuple[Strike, ...]:
    # The more kinds there are, the rarer each is: there must be time to recover.
    kinds = [kind for kind in STRIKES if kind in mix]
    crowding = max(1.0, len(kinds) / 6)
    strikes: list[Strike] = []
    for kind in kinds:
        mean_ms = STRIKES[kind] * SECOND_MS * crowding
        at_ms = start_ms + rng.expovariate(1 / mean_ms)
        while at_ms < start_ms + faults_ms:
            lengths_s = LENGTHS_S.get(kind, (3, 15, 60))
            length_ms = int(rng.choice(lengths_s) * SECOND_MS * rng.uniform(0.3, 1.7))
            strikes.append(Strike(_moment(rng, int(at_ms)), kind, length_ms, rng.random()))
            at_ms += rng.expovariate(1 / mean_ms)
    return tuple(sorted(strikes, key=lambda strike: strike.at_ms))


def _moment(rng: random.Random, at_ms: int) -> int:
    """Move many strikes to just before the end of a bar, where most is decided."""
    if rng.random() < 0.4:
        return at_ms
    return (at_ms // MINUTE_MS + 1) * MINUTE_MS - rng.randrange(CLOSE_MS)


def victim(strike: Strike, candidates: Sequence[object]) -> int:
    """Return the index of the one that a fault befalls."""
    return int(strike.pick * len(candidates))
