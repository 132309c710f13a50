"""Requests for history through the engine: pages, budget, trouble, and nobody else disturbed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from publisher_world import BTC, ETH, MINUTE_MS, NOW_MS, World, values, web_token

from publisher import engine, history
from publisher.core import session as heard
from publisher.core.bars import UNANSWERED_MAX
from publisher.core.budget import Budget
from publisher.core.session import ANSWER_MS_MAX, Session
from publisher.core.tokens import Limits
from publisher.errors import ConnectionLost
from publisher.ports import Commanded
from publisher.wire import HOUR_MS, Series
from publisher.wire.answers import CHUNK_BARS_MAX, Answer, Chunk, HistoryBar, Progress, Reply
from publisher.wire.commands import Command


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TURN_MS_MAX", 1)


class Asking(World):
    """A world in which somebody asks for history."""

    @classmethod
    def live(cls, *series: Series, requests_max: int = 120) -> Asking:
        """One that publishes these series, all live."""
        world = cls(*series, token=web_token())
        world.allow(requests_max)
        world.go_live(*series)
        return world

    def allow(self, requests_max: int) -> None:
        """Set how many requests an hour may cost."""
        self.engine._histories._budget = Budget(requests_max)

    def ask(self, series: Series | str = BTC, request: str = "h1", **span: Any) -> None:
        span = span or {"bars": 3}
        command = Command(request, "history", (str(series),), **span)
        self.inbox.put(Commanded(command, "9-0"))
        self.turn(2)

    def page(
        self,
        series: Series,
        first: int,
        last: int = 0,
        *,
        exhausted: str | None = None,
        turns: int = 3,
    ) -> None:
        """Answer with minutes, both ends included, and say whether there are more."""
        bars = [values(minute, 20_000 + minute) for minute in range(first, last + 1)]
        self.update(series, *bars, end=last + 1, kind="timescale_update")
        flags = {} if exhausted is None else {"data_completed": exhausted}
        chart = self.session_of(series)
        self.say("series_completed", chart, "sds_1", "streaming", "s1", flags, stamped=True)
        self.turn(turns)

    def replied(self, request: str = "h1") -> list[Reply]:
        return [answer for asked, answer in self.store.answers if asked == request]

    def bars(self, request: str = "h1") -> list[HistoryBar]:
        chunks = [reply for reply in self.replied(request) if isinstance(reply, Chunk)]
        return [bar for chunk in chunks for bar in chunk.bars]

    def minutes(self, request: str = "h1") -> list[int]:
        return [(bar.open_time_ms - NOW_MS) // MINUTE_MS for bar in self.bars(request)]

    def last_word(self, request: str = "h1") -> Answer | None:
        """The answer that ends the request, which nothing follows; None before."""
        replied = self.replied(request)
        words = [reply for reply in replied if isinstance(reply, Answer)]
        assert words in ([], replied[-1:])
        return words[0] if words else None

    def said(self, name: str) -> list[Any]:
        """The parameters of what TradingView was told under a name."""
        return [message["p"] for message in self.transport.sent if message["m"] == name]


# What is answered.


def test_the_newest_closed_bars_are_handed_over_with_progress_and_a_last_word() -> None:
    world = Asking.live(BTC)
    world.ask(bars=3)
    assert world.replied() == [Progress(str(BTC), 0, 3)]
    world.page(BTC, -3)
    assert world.minutes() == [-3, -2, -1]
    assert world.bars()[0] == HistoryBar(NOW_MS - 180_000, 19_997, 19_999, 19_995, 19_998, 5, None)
    assert world.last_word() == Answer(str(BTC), True, "3 bars", complete=True, count=3)
    assert world.store.commands_read == "9-0"
    [started], [completed] = (
        world.store.told("history.started"),
        world.store.told("history.completed"),
    )
    assert (started["series"], started["bars"]) == (str(BTC), 3)
    assert (completed["bars"], completed["complete"], completed["requests"]) == (3, True, 1)


def test_more_than_one_page_is_asked_for_in_a_chart_session_of_its_own() -> None:
    world = Asking.live(BTC)
    live = world.session_of(BTC)
    world.ask(bars=10)
    own = world.session_of(BTC)
    assert own != live
    world.page(BTC, -3)
    assert world.said("request_more_data") == [[own, "sds_1", 7]]
    assert world.replied()[-1] == Progress(str(BTC), 4, 10)
    world.page(BTC, -7, -4)
    world.page(BTC, -14, -8)
    assert world.minutes() == list(range(-10, 0))
    assert world.said("request_more_data")[1:] == [[own, "sds_1", 3]]
    assert world.said("chart_delete_session") == [[own]]


def test_a_span_of_time_ends_where_it_was_told_to() -> None:
    world = Asking.live(BTC)
    world.ask(from_ms=NOW_MS - 6 * MINUTE_MS, to_ms=NOW_MS - 4 * MINUTE_MS)
    world.page(BTC, -3)
    world.page(BTC, -9, -4)
    assert world.minutes() == [-6, -5]
    assert world.last_word() == Answer(str(BTC), True, "2 bars", complete=True, count=2)
    assert world.replied()[0] == Progress(str(BTC), 0, None)


def test_a_span_that_tradingview_does_not_reach_says_from_when_on_there_are_bars() -> None:
    world = Asking.live(BTC)
    world.ask(from_ms=NOW_MS - 60 * MINUTE_MS)
    world.page(BTC, -3, exhausted="limit")
    word = world.last_word()
    assert word is not None
    assert (word.accepted, word.complete, word.count, word.code) == (True, False, 3, "")
    # NOW_MS is 2023-11-14T22:14:00Z.
    assert word.message == (
        "3 bars, the first of 2023-11-14T22:11:00Z: TradingView gives this account no older ones"
    )


def test_fewer_bars_than_were_asked_for_are_told() -> None:
    world = Asking.live(BTC)
    world.ask(bars=10)
    world.page(BTC, -3, exhausted="end")
    word = world.last_word()
    assert word is not None
    assert word.message.startswith("3 of 10 bars, the first of 2023-11-14T22:11:00Z: ")
    assert not word.complete


def test_a_symbol_that_was_never_traded_has_no_bars() -> None:
    world = Asking.live(BTC)
    world.ask(ETH, bars=3)
    flags = {"data_completed": "end"}
    world.say("series_completed", world.session_of(ETH), "sds_1", "streaming", "s1", flags)
    world.turn(2)
    message = "0 of 3 bars: TradingView has none"
    assert world.last_word() == Answer(str(ETH), True, message, complete=False, count=0)


def test_the_plans_window_bounds_what_is_asked_for() -> None:
    world = Asking.live(BTC)
    world.engine._roster.limits = Limits("small", bars=2, series=None, connections=None)
    world.ask(bars=10)
    world.page(BTC, -3)
    assert world.minutes() == [-2, -1]
    word = world.last_word()
    assert word is not None
    assert word.message.endswith("the plan reaches back 2 bars")


def test_many_bars_are_handed_over_in_chunks_and_only_a_few_wait_for_the_bus() -> None:
    world = Asking.live(BTC)
    world.ask(bars=5_000)
    most = [0]
    flush = world.engine._delivery.flush

    def watched(*arguments: Any) -> Any:
        most[0] = max(most[0], world.engine._delivery.answers_waiting)
        return flush(*arguments)

    world.engine._delivery.flush = watched  # type: ignore[method-assign]
    world.page(BTC, -5_000, exhausted="end")
    world.turn(5)
    chunks = [reply for reply in world.replied() if isinstance(reply, Chunk)]
    assert [len(chunk.bars) for chunk in chunks] == [CHUNK_BARS_MAX] * 10
    assert world.minutes() == list(range(-5_000, 0))
    assert 1 < most[0] <= history.AHEAD_MAX


def test_what_is_worked_on_tells_so_again_and_again() -> None:
    world = Asking.live(BTC)
    world.ask(bars=3)
    world.ask(ETH, request="h2", bars=3)
    world.pass_ms(10_000)
    for request in ("h1", "h2"):
        told = world.replied(request)
        assert all(isinstance(reply, Progress) for reply in told)
        assert 5 <= len(told) <= 7


# Who is not disturbed.


def test_the_live_series_goes_on_while_its_history_is_fetched() -> None:
    world = Asking.live(BTC)
    live = world.session_of(BTC)
    world.ask(bars=10)
    world.page(BTC, -3)
    slot = {"s": [{"i": 9, "v": values(1, 7.0)}], "t": "s1"}
    world.clock.wall += MINUTE_MS
    world.clock.monotonic += 1_000
    world.say("du", live, {"sds_1": slot})
    world.turn(2)
    assert world.store.times(BTC) == [-2, -1, 0]
    assert world.last_word() is None
    world.page(BTC, -12, -4)
    assert world.store.lines[BTC].state == "live"
    assert world.store.times(BTC) == [-2, -1, 0]
    assert world.minutes() == list(range(-10, 0))


def test_bars_of_history_are_not_published_and_the_series_is_not_listed() -> None:
    world = Asking.live(BTC)
    world.ask(ETH, bars=3)
    world.page(ETH, -3)
    assert world.minutes() == [-3, -2, -1]
    assert ETH not in world.store.bars
    assert ETH not in world.store.lines
    assert ETH not in world.store.hashes


def test_a_series_can_be_unsubscribed_while_its_history_is_fetched() -> None:
    world = Asking.live(BTC)
    world.ask(bars=3)
    own = world.session_of(BTC)
    world.command("unsubscribe", str(BTC))
    assert [own] not in world.said("chart_delete_session")
    world.page(BTC, -3)
    assert world.minutes() == [-3, -2, -1]


def test_history_needs_no_published_series() -> None:
    world = Asking()
    world.ask(bars=3)
    world.connect()
    world.page(BTC, -3)
    assert world.minutes() == [-3, -2, -1]


def test_an_unknown_symbol_is_refused_and_the_live_series_go_on() -> None:
    world = Asking.live(BTC)
    world.ask(ETH, bars=3)
    chart = world.session_of(ETH)
    world.say("symbol_error", chart, "sds_sym_1", "invalid symbol", stamped=True)
    world.say("series_error", chart, "sds_1", "s1", "resolve error", stamped=True)
    world.turn(2)
    word = world.last_word()
    assert word is not None
    assert (word.accepted, word.code) == (False, "symbol_unknown")
    assert (word.complete, word.count) == (False, 0)
    assert "does not know BINANCE:ETHUSDT" in word.message
    assert [chart] in world.said("chart_delete_session")
    assert world.store.lines[BTC].state == "live"
    [told] = world.store.told("history.refused")
    assert told["series"] == str(ETH)


def test_the_end_of_a_bar_is_told_without_the_delay_of_its_symbol() -> None:
    world = Asking.live(BTC)
    world.ask(ETH, bars=3)
    world.resolve(ETH, delay=900)
    # The newest one ended 16 minutes ago, which is known since a minute.
    late = [values(minute) for minute in range(-20, -16)]
    world.update(ETH, *late, end=-1, kind="timescale_update")
    chart, flags = world.session_of(ETH), {"data_completed": "end"}
    world.say("series_completed", chart, "sds_1", "delayed_streaming_900", "s1", flags)
    world.turn(3)
    assert world.minutes() == [-19, -18, -17]
    ends = [bar.end_time_ms for bar in world.bars()]
    assert ends == [None, None, NOW_MS - 16 * MINUTE_MS]


# One after the other.


def test_requests_wait_their_turn_and_beyond_a_bound_they_are_refused() -> None:
    world = Asking.live(BTC)
    names = [f"h{number}" for number in range(history.WAITING_MAX + 2)]
    for name in names:
        world.ask(request=name, bars=3)
    refused = world.last_word(names[-1])
    assert refused is not None
    assert (refused.accepted, refused.code) == (False, "busy")
    assert f"{history.WAITING_MAX} requests for history wait" in refused.message
    charts = len(world.asked())
    for done, name in enumerate(names[:-1]):
        assert len(world.asked()) == charts + done, "one at a time"
        world.page(BTC, -3)
        assert world.minutes(name) == [-3, -2, -1]


def test_one_whose_turn_does_not_come_is_refused() -> None:
    world = Asking.live(BTC)
    world.ask(request="h1", bars=3)
    world.ask(request="h2", bars=3)
    for _ in range(history.WAITING_MS_MAX // 10_000 + 1):
        world.pass_ms(10_000)
        world.update(BTC, values(-1), kind="timescale_update")
    word = world.last_word("h2")
    assert word is not None
    assert (word.accepted, word.code) == (False, "busy")
    assert "within 120 s: others are worked on" in word.message
    assert world.last_word("h1") is None


def test_without_a_connection_a_request_is_refused_after_a_while() -> None:
    world = Asking()
    world.ask(bars=3)
    world.pass_ms(history.WAITING_MS_MAX + 1_000, heartbeat=False, step_ms=5_000)
    word = world.last_word()
    assert word is not None
    assert (word.accepted, word.code) == (False, "unanswered")
    assert "no connection to TradingView" in word.message
    assert not world.engine._histories.wanting


def test_one_that_takes_too_long_is_refused_and_the_next_has_its_turn() -> None:
    world = Asking.live(BTC)
    world.ask(request="h1", bars=3)
    first = world.session_of(BTC)
    for _ in range(history.WORKING_MS_MAX // 10_000):
        world.pass_ms(10_000)
        world.update(BTC, values(-1), kind="timescale_update")
    world.ask(request="h2", bars=3)
    world.turn()
    word = world.last_word("h1")
    assert word is not None
    assert (word.accepted, word.code) == (False, "unanswered")
    assert "not done within 300 s: TradingView does not answer" in word.message
    assert [first] in world.said("chart_delete_session")
    world.page(BTC, -3)
    assert world.minutes("h2") == [-2, -1, 0], "the minute that formed is over"


def test_a_text_that_is_no_series_is_refused_with_what_was_expected() -> None:
    world = Asking.live(BTC)
    world.ask("BTC-BINANCE-7x", bars=3)
    word = world.last_word()
    assert word is not None
    assert (word.series, word.accepted, word.code) == ("BTC-BINANCE-7x", False, "invalid")
    assert "interval must be one of" in word.message


# The budget.


def test_history_can_be_switched_off() -> None:
    world = Asking.live(BTC, requests_max=0)
    asked = len(world.asked())
    world.ask(bars=3)
    word = world.last_word()
    assert word is not None
    assert (word.accepted, word.code) == (False, "switched_off")
    assert word.message == (
        "requests for history are switched off by TVBUS_HISTORY_REQUESTS_PER_HOUR_MAX"
    )
    assert len(world.asked()) == asked


def test_when_the_budget_is_spent_it_says_when_it_may_be_asked_again() -> None:
    world = Asking.live(BTC, requests_max=2)
    for name in ("h1", "h2"):
        world.ask(request=name, bars=3)
        world.page(BTC, -3)
    world.pass_ms(60_000)
    world.ask(request="h3", bars=3)
    word = world.last_word("h3")
    assert word is not None
    assert (word.accepted, word.code) == (False, "budget_spent")
    assert "2 requests to TradingView in an hour" in word.message
    assert word.message.endswith("ask again in 59 min")
    world.pass_ms(HOUR_MS - 61_000, step_ms=20_000)
    world.ask(request="h4", bars=3)
    world.ask(request="h5", bars=3)
    assert world.last_word("h4") is not None
    world.pass_ms(2_000)
    world.ask(request="h6", bars=3)
    world.page(BTC, -3)
    assert world.minutes("h6") == [-2, -1, 0], "the minute that formed is over"


def test_one_that_could_never_be_paid_for_is_refused_at_once() -> None:
    world = Asking.live(BTC, requests_max=2)
    world.ask(bars=10_001)
    word = world.last_word()
    assert word is not None
    assert (word.accepted, word.code) == (False, "budget_spent")
    assert word.message.endswith("this one costs 3 at least: ask for fewer bars")


def test_a_budget_that_ends_between_two_pages_gives_what_came() -> None:
    world = Asking.live(BTC, requests_max=2)
    world.ask(bars=10)
    world.page(BTC, -3)
    world.page(BTC, -5, -4)
    word = world.last_word()
    assert world.minutes() == [-5, -4, -3, -2, -1]
    assert word is not None
    assert (word.accepted, word.complete, word.code) == (True, False, "budget_spent")
    assert word.message.startswith("5 of 10 bars")
    assert word.message.endswith("ask again in 60 min")
    assert world.store.told("history.completed")[0]["requests"] == 2


def test_a_budget_that_ends_before_the_span_is_reached_is_a_refusal() -> None:
    world = Asking.live(BTC, requests_max=1)
    world.ask(from_ms=NOW_MS - 20 * MINUTE_MS, to_ms=NOW_MS - 10 * MINUTE_MS)
    world.page(BTC, -3)
    word = world.last_word()
    assert word is not None
    assert (word.accepted, word.code, world.bars()) == (False, "budget_spent", [])


def test_one_that_waited_is_refused_where_others_spent_the_budget_meanwhile() -> None:
    world = Asking.live(BTC, requests_max=1)
    world.ask(request="h1", bars=3)
    world.engine._histories._budget = Budget(2)
    world.ask(request="h2", bars=3)
    world.allow(0)
    world.page(BTC, -3)
    word = world.last_word("h2")
    assert word is not None
    assert (word.accepted, word.code) == (False, "switched_off")


# Trouble.


def reconnect(world: World) -> None:
    world.disconnect(ConnectionLost("gone"))
    for _ in range(200):
        world.pass_ms(500, step_ms=500, heartbeat=False)
        if world.engine._dialogue.links.of(world.transport.opened[-1]):
            break
    world.connect()


def test_a_lost_connection_makes_the_request_begin_anew() -> None:
    world = Asking.live(BTC)
    world.ask(ETH, bars=10)
    world.page(ETH, -3)
    reconnect(world)
    world.pass_ms(3_000)
    assert world.asked().count(ETH) == 2
    world.page(ETH, -13)
    assert world.minutes() == list(range(-10, 0))
    word = world.last_word()
    assert word is not None
    assert word.complete
    [told] = world.store.told("history.interrupted")
    assert "gone" in told["reason"]


def test_one_that_is_interrupted_again_and_again_is_given_up() -> None:
    world = Asking.live(BTC)
    world.ask(ETH, bars=10)
    for _ in range(history.TRIES_MAX + 1):
        if world.last_word() is None:
            world.say("clear_data", world.session_of(ETH))
            world.pass_ms(20_000, step_ms=2_000)
    word = world.last_word()
    assert word is not None
    assert (word.accepted, word.code) == (False, "unanswered")
    assert word.message == "given up after 4 attempts: TradingView cleared its data"
    assert world.asked().count(ETH) == history.TRIES_MAX
    assert world.store.lines[BTC].state == "live"


def test_older_bars_that_never_come_are_told_and_those_that_came_handed_over() -> None:
    world = Asking.live(BTC)
    world.ask(ETH, bars=10)
    for _ in range(UNANSWERED_MAX):
        world.page(ETH, -3)
        world.pass_ms(ANSWER_MS_MAX + 16_000, step_ms=2_000)
    world.page(ETH, -3)
    assert world.minutes() == [-3, -2, -1, 0], "the minute that formed is over"
    word = world.last_word()
    assert word is not None
    assert not word.complete
    assert word.message.endswith("TradingView did not send older ones")


def test_values_that_changed_into_none_make_it_begin_anew() -> None:
    world = Asking.live(BTC)
    world.ask(ETH, bars=3)
    bad = [values(-2)[0], 1e100, 1e100, 1e100, 1e100, 1.0]
    world.update(ETH, values(-2), kind="timescale_update")
    world.update(ETH, bad)
    world.page(ETH, -3)
    assert world.last_word() is not None, "good values came after"
    world.ask(ETH, request="h2", bars=3)
    world.update(ETH, *(values(m) for m in range(-3, 1)), end=1, kind="timescale_update")
    world.update(ETH, bad)
    world.say("series_completed", world.session_of(ETH), "sds_1", "streaming", "s1", {})
    world.turn()
    assert world.last_word("h2") is None
    world.pass_ms(3_000)
    world.page(ETH, -3)
    assert world.minutes("h2") == [-3, -2, -1]


def test_while_the_bus_is_away_nothing_is_asked_and_bars_wait() -> None:
    world = Asking.live(BTC)
    world.ask(request="h1", bars=3)
    with world.bus_down():
        world.pass_ms(2_000)
        world.page(BTC, -3)
        world.ask(ETH, request="h2", bars=3)
        assert ETH not in world.asked()
        assert world.engine._delivery.answers_waiting <= history.AHEAD_MAX
    assert world.minutes("h1") == [-3, -2, -1]
    assert world.last_word("h1") is not None
    assert ETH in world.asked()


def test_nobody_is_asked_for_what_could_not_be_answered() -> None:
    world = Asking.live(BTC)
    with world.bus_down():
        world.pass_ms(2_000)
        world.ask(ETH, bars=3)
        assert ETH not in world.asked()
    assert ETH in world.asked()


def test_the_engine_does_not_sleep_while_bars_can_be_handed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Asking.live(BTC)
    monkeypatch.setattr(engine, "TURN_MS_MAX", 50)
    world.turn()
    assert world.engine._wait_ms() == 50
    world.ask(bars=5_000)
    world.page(BTC, -5_000, exhausted="end", turns=1)
    assert world.engine._wait_ms() == 1
    world.turn(2)
    assert world.engine._wait_ms() == 50


def test_bars_that_the_bus_does_not_take_are_let_go_in_the_end() -> None:
    world = Asking.live(BTC)
    world.ask(bars=3)
    with world.bus_down():
        world.pass_ms(2_000)
        world.page(BTC, -3)
        world.pass_ms(history.WORKING_MS_MAX + 1_000, step_ms=5_000)
        assert world.engine._histories._working is None
    word = world.last_word()
    assert word is not None
    assert (word.accepted, world.bars()) == (False, [])
    assert "the bus did not take the bars within 300 s" in word.message


def test_who_asked_hears_that_the_publisher_stops() -> None:
    world = Asking.live(BTC)
    world.ask(request="h1", bars=3)
    world.ask(request="h2", bars=3)
    world.engine._stop()
    for request in ("h1", "h2"):
        word = world.last_word(request)
        assert word is not None
        assert (word.accepted, word.code) == (False, "stopped")


def test_what_is_said_of_a_request_that_is_over_concerns_nobody() -> None:
    world = Asking.live(BTC)
    session = world.engine._dialogue.links.clock
    assert isinstance(session, Session)
    late = heard.Interrupted(BTC, "late", request="history 99")
    world.engine._histories.hear(late, session, world.clock.wall, world.clock.monotonic)
    world.ask(bars=3)
    world.engine._histories.hear(late, session, world.clock.wall, world.clock.monotonic)
    world.page(BTC, -3)
    assert world.minutes() == [-3, -2, -1]
    assert not world.store.told("history.interrupted")


# Names for programs, in the other answers too.


def test_refusals_of_subscriptions_have_a_name_for_programs() -> None:
    world = Asking.live(BTC)
    world.command("subscribe", str(ETH), "nonsense", str(BTC))
    world.turn(2)
    world.say("symbol_error", world.session_of(ETH), "sds_sym_1", "invalid symbol")
    world.turn(2)
    codes = {reply.series: reply.code for reply in world.replies()}
    assert codes == {str(ETH): "symbol_unknown", "nonsense": "invalid", str(BTC): ""}
    assert json.loads(world.replies()[-1].encode())["code"] == "symbol_unknown"
