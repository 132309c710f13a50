"""TradingView in virtual time: it signs people in and accepts connections, on bad days not."""

from __future__ import annotations

import base64
import json
from typing import Final

from pydantic import SecretStr

from publisher.core.tokens import ANONYMOUS, Token, read_claims
from publisher.errors import PublisherError, SignInThrottled
from publisher.simulator.tokens import ANONYMOUS as ANONYMOUS_TOKENS
from publisher.simulator.tokens import GIVEN_PLAN
from publisher.wire import Series
from tests.simulation.connection import Client, Connection
from tests.simulation.loop import Loop
from tests.simulation.plan import Plan
from tests.simulation.truth import Truth

GRACE_MS: Final = 5_000
"""How long after its end a token still does."""


class TradingView:
    """The service that all publishers reach."""

    def __init__(self, loop: Loop, plan: Plan, truths: dict[Series, Truth]) -> None:
        self.loop = loop
        self.plan = plan
        self.truths = truths
        self.rng = plan.rng("tradingview")
        self.connections: list[Connection] = []
        self.refuses_until_ms = 0
        self.denies_until_ms = 0
        self._tokens: dict[str, int] = {}

    def plan_of(self, token: str, now_ms: int) -> str | None:
        """Return the plan that a token stands for, None where it is not good now."""
        if token in ANONYMOUS_TOKENS:
            return ""
        return GIVEN_PLAN if self._tokens.get(token, 0) > now_ms else None

    def struck(self, kind: str) -> None:
        """Count a fault that struck."""
        self.loop.trace.counts[kind] += 1

    def sign_in(self) -> Token | PublisherError:
        """Answer somebody who signs in."""
        if self.loop.now_ms < self.denies_until_ms:
            self.struck("signin_refused")
            return SignInThrottled("too many sign-ins")
        life_ms = self.plan.token_life_ms
        if life_ms is None:
            return ANONYMOUS
        now_s = self.loop.now_ms // 1000
        claims = {"iat": now_s, "exp": now_s + life_ms // 1000, "plan": GIVEN_PLAN}
        body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        text = f"eyJhbGciOiJSUzUxMiJ9.{body}.{len(self._tokens)}"
        self._tokens[text] = claims["exp"] * 1000 + GRACE_MS  # type: ignore[operator]
        return Token(SecretStr(text), "cookies", read_claims(text), self.loop.now_ms)

    def revoke(self, text: str) -> None:
        """Accept a token no longer."""
        self._tokens.pop(text, None)

    def latency_ms(self) -> int:
        """Return how long a message is on its way now."""
        return self.rng.randrange(5, 300)

    def connect(self, client: Client) -> Connection | None:
        """Accept a connection, or do not."""
        if self.loop.now_ms < self.refuses_until_ms:
            self.struck("refuse")
            return None
        connection = Connection(self, client, len(self.connections))
        self.connections.append(connection)
        connection.open()
        return connection

    @property
    def standing(self) -> list[Connection]:
        """The connections that stand."""
        return [connection for connection in self.connections if connection.stands]

    def heal(self) -> None:
        """Let everything go well from now on."""
        self.refuses_until_ms = self.denies_until_ms = 0
        for connection in self.standing:
            connection.heal()
