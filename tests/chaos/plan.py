"""Which faults, when and how hard: drawn from a seed before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Final

WEIGHTS: Final[dict[str, float]] = {
    # TradingView, on the connections.
    **dict.fromkeys(("close", "reset", "mute", "late", "repeat"), 2.0),
    **dict.fromkeys(("corrupt", "truncate", "invalid_utf8", "silence", "huge"), 1.0),
    **dict.fromkeys(("nan", "placeholder", "reversed", "skew"), 1.5),
    **dict.fromkeys(("throttle", "forbid", "session_rate", "bad_token"), 0.7),
    # TradingView, its pages.
    **dict.fromkeys(("web_error", "web_throttle", "slow_web", "expire_token"), 1.0),
    # Processes.
    **dict.fromkeys(("kill_active", "stall_active", "term_active"), 1.5),
    **dict.fromkeys(("kill_standby", "stall_standby", "term_standby"), 0.7),
    **dict.fromkeys(("kill_consumer", "stall_consumer", "term_consumer"), 0.7),
    # Redis.
    **dict.fromkeys(("redis_kill", "redis_stall", "redis_oom", "redis_read_only"), 1.2),
    **dict.fromkeys(("redis_scripts", "redis_clients"), 1.0),
    **dict.fromkeys(("redis_rewind", "redis_flush"), 0.4),
    # The network between publisher and TradingView.
    **dict.fromkeys(("net_half_open", "net_hold", "net_slow", "net_refuse"), 1.0),
}
"""How often each kind is drawn, compared with the others."""

UNSEEN: Final = frozenset(
    (
        *("mute", "silence", "late", "skew", "bad_token"),
        *("web_error", "web_throttle", "slow_web", "expire_token"),
    )
)
"""What can hide the last values of a bar, or TradingView's time, from any client.

Without them nothing may be published with values that were not final.
"""

FIRST_S: Final = 1.0


def choose(kinds: str = "", without: str = "") -> list[str]:
    """Return the kinds that a user means, all where `kinds` names none.

    Both are comma separated; `without` names kinds, or the first words of several, as
    `kill` does. Raises ValueError where a word of it leaves nothing out.
    """
    chosen = [kind for kind in kinds.split(",") if kind] or list(WEIGHTS)
    for word in filter(None, without.split(",")):
        left = [kind for kind in chosen if kind != word and not kind.startswith(f"{word}_")]
        if len(left) == len(chosen):
            raise ValueError(f"no such fault: {word}; there are {', '.join(chosen)}")
        chosen = left
    return chosen


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault of the plan."""

    at_s: float
    """Real seconds after the beginning."""
    kind: str
    amount: float
    """How hard it strikes, from 0 to 1: a duration, a size."""


def draw(
    seed: int, length_s: float, mean_s: float, kinds: Iterable[str] = tuple(WEIGHTS)
) -> list[Planned]:
    """Return the faults of so many seconds, one every `mean_s` on average.

    Raises ValueError where a kind is not known.
    """
    choices = list(kinds)
    for kind in choices:
        if kind not in WEIGHTS:
            raise ValueError(f"no such fault: {kind}; there are {', '.join(WEIGHTS)}")
    rng = Random(seed)
    planned: list[Planned] = []
    at_s = FIRST_S
    while at_s < length_s:
        kind = rng.choices(choices, [WEIGHTS[kind] for kind in choices])[0]
        planned.append(Planned(at_s, kind, rng.random()))
        at_s += mean_s * (0.2 + 1.6 * rng.random())
    return planned
