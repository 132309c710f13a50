"""How a bug is planted: the program is changed for the length of one run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from bus.scripts import Script
from tests.simulation.plan import Plan

Planting = AbstractContextManager[Any]


@dataclass(frozen=True)
class Bug:
    """A bug, how to plant it, and where to look."""

    name: str
    plant: Callable[[], Planting]
    seed: int = 0
    """Found with this one before, so it comes first where time matters."""
    needs: frozenset[str] = frozenset()
    """Seeds whose mix has none of these faults cannot show it, so nobody looks there."""
    scenario: Callable[[], Plan] | None = None
    """The one course of things in which it shows, where others hide it."""
    only: frozenset[str] = frozenset()
    """The faults that show it and nothing else, where others would show another."""


def method(owner: Any, name: str, make: Callable[[Any], Any]) -> Planting:
    """Replace a method by what `make` makes of it."""
    return mock.patch.object(owner, name, make(getattr(owner, name)))


def script(owner: Any, name: str, *changes: tuple[str, str]) -> Planting:
    """Change the text of a script that a module has."""
    text = getattr(owner, name).text
    for before, after in changes:
        assert before in text, f"{name} has changed: {before!r}"
        text = text.replace(before, after)
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return mock.patch.object(owner, name, Script(text, sha))


def _nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


def silent(owner: Any, name: str) -> Callable[[], Planting]:
    """Let a method do nothing."""
    return lambda: mock.patch.object(owner, name, _nothing)


def always(owner: Any, name: str, value: object) -> Callable[[], Planting]:
    """Let a method return always the same, or a constant be another."""
    replacement = (lambda *_, **__: value) if callable(getattr(owner, name)) else value
    return lambda: mock.patch.object(owner, name, replacement)


@contextmanager
def together(*plantings: Callable[[], Planting]) -> Iterator[None]:
    """Plant several."""
    with ExitStack() as stack:
        for plant in plantings:
            stack.enter_context(plant())
        yield
