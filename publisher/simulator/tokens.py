"""The tokens that the simulated TradingView gives and takes. Pure: time is passed in.

A token looks like the recorded ones: a JSON web token whose header says RS512. Its
signature is noise, and nobody checks it: a token is good because it was given out.
"""

from __future__ import annotations

import base64
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson

ANONYMOUS: Final = frozenset({"unauthorized_user_token", "widget_user_token"})
GIVEN_PLAN: Final = "pro_premium"
"""The plan of tokens that nobody signed in for."""

TOKENS_MAX: Final = 10_000
"""Tokens that are remembered; the oldest are forgotten, and then refused."""

_SIGNATURE_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Plan:
    """What a token says of the account it was made for."""

    name: str
    """"" is the free plan."""
    max_charts: int
    max_connections: int
    life_s: int
    """How long its tokens live, simulated seconds."""


class Tokens:
    """Gives tokens out and knows which are good. Safe in any thread."""

    def __init__(self, accepted: Iterable[str] = ()) -> None:
        self._accepted = frozenset(accepted)
        self._lock = threading.Lock()
        self._issued: OrderedDict[str, tuple[str, Plan, int]] = OrderedDict()

    def issue(self, username: str, user_id: int, plan: Plan, now_ms: int) -> str:
        """Return a new token of an account; those given before stay good."""
        issued_s = now_ms // 1000
        token = _encode(_claims(user_id, plan, issued_s))
        with self._lock:
            self._issued[token] = (username, plan, (issued_s + plan.life_s) * 1000)
            while len(self._issued) > TOKENS_MAX:
                self._issued.popitem(last=False)
        return token

    def plan_of(self, token: str, now_ms: int) -> str | None:
        """Return the plan that a token stands for, None where it is not good now."""
        if token in self._accepted:
            return GIVEN_PLAN
        if token in ANONYMOUS:
            return ""
        with self._lock:
            _, plan, expires_ms = self._issued.get(token, ("", None, 0))
        return plan.name if plan is not None and now_ms < expires_ms else None

    def expire(self, username: str) -> None:
        """Make all tokens of an account bad at once."""
        with self._lock:
            for token in [key for key, (name, *_) in self._issued.items() if name == username]:
                del self._issued[token]


def _encode(claims: dict[str, Any]) -> str:
    header = {"alg": "RS512", "kid": "GZxU"}
    parts = (orjson.dumps(header), orjson.dumps(claims), secrets.token_bytes(_SIGNATURE_BYTES))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def _claims(user_id: int, plan: Plan, issued_s: int) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "exp": issued_s + plan.life_s,
        "iat": issued_s,
        "plan": plan.name,
        "prostatus": "non_pro",
        "ext_hours": 1,
        "perm": "cme,cme_mini" if plan.name else "",
        "study_perm": "tv-volumebyprice" if plan.name else "",
        "max_studies": 25 if plan.name else 2,
        "max_fundamentals": 10 if plan.name else 1,
        "max_charts": plan.max_charts,
        "max_active_alerts": 400,
        "max_study_on_study": 24,
        "fields_permissions": ["refbonds"],
        "max_alert_conditions": 5,
        "max_overall_alerts": 2000,
        "max_overall_watchlist_alerts": 5,
        "max_active_primitive_alerts": 400,
        "max_active_complex_alerts": 400,
        "max_active_watchlist_alerts": 2,
        "max_connections": plan.max_connections,
    }
