"""TvDatafeedLive on a bus whose publisher the tests play: who subscribes, who hears what."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from consumer_world import BTC, DEADLINE_S, ETH, Events, Market, Server

from bus.connection import connect_writer
from bus.errors import BusUnreachable
from consumers.errors import ArgumentInvalid, RequestRefused, SymbolUnknown
from consumers.shell import requests
from consumers.tvdatafeed import (
    Consumer,
    Interval,
    Seis,
    TvDatafeedLive,
    consumer,
    datafeed,
    subscriptions,
    users,
)
from publisher.wire import Series, Summary
from publisher.wire.answers import Answer
from publisher.wire.commands import Command
from tests.bus.clusters import cluster_of
from tests.waiting import eventually

MINUTE = Interval.in_1_minute
USERS = "tv:group:{tvdatafeed}:users"
UNKNOWN = Answer("", False, "TradingView does not know it", "symbol_unknown")


class Publisher(threading.Thread):
    """Obeys what is subscribed and unsubscribed, as the publisher does."""

    def __init__(self, market: Market) -> None:
        super().__init__(daemon=True)
        self.market = market
        self.asked: list[tuple[str, str]] = []
        """Action and series, in order."""
        self.refusals: dict[str, Answer] = {}
        self.mute = False
        self._stopped = threading.Event()
        lease = {"holder": "x", "token": 1, "expires_ms": 10**14}
        market.client.hset(market.keys.publisher, mapping=lease)

    def run(self) -> None:
        after: Any = "0"
        with self.market.client.client() as client:
            while not self._stopped.is_set():
                reply: Any = client.xread({self.market.keys.commands: after}, block=50)
                for entry in reply[0][1] if reply else ():
                    after = entry[0]
                    self._obey(Command.decode(entry[1][b"command"]))

    def _obey(self, command: Command) -> None:
        for text in command.series:
            self.asked.append((command.action, text))
            answer = self.refusals.get(text, Answer(text, True, "done"))
            state = "live" if command.action == "subscribe" else "removed"
            if command.action == "subscribe" and not answer.accepted:
                state = "refused"
            if not self.mute:
                self.list_series(Series.parse(text), state)
                self.market.client.rpush(self.market.keys.replies(command.id), answer.encode())

    def list_series(
        self, series: Series, state: Any, reason: str = "", by: Any = "command"
    ) -> None:
        line = Summary(series, state, reason, by)
        self.market.client.hset(self.market.keys.catalogue, str(series), line.encode())

    def stop(self) -> None:
        self._stopped.set()
        self.join()


@pytest.fixture
def publisher(market: Market, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.setattr(requests, "ANSWER_S_MAX", 1)
    monkeypatch.setattr(subscriptions, "ANSWER_S_MAX", 1)
    monkeypatch.setattr(datafeed, "KEEP_S", 0.1)
    monkeypatch.setattr(sys.modules["consumers.follow"], "BLOCK_MS", 50)
    running = Publisher(market)
    running.start()
    yield running
    running.mute = False
    running.stop()


@pytest.fixture
def open_live(market: Market, publisher: Publisher) -> Iterator[Callable[[], TvDatafeedLive]]:
    opened: list[TvDatafeedLive] = []

    def begin(**options: Any) -> TvDatafeedLive:
        opened.append(TvDatafeedLive(redis_url=market.url, **options))
        return opened[-1]

    yield begin
    for one in opened:
        one.del_tvdatafeed()


@pytest.fixture
def live(open_live: Callable[[], TvDatafeedLive]) -> TvDatafeedLive:
    return open_live()


class Heard:
    """A callback that remembers."""

    def __init__(self) -> None:
        self.closes: list[float] = []
        self.frames: list[pd.DataFrame] = []
        self.seises: list[Seis] = []

    def __call__(self, seis: Seis, data: pd.DataFrame) -> None:
        self.seises.append(seis)
        self.frames.append(data)
        self.closes.append(float(data["close"].iloc[0]))

    def wait(self, *closes: float) -> None:
        eventually(
            lambda: self.closes == list(closes), lambda: f"{self.closes} are {closes}", DEADLINE_S
        )


# Following.


def test_bars_that_close_from_now_on_reach_every_callback_once(
    market: Market, live: TvDatafeedLive
) -> None:
    market.publish(BTC, range(3))
    seis = live.new_seis("btcusdt", "binance", MINUTE)
    first, second = Heard(), Heard()
    live.new_consumer(seis, first)
    seis.new_consumer(second)
    market.publish(BTC, range(3, 6))
    for heard in (first, second):
        heard.wait(103.5, 104.5, 105.5)
        assert heard.seises == [seis] * 3
        assert [len(data) for data in heard.frames] == [1, 1, 1]
    assert first.frames[0] is not second.frames[0]
    row = first.frames[0].iloc[0]
    assert list(first.frames[0].columns) == ["symbol", "open", "high", "low", "close", "volume"]
    assert row.to_list() == ["BINANCE:BTCUSDT", 103.0, 104.0, 102.0, 103.5, 7.0]


def test_the_bar_that_closes_between_new_seis_and_its_thread_is_not_missed(
    market: Market, live: TvDatafeedLive, monkeypatch: pytest.MonkeyPatch
) -> None:
    market.publish(BTC, range(3))
    go = threading.Event()
    run = datafeed.Feed.run
    monkeypatch.setattr(datafeed.Feed, "run", lambda feed: (go.wait(), run(feed)))
    seis = live.new_seis("BTCUSDT", "BINANCE", MINUTE)
    heard = Heard()
    seis.new_consumer(heard)
    market.publish(BTC, range(3, 5))
    go.set()
    heard.wait(103.5, 104.5)


def test_a_stream_that_is_empty_yet_is_followed_from_its_first_bar(
    market: Market, live: TvDatafeedLive
) -> None:
    heard = Heard()
    live.new_seis("BTCUSDT", "BINANCE", MINUTE).new_consumer(heard)
    market.publish(BTC, range(2))
    heard.wait(100.5, 101.5)


def test_the_same_seis_is_made_once(live: TvDatafeedLive, publisher: Publisher) -> None:
    seis = live.new_seis("BTCUSDT", "BINANCE", MINUTE)
    assert live.new_seis("BTCUSDT", "BINANCE", MINUTE) is seis
    assert publisher.asked == [("subscribe", str(BTC))]


def test_a_bus_that_was_away_is_followed_on_without_gap_or_repetition(
    own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = Market(own_server.client(), own_server.url)
    publisher = Publisher(market)
    publisher.list_series(BTC, "live")
    market.publish(BTC, range(2))
    live = TvDatafeedLive(redis_url=own_server.url)
    heard = Heard()
    live.new_seis("BTCUSDT", "BINANCE", MINUTE).new_consumer(heard)
    market.publish(BTC, [2])
    heard.wait(102.5)
    own_server.kill()
    own_server.start()
    market.publish(BTC, range(3, 5))
    heard.wait(102.5, 103.5, 104.5)
    live.del_tvdatafeed()


def test_a_feed_that_finds_no_bus_tries_again(
    market: Market, live: TvDatafeedLive, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    failures = [BusUnreachable("gone for a moment"), BusUnreachable("gone for a moment")]
    follow = datafeed.Feed._follow

    def fail_first(feed: datafeed.Feed) -> None:
        if failures:
            raise failures.pop()
        follow(feed)

    monkeypatch.setattr(datafeed.Feed, "_follow", fail_first)
    heard = Heard()
    live.new_seis("BTCUSDT", "BINANCE", MINUTE).new_consumer(heard)
    market.publish(BTC, range(2))
    heard.wait(100.5, 101.5)
    assert len(events.named("bus.lost")) == 1


def test_the_rights_that_the_guide_names_are_enough(market: Market, publisher: Publisher) -> None:
    guide = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    more = guide.split("need the\nlast and `", 1)[1].split("`")[0]
    rights = guide.split("~tv:*", 1)[1].split("```")[1].strip().splitlines()[-1]
    rules = ["on", ">secret", "~tv:*", *rights.split(), *more.split()]
    market.client.execute_command("ACL", "SETUSER", "coming", "reset", *rules)
    market.client.execute_command("ACL", "LOG", "RESET")
    live = TvDatafeedLive(redis_url=market.url.replace("unix://", "unix://coming:secret@"))
    heard = Heard()
    seis = live.new_seis("BTCUSDT", "BINANCE", MINUTE)
    seis.new_consumer(heard)
    market.publish(BTC, range(2))
    heard.wait(100.5, 101.5)
    live.del_tvdatafeed()
    assert publisher.asked[-1] == ("unsubscribe", str(BTC))
    denied: Any = market.client.execute_command("ACL", "LOG")
    # The library asks by itself for what it can do without.
    assert {str(line[line.index(b"object") + 1]) for line in denied} <= {"b'client|setinfo'"}


def test_series_of_every_slot_of_a_cluster_are_followed(
    shared_server: Server, tmp_path: Path
) -> None:
    with cluster_of(shared_server.binary, tmp_path, 2) as ports:
        url = f"redis+cluster://127.0.0.1:{ports[0]}"
        market = Market(connect_writer(url), url)
        market.list_series(BTC, ETH)
        lease = {"holder": "x", "token": 1, "expires_ms": 10**14}
        market.client.hset(market.keys.publisher, mapping=lease)
        live = TvDatafeedLive(redis_url=url)
        heard = [Heard(), Heard()]
        for symbol, one in zip(("BTCUSDT", "ETHUSDT"), heard, strict=True):
            live.new_seis(symbol, "BINANCE", MINUTE).new_consumer(one)
        for series in (BTC, ETH):
            market.publish(series, range(2))
        for one in heard:
            one.wait(100.5, 101.5)
        live.del_tvdatafeed()
        assert market.client.hlen(USERS) == 0
        market.client.close()


# Who subscribes, and who takes it back.


def test_what_was_subscribed_here_is_unsubscribed_with_its_seis(
    live: TvDatafeedLive, publisher: Publisher
) -> None:
    seis = live.new_seis("BTCUSDT", "BINANCE", MINUTE)
    assert live.del_seis(seis) is True
    assert publisher.asked == [("subscribe", str(BTC)), ("unsubscribe", str(BTC))]
    assert seis.tvdatafeed is None
    again = live.new_seis("BTCUSDT", "BINANCE", MINUTE)
    assert again is not seis
    assert again == seis
    assert publisher.asked[2:] == [("subscribe", str(BTC))]


@pytest.mark.parametrize("state", ["live", "starting"])
def test_what_was_published_before_is_neither_subscribed_nor_unsubscribed(
    live: TvDatafeedLive, publisher: Publisher, state: Any
) -> None:
    publisher.list_series(BTC, state, by="settings")
    becoming = threading.Timer(0.3, publisher.list_series, (BTC, "live", "", "settings"))
    becoming.start()
    live.del_seis(live.new_seis("BTCUSDT", "BINANCE", MINUTE))
    becoming.join()
    assert publisher.asked == []


def test_a_series_that_another_program_follows_is_left_to_it(
    live: TvDatafeedLive, open_live: Callable[[], TvDatafeedLive], publisher: Publisher
) -> None:
    other = open_live()
    ours = live.new_seis("BTCUSDT", "BINANCE", MINUTE)
    theirs = other.new_seis("BTCUSDT", "BINANCE", MINUTE)
    live.del_seis(ours)
    # The other one did not subscribe it, so it stays.
    other.del_seis(theirs)
    assert publisher.asked == [("subscribe", str(BTC))]


def test_a_program_that_was_killed_holds_a_series_for_a_minute_only(
    market: Market,
    live: TvDatafeedLive,
    open_live: Callable[[], TvDatafeedLive],
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = live.new_seis("BTCUSDT", "BINANCE", MINUTE)
    killed = open_live()
    with monkeypatch.context() as patch:
        patch.setattr(users, "USE_MS", 1)
        killed._subscriptions.begin(BTC, 5)
    expiry_ms = min(map(int, market.client.hvals(USERS)))
    eventually(lambda: int(market.client.time()[0]) * 1000 > expiry_ms, "its entry expires")
    live.del_seis(ours)
    assert publisher.asked[-1] == ("unsubscribe", str(BTC))
    assert market.client.hlen(USERS) == 0, "nothing is left behind"


def test_a_series_that_a_consumer_group_reads_is_left_to_it(
    market: Market, live: TvDatafeedLive, publisher: Publisher
) -> None:
    seis = live.new_seis("BTCUSDT", "BINANCE", MINUTE)
    market.client.xgroup_create(market.keys.bars(BTC), "strategy", mkstream=True)
    live.del_seis(seis)
    assert publisher.asked == [("subscribe", str(BTC))]


def test_a_program_says_again_and_again_what_it_follows(
    market: Market, live: TvDatafeedLive, publisher: Publisher
) -> None:
    live.new_seis("BTCUSDT", "BINANCE", MINUTE)
    market.client.delete(USERS)
    eventually(lambda: market.client.hlen(USERS) == 1)
    assert 0 < market.client.pttl(USERS) <= users.KEPT_MS


def test_everything_ends_at_once_and_the_threads_too(
    live: TvDatafeedLive, publisher: Publisher
) -> None:
    seises = [live.new_seis(symbol, "BINANCE", MINUTE) for symbol in ("BTCUSDT", "ETHUSDT")]
    consumers = [seis.new_consumer(Heard()) for seis in seises]
    live.del_tvdatafeed()
    assert set(publisher.asked[2:]) == {("unsubscribe", str(BTC)), ("unsubscribe", str(ETH))}
    names = {thread.name for thread in threading.enumerate()}
    assert not names & {f"feed_{BTC}", f"feed_{ETH}", *(one.name for one in consumers)}
    live.del_tvdatafeed()


# What cannot be.


def test_an_unknown_symbol_is_an_error_and_nothing_stays_subscribed(
    live: TvDatafeedLive, publisher: Publisher
) -> None:
    publisher.refusals[str(BTC)] = UNKNOWN
    with pytest.raises(SymbolUnknown, match="does not know"):
        live.new_seis("BTCUSDT", "BINANCE", MINUTE)
    assert publisher.asked == [("subscribe", str(BTC)), ("unsubscribe", str(BTC))]


def test_a_series_that_is_refused_to_others_says_why(
    live: TvDatafeedLive, publisher: Publisher
) -> None:
    publisher.list_series(BTC, "refused", "no permission")
    with pytest.raises(RequestRefused, match="BTCUSDT-BINANCE-1m is not published: no permission"):
        live.new_seis("BTCUSDT", "BINANCE", MINUTE)
    assert publisher.asked == []


def test_without_a_publisher_no_seis_is_made(market: Market, live: TvDatafeedLive) -> None:
    market.client.delete(market.keys.publisher)
    with pytest.raises(RequestRefused, match="no publisher is running"):
        live.new_seis("BTCUSDT", "BINANCE", MINUTE)


def test_false_is_returned_after_the_time_out_and_nothing_stays_subscribed(
    live: TvDatafeedLive, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "UNSUBSCRIBE_S_MAX", 0.1)
    publisher.mute = True
    assert live.new_seis("BTCUSDT", "BINANCE", MINUTE, timeout=0.2) is False
    eventually(lambda: publisher.asked[-1] == ("unsubscribe", str(BTC)))
    publisher.list_series(ETH, "starting")
    assert live.new_seis("ETHUSDT", "BINANCE", MINUTE, timeout=0.2) is False


def test_a_series_that_does_not_become_live_is_not_waited_for_without_end(
    live: TvDatafeedLive, publisher: Publisher
) -> None:
    publisher.list_series(BTC, "starting")
    with pytest.raises(RequestRefused, match="is not live yet, and nobody says why"):
        live.new_seis("BTCUSDT", "BINANCE", MINUTE)


def test_who_holds_the_object_is_waited_for_as_long_as_told(
    live: TvDatafeedLive, publisher: Publisher
) -> None:
    seis = live.new_seis("BTCUSDT", "BINANCE", MINUTE)
    with live._lock:
        assert live.new_seis("ETHUSDT", "BINANCE", MINUTE, timeout=0) is False
        assert live.del_seis(seis, timeout=0.05) is False
    assert seis.del_seis() is True


def test_what_is_followed_no_longer_is_told(live: TvDatafeedLive) -> None:
    seis = live.new_seis("BTCUSDT", "BINANCE", MINUTE)
    consumer = seis.new_consumer(Heard())
    assert seis.del_seis(timeout=5) is True
    assert seis.get_consumers() == []
    for call in (
        lambda: live.del_seis(seis),
        lambda: live.new_consumer(seis, Heard()),
        lambda: live.del_consumer(consumer),
        lambda: seis.new_consumer(Heard()),
        seis.del_seis,
        seis.get_hist,
    ):
        with pytest.raises(ArgumentInvalid, match=r"deleted|not followed|no longer"):
            call()
    assert consumer.del_consumer() is True, "it is stopped already"


@pytest.mark.parametrize("timeout", [-2, -0.5, float("nan")])
def test_a_time_out_is_seconds_or_none(live: TvDatafeedLive, timeout: float) -> None:
    with pytest.raises(ArgumentInvalid, match="timeout must be seconds, or -1 for none"):
        live.new_seis("BTCUSDT", "BINANCE", MINUTE, timeout=timeout)


def test_a_callback_must_be_a_function(live: TvDatafeedLive) -> None:
    seis = live.new_seis("BTCUSDT", "BINANCE", MINUTE)
    with pytest.raises(ArgumentInvalid, match=r"callback must be a function .* was 'print'"):
        seis.new_consumer("print")  # type: ignore[arg-type]


# Trouble while following.


def test_a_series_that_a_person_unsubscribed_is_told_and_not_subscribed_again(
    live: TvDatafeedLive, publisher: Publisher, events: Events
) -> None:
    live.new_seis("BTCUSDT", "BINANCE", MINUTE)
    publisher.list_series(BTC, "removed")
    told = events.wait("seis.interrupted")
    assert told["reason"].startswith("it was unsubscribed: `tvbus subscribe BTCUSDT-BINANCE-1m`")
    publisher.list_series(BTC, "live")
    events.wait("seis.resumed")
    assert len(events.named("seis.interrupted")) == 1
    assert publisher.asked == [("subscribe", str(BTC))]


def test_a_series_that_the_settings_name_no_longer_is_subscribed(
    live: TvDatafeedLive, publisher: Publisher, events: Events
) -> None:
    publisher.list_series(BTC, "live", by="settings")
    seis = live.new_seis("BTCUSDT", "BINANCE", MINUTE)
    publisher.list_series(BTC, "removed", "no longer in TVBUS_SERIES", by="settings")
    assert events.wait("seis.interrupted")["reason"] == "no longer in TVBUS_SERIES"
    events.wait("seis.resumed")
    live.del_seis(seis)
    assert publisher.asked[0] == ("subscribe", str(BTC))
    assert publisher.asked[-1] == ("unsubscribe", str(BTC))


def test_a_bus_that_fails_while_series_are_looked_after_ends_nothing(
    live: TvDatafeedLive, publisher: Publisher, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.new_seis("BTCUSDT", "BINANCE", MINUTE)

    def fail(*_: Any) -> None:
        raise BusUnreachable("gone for a moment")

    with monkeypatch.context() as patch:
        patch.setattr(subscriptions.Subscriptions, "renew", fail)
        events.wait("seis.unkept")
    publisher.list_series(BTC, "refused", "no permission")
    assert events.wait("seis.interrupted")["reason"] == "no permission"


# Callbacks.


def test_a_callback_that_fails_hears_the_next_bar_and_its_failure_is_logged(
    market: Market, live: TvDatafeedLive, events: Events
) -> None:
    seen: list[float] = []

    def fail_once(_: Seis, data: pd.DataFrame) -> None:
        seen.append(data.close.iloc[0])
        if len(seen) == 1:
            raise ZeroDivisionError("no taste for it")

    failing = live.new_seis("BTCUSDT", "BINANCE", MINUTE).new_consumer(fail_once)
    market.publish(BTC, range(2))
    eventually(lambda: len(seen) == 2)
    assert events.wait("callback.failed")["error"] == "no taste for it"
    eventually(lambda: (failing.handled, failing.failed) == (1, 1))


@pytest.mark.parametrize("how", ["consumer", "seis", "live", "everything"])
def test_a_callback_may_end_itself(market: Market, live: TvDatafeedLive, how: str) -> None:
    seen: list[float] = []
    seis = live.new_seis("BTCUSDT", "BINANCE", MINUTE)

    def once(seis: Seis, data: pd.DataFrame) -> None:
        seen.append(data.close.iloc[0])
        if how == "consumer":
            consumers[0].del_consumer()
        elif how == "seis":
            seis.del_seis()
        elif how == "live":
            live.del_consumer(consumers[0])
        else:
            live.del_tvdatafeed()

    consumers = [seis.new_consumer(once)]
    market.publish(BTC, range(3))
    consumers[0].join(DEADLINE_S)
    assert not consumers[0].is_alive()
    assert seen == [100.5]


def test_a_callback_that_hangs_delays_no_other_and_its_oldest_bars_are_dropped(
    market: Market, live: TvDatafeedLive, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "WAITING_MAX", 2)
    seis = live.new_seis("BTCUSDT", "BINANCE", MINUTE)
    go = threading.Event()
    slow, quick = Heard(), Heard()

    def hang(seis: Seis, data: pd.DataFrame) -> None:
        go.wait()
        slow(seis, data)

    hanging = seis.new_consumer(hang)
    seis.new_consumer(quick)
    market.publish(BTC, [0])
    eventually(hanging._buffer.empty)
    quick.wait(100.5)
    for last in range(1, 6):
        market.publish(BTC, [last])
        quick.wait(*(100.5 + n for n in range(last + 1)))
    eventually(lambda: hanging.dropped == 3)
    go.set()
    slow.wait(100.5, 104.5, 105.5)
    assert [line["waiting"] for line in events.named("callback.overrun")] == [2]


def test_what_waits_for_a_consumer_that_is_stopped_is_let_go() -> None:
    seis, heard = Seis("BTCUSDT", "BINANCE", MINUTE), Heard()
    stopped = Consumer(seis, heard)
    for _ in range(consumer.WAITING_MAX):
        stopped.put(pd.DataFrame({"close": [1.0]}))  # type: ignore[arg-type]
    stopped.stop()
    stopped.put(pd.DataFrame({"close": [1.0]}))  # type: ignore[arg-type]
    stopped.start()
    stopped.join(DEADLINE_S)
    assert (heard.closes, stopped.dropped) == ([], 0)


# Seis.


def test_a_seis_is_known_by_its_three_parts() -> None:
    one, same = (Seis("ES1!", "CME_MINI", Interval.in_daily) for _ in range(2))
    assert one == same
    assert len({one, same, Seis("ES1!", "CME_MINI", Interval.in_weekly)}) == 2
    assert one != "ES1!"
    assert repr(one) == 'Seis("ES1!","CME_MINI",Interval.in_daily)'
    assert str(one) == "symbol='ES1!',exchange='CME_MINI',interval='in_daily'"
    callback = Consumer(one, print)
    assert repr(callback) == f"Consumer({one!r},print)"
    assert callback.name == "print_ES1!_CME_MINI_1D"
