"""The system's keyring, where there is one that can be trusted with a key."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

SERVICE: Final = "tvbus"
PRIORITY_MIN: Final = 1
"""Below are, in keyring's own order, the stand-ins for none and files of their own."""
ANSWER_S_MAX: Final = 60.0
"""How long the keyring may take: it may ask a person to unlock it."""

Result = TypeVar("Result")


class KeychainFailed(Exception):
    """The keyring did not do it; the text says why."""


class Keychain:
    """Keys by name in the system's keyring."""

    @property
    def available(self) -> bool:
        """Whether there is a keyring that keeps a secret; the stand-ins for none do not."""
        try:
            return bool(_asked(lambda: _backend().priority) >= PRIORITY_MIN)
        except KeychainFailed:
            return False

    def read(self, name: str) -> str | None:
        """Return a key, None where there is none. Raises KeychainFailed."""
        found = _asked(lambda: _backend().get_password(SERVICE, name))
        return found if isinstance(found, str) else None

    def write(self, name: str, key: str) -> None:
        """Keep a key. Raises KeychainFailed."""
        _asked(lambda: _backend().set_password(SERVICE, name, key))

    def forget(self, name: str) -> bool:
        """Forget a key; False where there was none. Raises KeychainFailed."""
        if self.read(name) is None:
            return False
        _asked(lambda: _backend().delete_password(SERVICE, name))
        return True


def _backend() -> Any:
    try:
        return importlib.import_module("keyring").get_keyring()
    except ImportError:
        raise KeychainFailed("the extra `keyring` is not installed") from None


def _asked(question: Callable[[], Result]) -> Result:
    """Ask in a thread, for a keyring may wait for a person who is not there."""
    answers: list[Result] = []
    failures: list[str] = []

    def ask() -> None:
        try:
            answers.append(question())
        except KeychainFailed as error:
            failures.append(str(error))
        except Exception as error:  # noqa: BLE001  # allow: a keyring is somebody else's plug-in
            failures.append(f"the keyring failed: {type(error).__name__}")

    thread = threading.Thread(target=ask, name="keyring", daemon=True)
    thread.start()
    thread.join(ANSWER_S_MAX)
    if answers:
        return answers[0]
    raise KeychainFailed(failures[0] if failures else "the keyring does not answer")
