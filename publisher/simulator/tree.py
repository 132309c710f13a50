"""The tree of trading: a session's hours, quarters, minutes and steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from random import Random
from typing import Final, NamedTuple

from publisher.simulator.calendar import HOUR_MS, MINUTE_MS, Session
from publisher.simulator.paths import Ohlcv, split
from publisher.simulator.periods import in_lunch
from publisher.simulator.symbols import SYMBOLS, Symbol
from publisher.simulator.walk import Walk

STEP_MS: Final = 2000
"""A forming bar changes at most once in this time."""

_LENGTHS_MS: Final = (HOUR_MS, 15 * MINUTE_MS, MINUTE_MS, STEP_MS)
"""The length of a node's children by the node's depth; depth 0 is a session."""

HOUR_DEPTH: Final = 1
QUARTER_DEPTH: Final = 2
MINUTE_DEPTH: Final = 3
_STEP_DEPTH: Final = 4

_STEP_CHANCE: Final = 0.45
_SPLITS_KEPT: Final = 3000


class Node(NamedTuple):
    """A stretch of time in which a symbol traded. Times are ms since the epoch, UTC."""

    start_ms: int
    end_ms: int
    ohlcv: Ohlcv


class Trading:
    """What happened on one session day of a symbol."""

    def __init__(self, tree: Tree, symbol: Symbol, session: Session, *, extended: bool) -> None:
        self._children = tree.children
        self._name = symbol.full_name
        self._open_ms = session.open_ms
        self.roots = tree.roots(symbol, session, extended=extended)

    def cover(self, from_ms: int, to_ms: int) -> list[Ohlcv]:
        """Return the fewest pieces that make up what was traded in [from_ms, to_ms)."""
        pieces: list[Ohlcv] = []

        def visit(node: Node, depth: int) -> None:
            if node.start_ms >= to_ms or node.end_ms <= from_ms:
                return
            if node.start_ms >= from_ms and node.end_ms <= to_ms:
                pieces.append(node.ohlcv)
            elif depth < _STEP_DEPTH:
                for child in self._children(self._name, self._open_ms, depth, node):
                    visit(child, depth + 1)

        for root in self.roots:
            visit(root, 0)
        return pieces

    def collect(self, wanted: int, from_ms: int, to_ms: int) -> list[Node]:
        """Return all nodes of one depth that overlap [from_ms, to_ms)."""
        nodes: list[Node] = []

        def visit(node: Node, depth: int) -> None:
            if node.start_ms >= to_ms or node.end_ms <= from_ms:
                return
            if depth == wanted:
                nodes.append(node)
                return
            for child in self._children(self._name, self._open_ms, depth, node):
                visit(child, depth + 1)

        for root in self.roots:
            visit(root, 0)
        return nodes


class Tree:
    """Computes and caches the nodes of every symbol, for one seed."""

    def __init__(self, seed: int) -> None:
        self._keys = {name: _key(f"{seed}:{name}") for name in SYMBOLS}
        self._walks = {name: Walk(SYMBOLS[name], key) for name, key in self._keys.items()}
        self.children = lru_cache(maxsize=_SPLITS_KEPT)(self._split)

    def day(self, symbol: Symbol, session: Session) -> Ohlcv:
        """Return the regular session's bar."""
        return self._walks[symbol.full_name].day(session)

    def draw(self, symbol: Symbol, *numbers: int) -> float:
        """Return the number in [0, 1) that belongs to a symbol and some integers."""
        return _key(f"{self._keys[symbol.full_name]}:{numbers}") / 2**64

    def roots(self, symbol: Symbol, session: Session, *, extended: bool) -> list[Node]:
        """Return a session's nodes of depth 0: with the extended hours up to three."""
        if session.day < symbol.listed or not symbol.trades:
            return []
        day = self.day(symbol, session)
        roots = [Node(session.open_ms, session.close_ms, day)]
        if not extended:
            return roots
        reach = max(2, (day.high - day.low) // 4)
        if session.extended_open_ms < session.open_ms:
            early = _quiet(symbol, day.open + reach // 2, day.open, reach, day.volume // 30)
            roots.insert(0, Node(session.extended_open_ms, session.open_ms, early))
        if session.extended_close_ms > session.close_ms:
            late = _quiet(symbol, day.close, day.close - reach // 3, reach, day.volume // 40)
            roots.append(Node(session.close_ms, session.extended_close_ms, late))
        return roots

    def _split(self, name: str, open_ms: int, depth: int, node: Node) -> tuple[Node, ...]:
        symbol = SYMBOLS[name]
        if symbol.has_volume and node.ohlcv.volume == 0:
            return ()
        length = _LENGTHS_MS[depth]
        spans = [
            (start, min(start + length, node.end_ms))
            for start in range(node.start_ms, node.end_ms, length)
        ]
        if symbol.venue.lunch is not None:
            spans = [span for span in spans if not in_lunch(symbol, open_ms, *span)]
        mixed = (node.start_ms * 0x9E3779B97F4A7C15 + depth * 0xC2B2AE3D27D4EB4F) % 2**64
        rand = Random(self._keys[name] ^ mixed).random
        active = _active(symbol, depth, node, len(spans), rand)
        children = iter(split(node.ohlcv, sum(active), rand))
        # On a market that never closes the clock opens bars even if nobody trades.
        fills = symbol.venue.round_the_clock and depth + 1 == MINUTE_DEPTH
        price = node.ohlcv.open
        nodes: list[Node] = []
        for (start, end), trades in zip(spans, active, strict=True):
            if trades:
                child = next(children)
                price = child.close
                nodes.append(Node(start, end, child))
            elif fills:
                nodes.append(Node(start, end, Ohlcv(price, price, price, price, 0)))
        return tuple(nodes)


def _active(
    symbol: Symbol, depth: int, node: Node, count: int, rand: Callable[[], float]
) -> list[bool]:
    """Choose which children of a node see a trade: at least one, at most one per lot."""
    minutes = (60, 15, 1)[depth] if depth + 1 < _STEP_DEPTH else 0
    chance = 1 - (1 - symbol.activity) ** minutes if minutes else _STEP_CHANCE
    if chance >= 1:
        active = [True] * count
    else:
        active = [rand() < chance for _ in range(count)]
        if not any(active):
            active[int(rand() * count)] = True
    excess = sum(active) - node.ohlcv.volume if symbol.has_volume else 0
    for index in range(count - 1, -1, -1):
        if excess > 0 and active[index]:
            active[index] = False
            excess -= 1
    return active


def _quiet(symbol: Symbol, opens: int, close: int, reach: int, volume: int) -> Ohlcv:
    opens, close = max(2, opens), max(2, close)
    high = max(opens, close) + reach // 3
    low = max(1, min(opens, close) - reach // 3)
    return Ohlcv(opens, high, low, close, max(1, volume) if symbol.has_volume else 0)


def _key(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
