"""What a user's function takes, found out before the first bar comes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from consumers.errors import HandlerInvalid

IN_ORDER_ONLY: Final = "in_order_only"
"""A function with this attribute keeps a position, so it needs the bars in order."""

_LISTS: Final = ("list", "List", "Sequence", "Iterable", "Collection")
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Handler:
    """A user's function, and whether it wants the context too."""

    call: Callable[..., object]
    takes_context: bool = False

    @property
    def name(self) -> str:
        """What to call it in logs."""
        return name_of(self.call)

    @classmethod
    def inspect(cls, call: Any, takes: str) -> Handler:
        """Check a function that is to take one thing, such as `bar`, and maybe a context.

        Raises HandlerInvalid, which shows how to write it.
        """
        shape = f"def handler({takes}): or def handler({takes}, context):"
        if not callable(call):
            raise HandlerInvalid(f"a handler must be a function, {shape} was {call!r}")
        name = name_of(call)
        if inspect.isclass(call):
            raise HandlerInvalid(f"{name} is a class: give an object of it, {name}(…)")
        _refuse_generators(call, name)
        try:
            parameters = list(inspect.signature(call).parameters.values())
        except (TypeError, ValueError):  # some functions written in C tell nothing
            return cls(call)
        needed = [x for x in parameters if x.kind in _POSITIONAL and x.default is x.empty]
        if alone := [x.name for x in parameters if _must_be_named(x)]:
            raise HandlerInvalid(
                f"{name} needs {alone[0]!r} by name: give it a default, or {shape}"
            )
        takes_any = any(x.kind in (*_POSITIONAL, x.VAR_POSITIONAL) for x in parameters)
        if len(needed) > 2 or not takes_any:
            count = f"{len(needed)} parameters" if needed else "no parameter"
            raise HandlerInvalid(f"{name} takes {count}: write {shape}")
        if needed:
            _refuse_other_number(name, needed[0].annotation, takes)
        return cls(call, len(needed) == 2)


def name_of(call: object) -> str:
    """Return the name of a function, or of the class of an object that can be called."""
    inner = getattr(call, "func", call)  # functools.partial
    name = getattr(inner, "__qualname__", None) or type(inner).__name__
    return str(name).rpartition("<locals>.")[2]


def _refuse_other_number(name: str, annotation: object, takes: str) -> None:
    """Refuse what is annotated as taking a list where it gets one bar, or the reverse."""
    if annotation is inspect.Parameter.empty:
        return
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    outer = text.partition("[")[0].rpartition(".")[2]
    if takes == "bar" and outer in _LISTS:
        raise HandlerInvalid(
            f"{name} takes a list and would get one bar: @app.on(…, batch=500), or --batch 500"
        )
    if takes == "bars" and outer == "Bar":
        raise HandlerInvalid(f"{name} takes one bar and would get a list: leave batch out")


def _must_be_named(parameter: inspect.Parameter) -> bool:
    return parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty


def _refuse_generators(call: Any, name: str) -> None:
    for function in (call, getattr(call, "__call__", None)):  # noqa: B004 - an object's own method
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise HandlerInvalid(
                f"{name} is a generator, so calling it does nothing: take the `yield` out"
            )
