"""Find the function that `tvbus consume module:function` names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from consumers.errors import TargetInvalid
from consumers.sinks.open import FORMS

_importing = False


def is_importing() -> bool:
    """Whether a target's module is being imported now, on behalf of a command."""
    return _importing


def load_target(text: str) -> Callable[..., object]:
    """Return the function that `module:function` names.

    The module is looked for on the import path and in the current directory,
    which joins the import path. Raises TargetInvalid, whose message is one line;
    what the module itself raises while it is imported is chained.
    """
    module_name, colon, path = text.partition(":")
    if not colon or not module_name or not path:
        raise TargetInvalid(f"target must be module:function, was {text!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found = _import(module_name, text)
    for name in path.split("."):
        if not hasattr(found, name):
            raise TargetInvalid(f"target {text!r}: module {module_name!r} has no {path!r}")
        found = getattr(found, name)
    if not callable(found):
        kind = type(found).__name__
        raise TargetInvalid(f"target {text!r}: {path!r} is not a function but a {kind}")
    return found


def _import(name: str, text: str) -> object:
    global _importing  # noqa: PLW0603, imports happen one at a time
    _importing = True
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise TargetInvalid(
                f"target {text!r}: there is no module {missing!r} on the import path "
                f"or in the current directory{_hint(name, text)}"
            ) from error
        raise TargetInvalid(f"target {text!r}: {name!r} needs the module {missing!r}") from error
    except Exception as error:  # allow: a user's module may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise TargetInvalid(f"target {text!r}: importing {name!r} failed, {reason}") from error
    finally:
        _importing = False


def _hint(name: str, text: str) -> str:
    """Return what may have been meant."""
    if name.endswith(".py"):
        return f"; write {name.removesuffix('.py')}:{text.partition(':')[2]}"
    return f"; a sink is one of {', '.join(FORMS)}"
