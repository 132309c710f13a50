"""The token that the connection speaks with: asked for, renewed, and given up in time.

TradingView lets a connection whose token ended go on in one of two ways: it ends
it (`bad auth token`), or sends nothing but heartbeats. So a token is renewed well
before its end. Where that fails and the end passes, the next token comes with a
new connection, because nobody knows what the old one did not say.

Ends are judged by TradingView's clock, as far as known, not by the machine's.
"""

from __future__ import annotations

from typing import Final

from publisher.core.backoff import Backoff
from publisher.core.session import Session
from publisher.core.tokens import Token, renew_at_ms
from publisher.errors import PublisherError, SignInThrottled
from publisher.notes import Notes
from publisher.ports import Ports, TokenGranted

ASK_BASE_MS: Final = 2_000
ASK_MS_MAX: Final = 10 * 60_000
PERSON_MS: Final = 5 * 60_000
"""How often it is looked whether a person has signed in meanwhile."""
LOOK_MS: Final = 2_000
"""How often the stored session is looked at where a person may help."""
ANONYMOUS_MS: Final = 60 * 60_000
"""How often signing in is tried again where the publisher went on anonymously."""
MUTE_MS_MAX: Final = 60_000
"""How long a connection whose token ended may bring no bars."""
SHORT_MS: Final = 30_000
"""A token with less of its life left is hardly one."""
DRIFT_MS_MAX: Final = 5_000
"""How wrong the machine's clock may be before it is told."""


class TokenKeeper:
    """Holds the token; the engine's thread owns it."""

    def __init__(self, ports: Ports, notes: Notes) -> None:
        self._ports = ports
        self._notes = notes
        self._backoff = Backoff(ASK_BASE_MS, ASK_MS_MAX)
        self._asked = False
        self._ask_at_ms = 0
        self._renew_at_ms: int | None = None
        self._granted_ms = 0
        self._doubted_ms: int | None = None
        self._looks = Backoff(2 * LOOK_MS, PERSON_MS)
        self._look_at_ms = 0
        self._person_seen = False
        self._rejected: Token | None = None
        self._denied: PublisherError | None = None
        self.token: Token | None = None
        """None until one is granted, and after it was rejected."""

    @property
    def trouble(self) -> str:
        """Why there is no token, or no new one; empty where all is well."""
        return str(self._denied or "")

    def keep(self, session: Session | None, now_ms: int, bars_ms: int) -> None:
        """Ask for a token where it is time. Raises SignInError where only a person can help.

        `bars_ms` is when the connection last brought bars, monotonic.
        """
        self._look_for_a_person(now_ms)
        if not self._asked and now_ms >= self._ask_at_ms and self._is_due(session, now_ms):
            self._asked, self._person_seen = True, False
            # The same text again is no renewal: another way in must do.
            given = self.token is not None and self.token.way == "token"
            self._ports.tokens.ask(self.token if given else self._rejected)
        if self._denied is None or self._denied.retryable or not self.ended(session, now_ms):
            return
        if session is None or now_ms - max(bars_ms, self._granted_ms) > MUTE_MS_MAX:
            raise self._denied

    def take(self, fact: TokenGranted, session: Session | None) -> None:
        """Take a token that was granted."""
        token, now_ms = fact.token, fact.monotonic_ms
        self.token, self._rejected, self._denied = token, None, None
        self._asked = False
        self._granted_ms = now_ms
        self._looks.reset()
        self._plan_renewal(token, self._server_ms(session, now_ms), now_ms)
        for reason in token.failures:
            self._notes.tell("signin.failed", level="warning", reason=reason)
        if abs(token.drift_ms) > DRIFT_MS_MAX:
            self._notes.tell("clock.drifted", level="warning", ahead_ms=token.drift_ms)
        if token.anonymous:
            advice = "some data is late or from other sources; `tvbus login` signs in"
            self._notes.tell("signin.skipped", level="warning", reason=advice)
        else:
            self._notes.tell("signin.succeeded", way=token.way, plan=token.limits.plan)

    def take_denial(self, error: PublisherError, now_ms: int) -> None:
        """No token could be had. Raises the error where nothing but a person helps."""
        self._denied = error
        self._asked = False
        if not error.retryable and self.token is None:
            self._notes.tell("signin.failed", level="error", reason=error)
            raise error
        delay_ms = self._delay_ms(error)
        self._ask_at_ms = now_ms + delay_ms
        self._notes.tell(
            "signin.failed",
            level="warning" if error.retryable else "error",
            reason=error,
            retry_in_ms=delay_ms,
        )

    def reject(self, bars_ms: int) -> None:
        """TradingView does not take the token: another one is needed.

        One that nobody can renew is tried twice, for a refusal may be a mistake, and
        nobody's token for ever; the connection's back-off sets the pace.
        """
        if self.token is None or self.token.anonymous:
            return
        first = self._doubted_ms is None or bars_ms > self._doubted_ms
        self._doubted_ms = self._ports.clock.monotonic_ms()
        if self.token.way != "token" or not first:
            self._rejected, self.token = self.token, None

    def ended(self, session: Session | None, now_ms: int) -> bool:
        """Tell whether the token's end has passed."""
        expires_ms = self.token.claims.expires_ms if self.token else None
        return expires_ms is not None and self._server_ms(session, now_ms) >= expires_ms

    def usable(self, now_ms: int) -> bool:
        """Tell whether a connection may be made with the token."""
        return self.token is not None and not self.ended(None, now_ms)

    def _look_for_a_person(self, now_ms: int) -> None:
        """Where a person may help, look whether one has signed in meanwhile."""
        helpless = self.token is None or self.token.anonymous or self._denied is not None
        if self._asked or not helpless or now_ms < self._look_at_ms:
            return
        self._look_at_ms = now_ms + LOOK_MS
        if self._ports.tokens.changed():
            self._person_seen = True
            self._ask_at_ms = now_ms
            # A session that is no use is tried ever more seldom, until there is another.
            self._look_at_ms = now_ms + self._looks.next_delay_ms(self._ports.rng)

    def _is_due(self, session: Session | None, now_ms: int) -> bool:
        if self.token is None or self._person_seen:
            return True
        if self.token.anonymous:
            # It went on without signing in, which may work again.
            return bool(self.token.failures) and now_ms - self._granted_ms >= ANONYMOUS_MS
        renew_at_ms = self._renew_at_ms
        return renew_at_ms is not None and self._server_ms(session, now_ms) >= renew_at_ms

    def _plan_renewal(self, token: Token, server_ms: int, now_ms: int) -> None:
        expires_ms = token.claims.expires_ms
        if expires_ms is None:
            self._renew_at_ms = None
        else:
            self._renew_at_ms = renew_at_ms(server_ms, expires_ms, self._ports.rng)
        if expires_ms is None or expires_ms - server_ms > SHORT_MS:
            self._backoff.reset()
        # Tokens that are over as soon as they come are asked for ever more seldom.
        self._ask_at_ms = now_ms + self._backoff.next_delay_ms(self._ports.rng)

    def _delay_ms(self, error: PublisherError) -> int:
        if not error.retryable:
            return PERSON_MS
        delay_ms = self._backoff.next_delay_ms(self._ports.rng)
        if isinstance(error, SignInThrottled) and error.retry_at_ms is not None:
            return max(delay_ms, error.retry_at_ms - self._ports.clock.wall_ms())
        return delay_ms

    def _server_ms(self, session: Session | None, now_ms: int) -> int:
        """TradingView's clock: as the connection tells, else as the pages told."""
        heard_ms = session.server_now_ms(now_ms) if session is not None else None
        if heard_ms is not None:
            return heard_ms
        if self.token is not None and self.token.server_ms is not None:
            return self.token.server_ms + now_ms - self._granted_ms
        return self._ports.clock.wall_ms()
