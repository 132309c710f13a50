"""Whose session it is, and the cookies that keep it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr

from publisher.errors import CredentialsRejected

_COOKIE: Final = re.compile(r"[!#-+\--:<-\[\]-~]{1,4096}")


@dataclass(frozen=True, slots=True)
class Cookies:
    """What keeps a session; TradingView wants the first two together."""

    sessionid: SecretStr
    sessionid_sign: SecretStr
    device_t: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody's session; it does not print itself."""

    cookies: Cookies
    username: SecretStr
    """As it was typed at the sign-in; empty where it is unknown."""
    nick: SecretStr
    """What TradingView calls the user; empty where it is unknown."""
    signed_in_ms: int

    def belongs_to(self, username: str) -> bool:
        """Whether it may be this user's; a session whose user is unknown may."""
        names = {fold_name(name.get_secret_value()) for name in (self.username, self.nick)} - {""}
        return not names or fold_name(username) in names


def clean_cookie(text: SecretStr, name: str) -> SecretStr:
    """Return a cookie's value as somebody copied it, `name=` and `;` around it taken off.

    Raises CredentialsRejected where it is none.
    """
    value = text.get_secret_value().strip().removeprefix(f"{name}=").strip(' ;"')
    if not _COOKIE.fullmatch(value):
        raise CredentialsRejected(
            f"what was given as the cookie {name} is not the value of a cookie: copy it from the "
            "browser's developer tools, cookies of tradingview.com"
        )
    return SecretStr(value)


def account_of(name: str) -> str:
    """Return a digest of a user name, to tell accounts apart without naming them."""
    return hashlib.sha256(f"tvbus:{fold_name(name)}".encode()).hexdigest()[:16]


def fold_name(name: str) -> str:
    """Return a user name or e-mail as TradingView compares it: letter case does not count."""
    return name.strip().casefold()
