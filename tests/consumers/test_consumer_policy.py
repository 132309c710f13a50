"""What becomes of a failure, what a handler may look like, and what it is called for."""

from __future__ import annotations

import functools
import random
from typing import Any

import pytest
from consumer_world import BTC, Market

from consumers import Bar
from consumers.core import facts, wants
from consumers.core.backoff import Backoff
from consumers.core.handlers import Handler
from consumers.core.ids import EntryId
from consumers.core.lane import Lane, Source
from consumers.core.patterns import Pattern
from consumers.core.policy import ATTEMPTS_MAX, GiveUp, Policy, Retry
from consumers.core.wants import Subscription, Subscriptions, Wanted
from consumers.core.wishes import Wishes
from consumers.core.work import Gap, Kind, Work
from consumers.errors import HandlerInvalid, SinkRejected, SinkUnavailable, UsageError

RNG = random.Random(1)
NO_WAIT = Backoff(first_ms=7, wait_ms_max=7, wait_ms_min=7)


@pytest.mark.parametrize(
    ("failure", "error", "attempt", "expected"),
    [
        ("dead-letter", ValueError(), 1, Retry(7)),
        ("dead-letter", ValueError(), 2, Retry(7)),
        ("dead-letter", ValueError(), 3, GiveUp("dead-letter")),
        ("dead-letter", ValueError(), 9, GiveUp("dead-letter")),
        ("skip", ValueError(), 2, Retry(7)),
        ("skip", ValueError(), 3, GiveUp("skip")),
        ("stop", ValueError(), 2, Retry(7)),
        ("stop", ValueError(), 3, GiveUp("stop")),
        ("retry-forever", ValueError(), 3, Retry(7)),
        ("retry-forever", ValueError(), 999, Retry(7)),
        # The outside world's fault is waited out, and costs no attempt.
        ("dead-letter", SinkUnavailable(), 3, Retry(7, counted=False)),
        ("skip", SinkUnavailable(), 999, Retry(7, counted=False)),
        ("stop", SinkUnavailable(), 3, Retry(7, counted=False)),
        ("retry-forever", SinkUnavailable(), 3, Retry(7)),
        # What will never go away is not tried again.
        ("dead-letter", SinkRejected(), 1, GiveUp("dead-letter")),
        ("skip", SinkRejected(), 1, GiveUp("skip")),
        ("stop", SinkRejected(), 1, GiveUp("stop")),
        ("retry-forever", SinkRejected(), 1, Retry(7)),
    ],
)
def test_a_failure_is_judged_by_the_policy(
    failure: Any, error: Exception, attempt: int, expected: object
) -> None:
    assert Policy(failure, 3, NO_WAIT).judge(error, attempt, 1, RNG) == expected


def test_waits_grow_with_the_failures_in_this_process() -> None:
    policy = Policy("retry-forever", backoff=Backoff(first_ms=100, wait_ms_max=10_000))
    longest = [
        max(policy.judge(ValueError(), 50, failures, RNG).wait_ms for _ in range(300))  # type: ignore[union-attr]
        for failures in (1, 2, 3)
    ]
    assert 80 < longest[0] <= 100 < longest[1] <= 200 < longest[2] <= 400


@pytest.mark.parametrize(
    ("failure", "attempt", "expected"),
    [
        ("dead-letter", 3, None),
        ("dead-letter", 4, GiveUp("dead-letter")),
        ("skip", 3, None),
        ("skip", 4, GiveUp("skip")),
        ("stop", 4, None),
        ("retry-forever", 4, None),
    ],
)
def test_an_entry_that_ended_every_process_is_given_up_unseen(
    failure: Any, attempt: int, expected: object
) -> None:
    assert Policy(failure, 3).overdue(attempt) == expected


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"failure": "panic"}, "one of dead-letter, skip, stop, retry-forever, was 'panic'"),
        ({"attempts": 0}, f"1 to {ATTEMPTS_MAX}, was 0"),
        ({"attempts": ATTEMPTS_MAX + 1}, f"was {ATTEMPTS_MAX + 1}"),
        ({"attempts": True}, "must be a number, was True"),
        ({"attempts": "5"}, "must be a number, was '5'"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Policy(**options)


class Trader:
    def trade(self, bar: object) -> None: ...

    def __call__(self, bar: object, context: object) -> None: ...


class Streaming:
    def __call__(self, bar: object) -> Any:
        yield bar


def trade(bar: object) -> None: ...
def trade_fully(bar: object, context: object) -> None: ...
def trade_kindly(bar: object, verbose: bool = False, *, loud: bool = False) -> None: ...
def trade_all(*bars: object, **options: object) -> None: ...
def trade_maybe(bar: object = None) -> None: ...
async def trade_later(bar: object) -> None: ...
async def trade_fully_later(bar: object, context: object) -> None: ...
def trade_much(bar: object, context: object, more: object) -> None: ...
def trade_named(bar: object, *, broker: object) -> None: ...
def trade_nothing() -> None: ...
def trade_streaming(bar: object) -> Any:
    yield bar


async def trade_streaming_later(bar: object) -> Any:
    yield bar


@pytest.mark.parametrize(
    ("call", "takes_context", "name"),
    [
        (trade, False, "trade"),
        (trade_fully, True, "trade_fully"),
        (trade_kindly, False, "trade_kindly"),
        (trade_all, False, "trade_all"),
        (trade_maybe, False, "trade_maybe"),
        (trade_later, False, "trade_later"),
        (trade_fully_later, True, "trade_fully_later"),
        (Trader().trade, False, "Trader.trade"),
        (Trader(), True, "Trader"),
        (functools.partial(trade_much, context=1, more=2), False, "trade_much"),
        (functools.partial(trade_named, broker=1), False, "trade_named"),
        (print, False, "print"),
        ([].append, False, "list.append"),
    ],
)
def test_what_a_handler_takes_is_seen(call: Any, takes_context: bool, name: str) -> None:
    handler = Handler.inspect(call, "bar")
    assert handler == Handler(call, takes_context)
    assert handler.name == name


def test_a_function_that_tells_nothing_of_itself_takes_the_bar() -> None:
    class Secret:
        __signature__ = "nothing"

        def __call__(self, *args: object) -> None: ...

    assert not Handler.inspect(Secret(), "bar").takes_context


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("text", "must be a function, def handler(bar): or def handler(bar, context): was 'text'"),
        (None, "was None"),
        (Trader, "Trader is a class: give an object of it, Trader(…)"),
        (trade_much, "trade_much takes 3 parameters: write def handler(bar): or"),
        (trade_nothing, "trade_nothing takes no parameter: write def handler(bar):"),
        (trade_named, "trade_named needs 'broker' by name: give it a default"),
        (trade_streaming, "trade_streaming is a generator"),
        (trade_streaming_later, "trade_streaming_later is a generator"),
        (Streaming(), "Streaming is a generator"),
    ],
)
def test_a_wrong_handler_is_told_how_to_be_right(call: Any, says: str) -> None:
    with pytest.raises(HandlerInvalid) as caught:
        Handler.inspect(call, "bar")
    assert says in str(caught.value)


def of_one(bar: Bar) -> None: ...


def of_many(bars: list[Bar]) -> None: ...


def of_many_evaluated(bars) -> None: ...  # type: ignore[no-untyped-def]


of_many_evaluated.__annotations__["bars"] = list[int]


@pytest.mark.parametrize(
    ("call", "takes", "says"),
    [
        (of_many, "bar", "of_many takes a list and would get one bar"),
        (of_many_evaluated, "bar", "or --batch 500"),
        (of_one, "bars", "of_one takes one bar and would get a list: leave batch out"),
    ],
)
def test_a_handler_that_says_it_takes_another_number_is_refused(
    call: Any, takes: str, says: str
) -> None:
    with pytest.raises(HandlerInvalid, match=says):
        Handler.inspect(call, takes)


@pytest.mark.parametrize(("call", "takes"), [(of_one, "bar"), (of_many, "bars"), (print, "bars")])
def test_a_handler_that_takes_what_it_gets_is_taken(call: Any, takes: str) -> None:
    assert Handler.inspect(call, takes).call is call


def lane() -> Lane:
    return Lane(str(BTC), BTC, {Kind.BARS: Source("tv:bars", Kind.BARS)})


def wanting(*some: tuple[Wanted, dict[str, Any]]) -> Subscriptions:
    every = Subscriptions()
    for wanted, options in some:
        every.add(Subscription(wanted, Handler(print), **options))
    return every


BTC_PATTERN = (Pattern.parse(str(BTC)),)
BAR = Market(None, "").bar(BTC, 1)  # type: ignore[arg-type]


def test_an_entry_goes_to_who_wants_its_parts() -> None:
    every = wanting(
        (Wanted.BARS, {"patterns": BTC_PATTERN}),
        (Wanted.BARS, {"patterns": BTC_PATTERN, "batch": 5}),
        (Wanted.BARS, {"patterns": (Pattern.parse("ETH*"),)}),
        (Wanted.CORRECTIONS, {"patterns": BTC_PATTERN}),
        (Wanted.GAPS, {"patterns": BTC_PATTERN}),
    )
    one, batch, _, correction, gap = every.every
    hole = Gap(BTC, 1, 2)
    place = EntryId(7)
    assert every.of(Work(lane(), place, bar=BAR)) == (batch, one)
    assert every.of(Work(lane(), place, bar=BAR, gap=hole)) == (gap, batch, one)
    assert every.of(Work(lane(), place, gap=hole)) == (gap,)
    assert every.of(Work(lane(), place, Kind.CORRECTIONS, BAR)) == (correction,)
    assert every.batch_max == 5


def test_what_is_registered_later_counts_too() -> None:
    every = wanting((Wanted.BARS, {"patterns": BTC_PATTERN}))
    work = Work(lane(), EntryId(7), bar=BAR)
    assert len(every.of(work)) == 1
    every.add(Subscription(Wanted.BARS, Handler(print), BTC_PATTERN))
    assert len(every.of(work)) == 2


def test_events_go_to_who_wants_their_name_or_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wants, "EVENTS_REMEMBERED_MAX", 2)
    every = wanting(
        (Wanted.EVENTS, {"names": ("series.*", "gap.abandoned")}),
        (Wanted.INTERVALS, {"interval": "1m"}),
    )
    by_name, by_interval = every.every

    def of(**event: Any) -> tuple[Subscription, ...]:
        return every.of(Work(lane(), EntryId(7), Kind.EVENTS, event=event))

    for _ in range(2):
        assert of(event="series.silent") == (by_name,)
        assert of(event="gap.abandoned") == (by_name,)
        assert of(event="gap.filled") == ()
        assert of(event="interval.completed", interval="1m") == (by_interval,)
        assert of(event="interval.completed", interval="5m") == ()
        assert of(event="interval.completed", interval=["1m"]) == ()
        assert of() == ()
    assert len(every._events) <= 2


def test_what_is_wanted_is_what_is_read() -> None:
    pattern = {"patterns": BTC_PATTERN}
    (btc,) = BTC_PATTERN
    assert wanting().wishes == Wishes([], [], [], events=False)
    assert wanting((Wanted.GAPS, pattern), (Wanted.BARS, pattern)).wishes.bars == [btc, btc]
    assert wanting((Wanted.CORRECTIONS, pattern)).wishes.corrections == [btc]
    assert wanting((Wanted.FORMING, pattern)).wishes.forming == [btc]
    assert wanting((Wanted.EVENTS, {"names": ("*",)})).wishes.events
    intervals = wanting((Wanted.INTERVALS, pattern | {"interval": "1m"})).wishes
    assert intervals.events
    assert intervals.bars == [], "they are read when the event comes"
    assert wanting().batch_max == 0


def test_an_entry_is_named_in_logs_by_what_it_is() -> None:
    place_id = EntryId(1_700_000_000_000)
    assert facts.told(Work(lane(), place_id, bar=BAR)) == {
        "series": str(BTC),
        "open_time": "2025-10-09T08:55:00+00:00",
    }
    hole = Work(lane(), place_id, gap=Gap(BTC, 1, 2))
    assert facts.place(hole) == f"{BTC} 1700000000000-0"
    event = Work(lane(), place_id, Kind.EVENTS, event={"event": "series.silent"})
    assert facts.told(event) == {"entry": "1700000000000-0", "told": "series.silent"}


def test_of_a_traceback_the_end_is_kept() -> None:
    assert facts.traceback_of(None) == ""
    try:
        raise ValueError("x" * 40_000)
    except ValueError as error:
        kept = facts.traceback_of(error)
    assert len(kept) == facts.TRACEBACK_CHARACTERS_MAX
    assert kept.endswith("xxx\n")
