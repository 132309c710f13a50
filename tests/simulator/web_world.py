"""A browser of the simulator's pages, for the tests of this folder."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pyotp
import requests

from publisher.simulator import Account, Simulator

ORIGIN = "https://www.tradingview.com"
SECRET = "jbsw y3dp ehpk 3pxp"
"""As TradingView shows it: 16 characters, in groups, lower case."""
WAIT_S = 20

PLAIN = Account("plain", "right", email="plain@example.com", plan="")
TOTP = Account("careful", 'p&ss+w%rd ü"', totp_secret=SECRET)
SMS = Account("phone", "right", factors=("sms",))
GERMAN = Account("hans", "right", locale="de")
ACCOUNTS = (PLAIN, TOTP, SMS, GERMAN, Account("mail", "right", factors=("email",)))


class Browser:
    """Speaks HTTP to the simulator with a cookie jar and the headers of a browser."""

    def __init__(self, simulator: Simulator) -> None:
        self.url = simulator.web_url
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers.update({"Referer": f"{ORIGIN}/", "Origin": ORIGIN})

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def sign_in(self, name: str, password: str, **headers: Any) -> requests.Response:
        """Do the first step."""
        form = {"username": name, "password": password, "remember": "on"}
        return self.post("/accounts/signin/", form, **headers)

    def factor(self, code: str, way: str = "totp", **headers: Any) -> requests.Response:
        """Do the second step."""
        return self.post(f"/accounts/two-factor/signin/{way}/", {"code": code}, **headers)

    def post(self, path: str, form: dict[str, str], **headers: Any) -> requests.Response:
        """Send a form; a header set to None is left out."""
        return self.session.post(self.url + path, data=form, headers=headers, timeout=WAIT_S)

    def get(self, path: str = "/", **options: Any) -> requests.Response:
        """Ask for a page."""
        return self.session.get(self.url + path, timeout=WAIT_S, **options)

    def cookies(self) -> dict[str, str]:
        """Return the cookies in the jar."""
        return {cookie.name: cookie.value or "" for cookie in self.session.cookies}

    def token(self) -> str:
        """Return the token of the home page, empty where it has none."""
        return token_in(self.get().text)


class Authenticator(pyotp.TOTP):
    """An app that makes codes of a secret as TradingView shows it."""

    def byte_secret(self) -> bytes:
        """Take short secrets, with spaces, in lower case."""
        return base64.b32decode(self.secret.replace(" ", ""), casefold=True)


def totp(simulator: Simulator, steps: int = 0) -> str:
    """Return the code of a time step, counted from the simulator's present one."""
    return Authenticator(SECRET).at(simulator.now_ms() // 1000, counter_offset=steps)


def token_in(page: str) -> str:
    """Return the token that stands in a page, as the known clients look for it."""
    found = re.search(r'"auth_token":"(.*?)"', page)
    return found[1] if found else ""


def claims(token: str) -> dict[str, Any]:
    """Return what a token says."""
    return _part(token, 1)


def header(token: str) -> dict[str, Any]:
    """Return the header of a token."""
    return _part(token, 0)


def _part(token: str, index: int) -> dict[str, Any]:
    text = token.split(".")[index]
    part: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return part
