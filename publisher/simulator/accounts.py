"""Who may sign in at the simulated TradingView, and who did. Pure: time is passed in.

Signing in has one step or two. The first already gives cookies; while a second
factor is wanted they are good for nothing but the second step, which gives new ones.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum, auto
from typing import Final, Literal

import pyotp

from publisher.simulator.tokens import Plan, Tokens

Factor = Literal["totp", "sms", "email"]

CODE_LIFE_S: Final = 300
"""How long a code that was sent is good, simulated seconds."""

CAPTCHA_SPAN_MS: Final = 3_600_000
"""How far back sign-ins count towards a captcha, simulated ms."""

TOTP_STEPS: Final = (0, -1, 1)
"""Time steps of 30 s whose codes are good, counted from the present one."""

SESSIONS_MAX: Final = 1000
"""Sessions that are remembered; the oldest are forgotten, and then refused."""

_ATTEMPTS_MAX: Final = 1000
_ISSUED_MAX: Final = 1_000
_USED_MAX: Final = 20
"""Used time steps that are remembered; more than are good at a time."""


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may sign in. Raises ValueError where the secret is not base32."""

    username: str
    password: str = field(repr=False)
    _: KW_ONLY
    email: str = ""
    totp_secret: str | None = field(default=None, repr=False)
    """Base32; spaces and lower case are fine. None: codes of an app are not asked for."""
    factors: tuple[Factor, ...] = ("totp",)
    """Ways to give the second factor; `sms` and `email` send a code at the first step."""
    plan: str = "pro_premium"
    """"" is the free plan."""
    max_charts: int = 8
    max_connections: int = 50
    token_life_s: int = 14_400
    """How long its tokens live, simulated seconds."""
    locale: str = ""
    """Where the home page sends this account, as `de` for `/de/`; empty: nowhere."""

    def __post_init__(self) -> None:
        if self.totp_secret is not None:
            _Totp(self.totp_secret).byte_secret()

    @property
    def ways(self) -> tuple[Factor, ...]:
        """The second factors that it has; none where the password is enough."""
        return tuple(way for way in self.factors if way != "totp" or self.totp_secret is not None)


class Outcome(Enum):
    """What a step of signing in comes to."""

    SIGNED_IN = auto()
    FACTOR_NEEDED = auto()
    WRONG_PASSWORD = auto()
    CAPTCHA = auto()
    RATE_LIMIT = auto()
    CODE_NOT_SENT = auto()
    WRONG_CODE = auto()
    NO_FIRST_STEP = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """A step of signing in, done or refused."""

    outcome: Outcome
    account: Account | None = None
    cookies: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class _Session:
    account: Account
    sign: str
    complete: bool
    code: str = ""
    code_until_ms: int = 0


class Accounts:
    """Signs accounts in and remembers their sessions. Safe in any thread."""

    def __init__(
        self, accounts: Iterable[Account], tokens: Tokens, captcha_after: int | None = None
    ) -> None:
        self._accounts = tuple(accounts)
        self._tokens = tokens
        self._captcha_after = captcha_after
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._attempts_ms: deque[int] = deque(maxlen=_ATTEMPTS_MAX)
        self._used: dict[str, deque[int]] = {}
        self._sent: dict[str, str] = {}
        self._issued: deque[str] = deque(maxlen=_ISSUED_MAX)

    def sign_in(
        self,
        name: str,
        password: str,
        now_ms: int,
        refused: Outcome | None = None,
        send: Callable[[], bool] = lambda: True,
    ) -> Step:
        """Do the first step; `name` may be the e-mail address.

        `refused` is what it comes to where a fault wants it so; `send` sends a code
        and tells whether it could.
        """
        with self._lock:
            captcha = self._wants_captcha(now_ms)
            self._attempts_ms.append(now_ms)
            if refused is not None or captcha:
                return Step(refused or Outcome.CAPTCHA)
            account = self._find(name)
            if account is None or not _same(account.password, password):
                return Step(Outcome.WRONG_PASSWORD)
            if not account.ways:
                return Step(Outcome.SIGNED_IN, account, self._open(account))
            return self._ask_factor(account, now_ms, send)

    def second_step(self, cookies: Mapping[str, str], factor: str, code: str, now_ms: int) -> Step:
        """Do the second step with the cookies of the first; codes are text."""
        with self._lock:
            session = self._session(cookies)
            if session is None or session.complete:
                return Step(Outcome.NO_FIRST_STEP)
            if factor not in session.account.ways:
                return Step(Outcome.WRONG_CODE)
            good = self._take_totp if factor == "totp" else self._take_sent
            if not good(session, code, now_ms):
                return Step(Outcome.WRONG_CODE)
            del self._sessions[cookies["sessionid"]]
            return Step(Outcome.SIGNED_IN, session.account, self._open(session.account))

    def signed_in(self, cookies: Mapping[str, str]) -> Account | None:
        """Return whose cookies these are, None where they are not those of a whole sign-in."""
        with self._lock:
            session = self._session(cookies)
            return session.account if session is not None and session.complete else None

    def new_token(self, account: Account, now_ms: int) -> str:
        """Return a fresh token of an account."""
        plan = Plan(account.plan, account.max_charts, account.max_connections, account.token_life_s)
        token = self._tokens.issue(account.username, self.user_id(account), plan, now_ms)
        self._issued.append(token)
        return token

    def user_id(self, account: Account) -> int:
        """Return the number of an account, from 1."""
        return self._accounts.index(account) + 1

    def code_sent(self, username: str) -> str:
        """Return the newest code that went to an account by SMS or e-mail.

        It begins with 0, so that a client that takes it for a number is found out.
        Raises KeyError where none was sent.
        """
        with self._lock:
            return self._sent[username]

    def issued(self) -> list[str]:
        """Return the newest tokens and cookies, so that tests can look where they went."""
        with self._lock:
            return list(self._issued)

    def end_sessions(self, username: str) -> None:
        """Make all cookies of an account bad at once."""
        with self._lock:
            for key in [
                key
                for key, session in self._sessions.items()
                if session.account.username == username
            ]:
                del self._sessions[key]

    def _wants_captcha(self, now_ms: int) -> bool:
        if self._captcha_after is None:
            return False
        since_ms = now_ms - CAPTCHA_SPAN_MS
        return sum(at > since_ms for at in self._attempts_ms) >= self._captcha_after

    def _find(self, name: str) -> Account | None:
        return next(
            (account for account in self._accounts if name and name in _names(account)), None
        )

    def _ask_factor(self, account: Account, now_ms: int, send: Callable[[], bool]) -> Step:
        code = ""
        if {"sms", "email"} & set(account.ways):
            if not send():
                return Step(Outcome.CODE_NOT_SENT)
            code = self._sent[account.username] = f"0{secrets.randbelow(100_000):05}"
        cookies = self._open(account, complete=False)
        session = self._sessions[cookies["sessionid"]]
        session.code, session.code_until_ms = code, now_ms + CODE_LIFE_S * 1000
        return Step(Outcome.FACTOR_NEEDED, account, cookies)

    def _open(self, account: Account, *, complete: bool = True) -> dict[str, str]:
        key = secrets.token_hex(16)
        sign = f"v3:{base64.b64encode(secrets.token_bytes(33)).decode()}="
        self._sessions[key] = _Session(account, sign, complete)
        while len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)
        cookies = {"sessionid": key, "sessionid_sign": sign}
        self._issued.extend(cookies.values())
        return cookies | {"device_t": secrets.token_urlsafe(24)} if complete else cookies

    def _session(self, cookies: Mapping[str, str]) -> _Session | None:
        session = self._sessions.get(cookies.get("sessionid", ""))
        signed = session is not None and _same(session.sign, cookies.get("sessionid_sign", ""))
        return session if signed else None

    def _take_totp(self, session: _Session, code: str, now_ms: int) -> bool:
        account = session.account
        assert account.totp_secret is not None, "totp is a way only with a secret"
        app = _Totp(account.totp_secret)
        used = self._used.setdefault(account.username, deque(maxlen=_USED_MAX))
        now = app.timecode(now_ms // 1000)
        for step in (now + away for away in TOTP_STEPS):
            if step not in used and _same(app.generate_otp(step), code):
                used.append(step)
                return True
        return False

    @staticmethod
    def _take_sent(session: _Session, code: str, now_ms: int) -> bool:
        return now_ms < session.code_until_ms and _same(session.code, code)


class _Totp(pyotp.TOTP):
    """Takes TradingView's secrets, which are shorter than the library likes."""

    def __init__(self, secret: str) -> None:
        super().__init__("".join(secret.split()).upper())

    def byte_secret(self) -> bytes:
        text = self.secret.rstrip("=")
        try:
            key = base64.b32decode(text + "=" * (-len(text) % 8))
        except ValueError:
            key = b""
        if not key:
            raise ValueError("a TOTP secret is base32: letters A to Z and digits 2 to 7")
        return key


def _names(account: Account) -> tuple[str, str]:
    return account.username, account.email


def _same(right: str, given: str) -> bool:
    return hmac.compare_digest(right.encode(), given.encode())
