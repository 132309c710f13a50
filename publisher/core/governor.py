"""How often a password may be tried: a record of what was done, and what follows from it.

The record is kept in several places (a disk, a bus) and merged, so it is made of
parts that merge in any order: attempts have names, so that none counts twice;
of what TradingView said, the newest of each kind counts; and what a person forgave
stays forgiven, wherever an older copy turns up.

Clocks jump. What was noted later than now was noted by a clock that was ahead, and
is taken to have happened now: it counts for a while, and not for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

from publisher.errors import AccountStopped, ChallengeRequired, SignInThrottled

MarkKind = Literal["captcha", "lock", "ban"]
"""What TradingView said that keeps us from trying again."""

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
COOL_DOWN_MS: Final[dict[MarkKind, int]] = {"captcha": DAY_MS, "lock": HOUR_MS}
"""How long nothing is tried; after a ban never again."""
ATTEMPTS_MAX: Final = 64
"""How many attempts are remembered; more than any budget."""
REASON_CHARACTERS_MAX: Final = 300
TIME_MS_MAX: Final = 10**14

Moment = Annotated[int, Field(ge=0, le=TIME_MS_MAX)]

BROWSER: Final = "sign in with a browser, then run `tvbus login --cookies`"


@dataclass(frozen=True, slots=True)
class Budget:
    """How many sign-ins with a password may be made."""

    per_hour: int
    per_day: int


class Mark(BaseModel, frozen=True):
    """What TradingView said, and when."""

    noted_ms: Moment
    reason: Annotated[str, Field(max_length=REASON_CHARACTERS_MAX)] = ""


class Record(BaseModel, frozen=True):
    """What was done and said; times in ms since the epoch."""

    attempts: dict[str, Moment] = {}
    """A name of its own for each attempt → when."""
    marks: dict[str, Mark] = {}
    """By kind; kinds of newer versions are kept."""
    step: Moment = 0
    """The last time step whose code was tried."""
    forgiven_ms: Moment = 0
    """Marks up to here count no longer: a person has acted."""

    @property
    def ban(self) -> str | None:
        """Why TradingView stopped the account, None where it did not."""
        mark = self.marks.get("ban")
        return None if mark is None else mark.reason or "no reason given"


def merge(one: Record, other: Record) -> Record:
    """Return what two copies of the record know together."""
    attempts = dict(one.attempts)
    for name, at_ms in other.attempts.items():
        attempts[name] = min(at_ms, attempts.get(name, at_ms))
    marks = dict(one.marks)
    for kind, mark in other.marks.items():
        marks[kind] = max(mark, marks.get(kind, mark), key=lambda each: each.noted_ms)
    forgiven_ms = max(one.forgiven_ms, other.forgiven_ms)
    return Record(
        attempts=attempts,
        marks={kind: mark for kind, mark in marks.items() if mark.noted_ms > forgiven_ms},
        step=max(one.step, other.step),
        forgiven_ms=forgiven_ms,
    )


def settle(record: Record, now_ms: int) -> Record:
    """Forget what counts no longer, and let nothing have happened later than now."""
    times = sorted(
        ((min(at_ms, now_ms), name) for name, at_ms in record.attempts.items()), reverse=True
    )
    return record.model_copy(
        update={
            "attempts": {
                name: at_ms for at_ms, name in times[:ATTEMPTS_MAX] if at_ms > now_ms - DAY_MS
            },
            "marks": {
                kind: mark.model_copy(update={"noted_ms": min(mark.noted_ms, now_ms)})
                for kind, mark in record.marks.items()
            },
            "forgiven_ms": min(record.forgiven_ms, now_ms),
        }
    )


def check(record: Record, now_ms: int, budget: Budget) -> None:
    """Return where another sign-in may be tried now.

    Raises AccountStopped, ChallengeRequired or SignInThrottled, whose messages say
    why not and until when.
    """
    check_ban(record)
    captcha_ms = _cool_until(record, "captcha")
    if captcha_ms > now_ms:
        raise ChallengeRequired(
            "TradingView wants a captcha solved, which only a person can, so nothing is tried "
            f"before {utc_text(captcha_ms)}: {BROWSER}"
        )
    lock_ms = _cool_until(record, "lock")
    if lock_ms > now_ms:
        raise SignInThrottled(
            f"{record.marks['lock'].reason}; nothing is tried before {utc_text(lock_ms)}, "
            "unless you run `tvbus login`",
            lock_ms,
        )
    _check_budget(record, now_ms, budget)


def check_ban(record: Record) -> None:
    """Raise AccountStopped where TradingView stopped the account."""
    if record.ban is not None:
        raise AccountStopped(
            f"TradingView stopped the account or this address ({record.ban}); nothing is tried "
            "any more: look at tradingview.com with a browser, then run `tvbus login`"
        )


def with_attempt(record: Record, name: str, now_ms: int) -> Record:
    """Count an attempt, before it is made."""
    return record.model_copy(update={"attempts": {**record.attempts, name: now_ms}})


def with_mark(record: Record, kind: MarkKind, reason: str, now_ms: int) -> Record:
    """Remember what TradingView said."""
    noted_ms = max(now_ms, record.forgiven_ms + 1)
    mark = Mark(noted_ms=noted_ms, reason=reason[:REASON_CHARACTERS_MAX])
    return record.model_copy(update={"marks": {**record.marks, kind: mark}})


def with_step(record: Record, step: int) -> Record:
    """Remember the time step whose code is tried."""
    return record.model_copy(update={"step": step})


def forgiven(record: Record, now_ms: int) -> Record:
    """Let the marks count no longer, for a person has acted; attempts still count."""
    newest_ms = max((mark.noted_ms for mark in record.marks.values()), default=0)
    return record.model_copy(
        update={"marks": {}, "forgiven_ms": max(now_ms, newest_ms, record.forgiven_ms)}
    )


def utc_text(time_ms: int) -> str:
    """Return a time as people read it."""
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _cool_until(record: Record, kind: MarkKind) -> int:
    mark = record.marks.get(kind)
    return 0 if mark is None else mark.noted_ms + COOL_DOWN_MS[kind]


def _check_budget(record: Record, now_ms: int, budget: Budget) -> None:
    retry_ms = max(
        _next_free_ms(record, now_ms, HOUR_MS, budget.per_hour),
        _next_free_ms(record, now_ms, DAY_MS, budget.per_day),
    )
    if retry_ms > now_ms:
        raise SignInThrottled(
            f"the budget of sign-ins ({budget.per_hour} an hour, {budget.per_day} a day) is spent, "
            f"so that TradingView does not lock the account; the next one at {utc_text(retry_ms)}, "
            "unless you run `tvbus login`",
            retry_ms,
        )


def _next_free_ms(record: Record, now_ms: int, span_ms: int, count_max: int) -> int:
    """Return when fewer attempts than allowed lie within the span."""
    times = sorted(at_ms for at_ms in record.attempts.values() if at_ms > now_ms - span_ms)
    return times[-count_max] + span_ms if len(times) >= count_max else 0
