"""What a command asks a person at the terminal while signing in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import typer
from pydantic import SecretStr

from bus.logs import register_secret
from publisher.core.signin import choose_factor
from publisher.errors import ChallengeRequired
from publisher.password import Means, TotpCodes

CODE_TRIES_MAX: Final = 3
CODE_CHARACTERS_MAX: Final = 32

_TEXTS: Final = {
    "totp": "Code of your authenticator",
    "sms": "Code that TradingView sent by SMS",
    "email": "Code that TradingView sent by e-mail",
}


def is_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty()


def ask(text: str, setting: str, *, hidden: bool = False) -> SecretStr:
    """Return what a person types; it never reaches the logs.

    Raises ChallengeRequired where there is no terminal.
    """
    if not is_terminal():
        raise ChallengeRequired(
            f"there is no terminal to ask for: {text.lower()}; set {setting}, or run this in one"
        )
    try:
        typed = SecretStr(str(typer.prompt(text, hide_input=hidden, err=True)))
    except typer.Abort:
        if not hidden:
            say("")  # the terminal is still on the line of the question
        raise
    register_secret(typed)
    return typed


def say(text: str) -> None:
    """Tell a person something in between; what comes out is for stdout."""
    typer.echo(text, err=True)


class AskedCodes:
    """The codes that a person reads from a device, or those of a secret where one is set."""

    def __init__(self, secret: SecretStr | None, means: Means) -> None:
        """Take the secret, if there is one. Raises CredentialsRejected where it is none."""
        self._computed = None if secret is None else TotpCodes(secret, means)
        self._means = means
        self._by_hand = True

    @property
    def tries(self) -> int:
        """How many codes may be tried."""
        return CODE_TRIES_MAX if self._by_hand or self._computed is None else self._computed.tries

    def choose(self, kinds: Sequence[str]) -> str:
        """Return the kind of factor to use. Raises ChallengeRequired where none will do."""
        kind = choose_factor(kinds)
        self._by_hand = kind != "totp" or self._computed is None
        return kind

    def next_code(self, kind: str) -> SecretStr:
        """Return a code; of an authenticator, one whose time step nobody tried."""
        if self._computed is not None and not self._by_hand:
            return self._computed.next_code(kind)
        if kind == "totp":
            self._await_step()
        typed = ask(_TEXTS[kind], "TVBUS_TOTP_SECRET").get_secret_value()
        if kind == "totp":
            self._means.governor.claim_step(self._means.pages.server_now_ms())
        return SecretStr("".join(typed.split())[:CODE_CHARACTERS_MAX])

    def told_wrong(self, kind: str) -> None:
        """Say so."""
        say("TradingView does not accept this code.")

    def _await_step(self) -> None:
        """Wait for the next code where this one was tried: TradingView takes each only once."""
        pages, governor = self._means.pages, self._means.governor
        _, wait_ms = governor.next_step(pages.server_now_ms())
        if wait_ms:
            say(f"Each code counts once; wait {-(-wait_ms // 1000)} s for the next one …")
            self._means.wait(wait_ms / 1000)
