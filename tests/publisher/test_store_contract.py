"""The store and the lease: one suite over a fake, Valkey and redis-server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import fakeredis
import pytest
from publisher_servers import Server
from publisher_world import BTC, ETH, MINUTE_MS, NOW_MS

from bus import scripts
from bus.connection import Client
from publisher.errors import Fenced, StoreRefused, StoreUnavailable, StreamDiverged
from publisher.ports import Appended, Batch
from publisher.shell import lease as lease_module
from publisher.shell.lease import RedisLease
from publisher.shell.store import RedisStore, Retention
from publisher.wire import (
    BAR_FIELD,
    BAR_JSON_FIELD,
    DAY_MS,
    Bar,
    Encoding,
    Keys,
    Series,
    Summary,
    decode_bar,
    encode_bar,
    entry_id,
)
from publisher.wire.answers import Answer
from tests.waiting import eventually as wait_for

KEYS = Keys("t")
TOKEN = 100


@pytest.fixture(params=["fake", "valkey", "redis"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """An empty bus of each kind."""
    if request.param == "fake":
        fake = fakeredis.FakeRedis(server_type="redis", version=(7,), protocol=2)
        yield fake
        fake.close()
        return
    server: Server = request.getfixturevalue(request.param)
    with server.client() as real:
        real.flushall()
        yield real


@pytest.fixture(params=["msgpack", "json"])
def encoding(request: pytest.FixtureRequest) -> Encoding:
    """Both ways to write an entry."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def store(client: Client) -> RedisStore:
    """A store that keeps everything."""
    return make(client)


def make(
    client: Client, encoding: Encoding = "msgpack", retention: Retention | None = None
) -> RedisStore:
    return RedisStore(client, KEYS, encoding, retention or Retention(0, 0))


def chain(first: int, last: int, previous: int | None = None, series: Series = BTC) -> Batch:
    """Bars of the minutes from first to last, each naming the one before."""
    bars = []
    before = None if previous is None else NOW_MS + previous * MINUTE_MS
    for minute in range(first, last + 1):
        at_ms = NOW_MS + minute * MINUTE_MS
        price = 100.0 + minute
        bars.append(
            Bar(
                series,
                at_ms,
                price,
                price + 2,
                price - 2,
                price + 1,
                None if minute % 2 else 5.5,
                at_ms + MINUTE_MS,
                before,
                at_ms + 61_000,
                "next",
                gap=minute == 3,
            )
        )
        before = at_ms
    return Batch(series, tuple(bars))


def stored(client: Client, series: Series = BTC) -> list[Bar]:
    entries: Any = client.xrange(KEYS.bars(series))
    for place, fields in entries:
        assert place.decode() == entry_id(decode_bar(series, fields).open_time_ms)
    return [decode_bar(series, fields) for _, fields in entries]


# Appending.


def test_bars_are_appended_in_order_and_read_back_the_same(
    client: Client, encoding: Encoding
) -> None:
    store = make(client, encoding)
    assert store.append(TOKEN, [chain(1, 5)]) == [Appended(5, 0)]
    assert store.append(TOKEN, [chain(6, 7, 5)]) == [Appended(2, 0)]
    assert tuple(stored(client)) == chain(1, 7).bars
    field = BAR_FIELD if encoding == "msgpack" else BAR_JSON_FIELD
    entries: Any = client.xrange(KEYS.bars(BTC))
    assert all(list(fields) == [field] for _, fields in entries)
    assert client.hget(KEYS.series(BTC), "watermark") == str(NOW_MS + 7 * MINUTE_MS).encode()


def test_what_is_sent_again_is_found_present_and_stands_once(store: RedisStore) -> None:
    store.append(TOKEN, [chain(1, 5)])
    assert store.append(TOKEN, [chain(1, 5)]) == [Appended(0, 5)]
    assert store.append(TOKEN, [chain(3, 8, 2)]) == [Appended(3, 3)]
    assert [bar.open for bar in stored(store._client)] == [101.0 + i for i in range(8)]


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param(chain(0, 0), id="older than the end"),
        pytest.param(chain(7, 7, 6), id="after a bar that is not there"),
        pytest.param(chain(7, 7), id="as the first of a stream that is not empty"),
        pytest.param(
            Batch(BTC, (replace(chain(5, 5, 4).bars[0], close=105.5),)), id="another value"
        ),
        pytest.param(
            Batch(BTC, (replace(chain(5, 5, 4).bars[0], received_ms=1),)), id="another payload"
        ),
    ],
)
def test_what_does_not_continue_the_stream_is_refused_and_changes_nothing(
    store: RedisStore, batch: Batch
) -> None:
    store.append(TOKEN, [chain(1, 5)])
    [outcome] = store.append(TOKEN, [batch])
    assert isinstance(outcome, StreamDiverged)
    assert tuple(stored(store._client)) == chain(1, 5).bars


def test_a_batch_that_diverges_in_its_middle_keeps_what_came_before(store: RedisStore) -> None:
    broken = Batch(BTC, (*chain(1, 3).bars, *chain(7, 9, 6).bars))
    [outcome] = store.append(TOKEN, [broken])
    assert isinstance(outcome, StreamDiverged)
    assert tuple(stored(store._client)) == chain(1, 3).bars


def test_a_stream_that_vanished_is_noticed(store: RedisStore) -> None:
    store.append(TOKEN, [chain(1, 5)])
    store._client.delete(KEYS.bars(BTC))
    [outcome] = store.append(TOKEN, [chain(6, 6, 5)])
    assert isinstance(outcome, StreamDiverged)
    assert stored(store._client) == []


@pytest.mark.parametrize("place", ["*", f"{NOW_MS + 6 * MINUTE_MS}-5"])
def test_an_entry_of_somebody_else_is_noticed(store: RedisStore, place: str) -> None:
    store.append(TOKEN, [chain(1, 5)])
    store._client.xadd(KEYS.bars(BTC), {"what": "ever"}, id=place)
    [outcome] = store.append(TOKEN, [chain(6, 6, 5)])
    assert isinstance(outcome, StreamDiverged)


def test_one_series_that_diverges_does_not_hinder_another(store: RedisStore) -> None:
    store.append(TOKEN, [chain(1, 5)])
    bad, good = store.append(TOKEN, [chain(9, 9, 8), chain(1, 2, series=ETH)])
    assert isinstance(bad, StreamDiverged)
    assert good == Appended(2, 0)


def test_the_other_encoding_of_the_same_bar_is_not_the_same_entry(client: Client) -> None:
    make(client, "msgpack").append(TOKEN, [chain(1, 2)])
    [outcome] = make(client, "json").append(TOKEN, [chain(2, 2, 1)])
    assert isinstance(outcome, StreamDiverged)
    assert make(client, "json").append(TOKEN, [chain(3, 4, 2)]) == [Appended(2, 0)]
    assert len(stored(client)) == 4


# The fence.


def test_a_lower_token_is_refused_by_every_script_and_a_higher_takes_over(
    store: RedisStore,
) -> None:
    store.append(TOKEN, [chain(1, 2)])
    bar = chain(3, 3, 2).bars[0]
    [appended] = store.append(TOKEN - 1, [chain(3, 3, 2)])
    [formed] = store.put_forming(TOKEN - 1, [bar])
    assert isinstance(appended, Fenced)
    assert isinstance(formed, Fenced)
    with pytest.raises(Fenced):
        store.put_correction(TOKEN - 1, bar, NOW_MS)
    with pytest.raises(Fenced):
        store.describe(TOKEN - 1, BTC, {"state": "stale"})
    assert len(stored(store._client)) == 2
    assert store._client.exists(KEYS.forming(BTC), KEYS.corrections(BTC)) == 0
    assert store._client.hget(KEYS.series(BTC), "state") is None
    assert store.append(TOKEN + 1, [chain(3, 3, 2)]) == [Appended(1, 0)]
    [outcome] = store.append(TOKEN, [chain(4, 4, 3)])
    assert isinstance(outcome, Fenced)
    assert "another publisher took over BTCUSDT-BINANCE-1m" in str(outcome)


@pytest.mark.parametrize("script", ["put_forming", "put_correction", "describe"])
def test_whatever_script_a_new_publisher_runs_first_shuts_the_old_one_out(
    store: RedisStore, script: str
) -> None:
    bar = chain(1, 1).bars[0]
    store.append(TOKEN, [chain(1, 1)])
    if script == "put_forming":
        store.put_forming(TOKEN + 1, [bar])
    elif script == "put_correction":
        store.put_correction(TOKEN + 1, bar, NOW_MS)
    else:
        store.describe(TOKEN + 1, BTC, {"state": "live"})
    [outcome] = store.append(TOKEN, [chain(1, 1)])
    assert isinstance(outcome, Fenced)


# Retention.


def test_a_stream_keeps_about_as_many_bars_as_asked(client: Client) -> None:
    store = make(client, retention=Retention(200, 0))
    for first in range(0, 1_000, 100):
        previous = first - 1 if first else None
        assert store.append(TOKEN, [chain(first, first + 99, previous)]) == [Appended(100, 0)]
    kept = stored(client)
    assert 200 <= len(kept) <= 400
    assert kept[-1].open_time_ms == NOW_MS + 999 * MINUTE_MS


def test_a_stream_keeps_about_as_many_days_as_asked(client: Client) -> None:
    store = make(client, retention=Retention(0, 1))
    for first in range(0, 3_000, 250):
        previous = first - 1 if first else None
        store.append(TOKEN, [chain(first, first + 249, previous)])
    kept = stored(client)
    newest_ms = kept[-1].open_time_ms
    assert newest_ms == NOW_MS + 2_999 * MINUTE_MS
    assert newest_ms - DAY_MS - 250 * MINUTE_MS <= kept[0].open_time_ms <= newest_ms - DAY_MS


def test_a_bar_that_is_older_than_all_that_is_kept_keeps_its_successors(client: Client) -> None:
    store = make(client, retention=Retention(0, 36_500))
    assert store.append(TOKEN, [chain(1, 3)]) == [Appended(3, 0)]
    assert len(stored(client)) == 3


# The end of a stream.


def test_the_end_of_nothing_is_empty(store: RedisStore) -> None:
    end = store.stream_end(BTC)
    assert (end.watermark_ms, end.recent, end.correction_ms) == (None, None, 0)


def test_a_stream_that_a_group_made_is_empty_and_takes_its_first_bar(store: RedisStore) -> None:
    store._client.xgroup_create(KEYS.bars(BTC), "g", id="0", mkstream=True)
    assert store.stream_end(BTC).watermark_ms is None
    assert store.append(TOKEN, [chain(1, 2)]) == [Appended(2, 0)]


def test_the_end_holds_the_newest_bars_with_their_corrections(store: RedisStore) -> None:
    store.append(TOKEN, [chain(1, 100)])
    for revision, close in ((1, 7.0), (2, 8.0)):
        known = chain(99, 99, 98).bars[0]
        changed = replace(known, low=1.0, close=close, revision=revision)
        store.put_correction(TOKEN, changed, NOW_MS + revision)
    end = store.stream_end(BTC)
    assert end.watermark_ms == NOW_MS + 100 * MINUTE_MS
    assert end.correction_ms == NOW_MS + 2
    recent = end.recent or {}
    assert len(recent) == 64
    assert recent[NOW_MS + 99 * MINUTE_MS].point.close == 8.0
    assert recent[NOW_MS + 99 * MINUTE_MS].revision == 2
    assert recent[NOW_MS + 100 * MINUTE_MS].revision == 0


def test_a_correction_of_a_bar_long_gone_does_not_come_back(store: RedisStore) -> None:
    store.append(TOKEN, [chain(1, 100)])
    old = replace(chain(2, 2, 1).bars[0], revision=1)
    store.put_correction(TOKEN, old, NOW_MS)
    assert old.open_time_ms not in (store.stream_end(BTC).recent or {})


def test_a_stream_whose_newest_entry_was_deleted_goes_on_behind_it(store: RedisStore) -> None:
    store.append(TOKEN, [chain(1, 5)])
    store._client.xdel(KEYS.bars(BTC), entry_id(NOW_MS + 5 * MINUTE_MS))
    end = store.stream_end(BTC)
    assert end.watermark_ms == NOW_MS + 5 * MINUTE_MS
    assert max(end.recent or {}) == NOW_MS + 4 * MINUTE_MS
    [again] = store.append(TOKEN, [chain(5, 5, 4)])
    assert isinstance(again, StreamDiverged)
    assert store.append(TOKEN, [chain(6, 6, 5)]) == [Appended(1, 0)]


def test_entries_that_are_no_bars_are_passed_over(store: RedisStore) -> None:
    store.append(TOKEN, [chain(1, 2)])
    store._client.xadd(KEYS.bars(BTC), {"what": "ever"}, id=entry_id(NOW_MS + 3 * MINUTE_MS))
    end = store.stream_end(BTC)
    assert end.watermark_ms == NOW_MS + 3 * MINUTE_MS
    assert sorted(end.recent or {}) == [NOW_MS + MINUTE_MS, NOW_MS + 2 * MINUTE_MS]


# Forming bars, corrections, facts.


def test_only_the_newest_states_of_a_forming_bar_are_kept(store: RedisStore) -> None:
    bar = chain(1, 1).bars[0]
    for number in range(300):
        assert store.put_forming(TOKEN, [replace(bar, volume=float(number))]) == [None]
    entries: Any = store._client.xrange(KEYS.forming(BTC))
    assert len(entries) <= 104
    volumes = [decode_bar(BTC, fields).volume for _, fields in entries]
    assert volumes == sorted(volumes)  # type: ignore[type-var]
    assert volumes[-1] == 299.0


def test_a_state_of_a_forming_bar_that_arrives_late_changes_nothing(store: RedisStore) -> None:
    bar = chain(1, 1).bars[0]
    late = store._put_call(TOKEN, KEYS.forming(BTC), 4, f"{TOKEN}-1", bar, after_ms=0)
    store.put_forming(TOKEN, [replace(bar, volume=1.0)])
    store.put_forming(TOKEN, [replace(bar, volume=2.0)])
    before: Any = store._client.xrange(KEYS.forming(BTC))
    assert scripts.run(store._client, [late]) == [[b"diverged"]]
    assert store._client.xrange(KEYS.forming(BTC)) == before
    assert store.put_forming(TOKEN + 1, [replace(bar, volume=3.0)]) == [None]
    after: Any = store._client.xrange(KEYS.forming(BTC))
    assert [decode_bar(BTC, fields).volume for _, fields in after] == [1.0, 2.0, 3.0]


def test_a_correction_that_is_put_again_stands_once(store: RedisStore) -> None:
    store.append(TOKEN, [chain(1, 1)])
    bar = replace(chain(1, 1).bars[0], revision=1)
    store.put_correction(TOKEN, bar, NOW_MS)
    store.put_correction(TOKEN, bar, NOW_MS)
    assert store._client.xlen(KEYS.corrections(BTC)) == 1
    with pytest.raises(StreamDiverged):
        store.put_correction(TOKEN, replace(bar, revision=2), NOW_MS)
    with pytest.raises(StreamDiverged):
        store.put_correction(TOKEN, replace(bar, revision=2), NOW_MS - 1)
    assert store._client.xlen(KEYS.corrections(BTC)) == 1


def test_a_correction_does_not_come_before_its_bar(store: RedisStore) -> None:
    changed = replace(chain(3, 3, 2).bars[0], revision=1)
    for stands in ([], [chain(1, 2)]):
        store.append(TOKEN, stands)
        with pytest.raises(StreamDiverged):
            store.put_correction(TOKEN, changed, NOW_MS)
    assert store._client.exists(KEYS.corrections(BTC)) == 0
    store.append(TOKEN, [chain(3, 3, 2)])
    store.put_correction(TOKEN, changed, NOW_MS)
    assert store._client.xlen(KEYS.corrections(BTC)) == 1


def test_scripts_that_the_server_forgot_are_loaded_again(store: RedisStore) -> None:
    store.append(TOKEN, [chain(1, 2)])
    store._client.script_flush()
    outcomes = store.append(TOKEN, [chain(3, 4, 2), chain(1, 1, series=ETH)])
    assert outcomes == [Appended(2, 0), Appended(1, 0)]
    store._client.script_flush()
    store.describe(TOKEN, BTC, {"state": "live", "reason": ""})
    assert store._client.hget(KEYS.series(BTC), "state") == b"live"


def test_the_catalogue_is_written_and_read_and_strange_lines_are_left_out(
    store: RedisStore,
) -> None:
    lines = [Summary(BTC, "live", "", "command"), Summary(ETH, "refused", "unknown")]
    store.list_series(lines)
    store._client.hset(KEYS.catalogue, mapping={"nonsense": "{}", str(ETH) + "x": "["})
    assert sorted(store.catalogue(), key=lambda line: str(line.series)) == lines


def test_events_answers_and_the_place_in_the_requests_are_put(store: RedisStore) -> None:
    store.emit([b'{"event":"a"}', b'{"event":"b"}'])
    entries: Any = store._client.xrange(KEYS.events)
    assert [fields[b"event"] for _, fields in entries] == [b'{"event":"a"}', b'{"event":"b"}']
    answers = [Answer("A", accepted=True, message="live"), Answer("B", accepted=False, message="x")]
    store.answer("r1", answers)
    replies: Any = store._client.lrange(KEYS.replies("r1"), 0, -1)
    assert [Answer.decode(text) for text in replies] == answers
    assert 0 < store._client.pttl(KEYS.replies("r1")) <= 60_000  # type: ignore[operator]
    store.note_commands_read("5-1")
    assert store._client.hget(KEYS.publisher, "commands_id") == b"5-1"


# Foreign keys.


def _append(store: RedisStore) -> Any:
    return store.append(TOKEN, [chain(1, 1)])[0]


def _form(store: RedisStore) -> Any:
    return store.put_forming(TOKEN, [chain(1, 1).bars[0]])[0]


@pytest.mark.parametrize(
    ("key", "call"),
    [
        (KEYS.bars(BTC), _append),
        (KEYS.series(BTC), _append),
        (KEYS.forming(BTC), _form),
        (KEYS.series(BTC), _form),
        (KEYS.bars(BTC), lambda store: store.stream_end(BTC)),
        (KEYS.corrections(BTC), lambda store: store.stream_end(BTC)),
        (KEYS.series(BTC), lambda store: store.stream_end(BTC)),
        (KEYS.corrections(BTC), lambda store: store.put_correction(TOKEN, chain(1, 1).bars[0], 5)),
        (KEYS.series(BTC), lambda store: store.describe(TOKEN, BTC, {"state": "live"})),
        (KEYS.catalogue, lambda store: store.list_series([Summary(BTC, "live")])),
        (KEYS.catalogue, lambda store: store.catalogue()),
        (KEYS.events, lambda store: store.emit([b"{}"])),
        (KEYS.replies("r"), lambda store: store.answer("r", [Answer("A", True, "x")])),
        (KEYS.publisher, lambda store: store.note_commands_read("1-0")),
    ],
)
def test_a_key_that_holds_something_else_is_named_and_kept(
    store: RedisStore, key: str, call: Callable[[RedisStore], Any]
) -> None:
    store._client.set(key, "precious")
    try:
        outcome = call(store)
    except StoreRefused as error:
        outcome = error
    assert isinstance(outcome, StoreRefused)
    assert key in str(outcome)
    assert "rename or delete it" in str(outcome)
    assert store._client.get(key) == b"precious"
    assert store.append(TOKEN, [chain(1, 1, series=ETH)]) == [Appended(1, 0)]


# The lease.


def lease(client: Client, holder: str = "one") -> RedisLease:
    return RedisLease(client, KEYS, holder)


def test_one_publisher_holds_the_lease_and_others_wait(client: Client) -> None:
    one, two = lease(client), lease(client, "two")
    token = one.acquire()
    assert token is not None
    assert two.acquire() is None
    assert one.renew(token)
    assert not two.renew(token - 1)
    assert client.hget(KEYS.publisher, "holder") == b"one"
    two.release(token - 1)
    assert two.acquire() is None
    one.release(token)
    later = two.acquire()
    assert later is not None
    assert later > token
    assert not one.renew(token)


def test_a_lease_that_is_not_renewed_runs_out(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "LEASE_MS", 50)
    one, two = lease(client), lease(client, "two")
    token = one.acquire()
    assert token is not None
    taken: list[int] = []

    def take() -> bool:
        got = two.acquire()
        taken.extend([got] if got else [])
        return bool(taken)

    wait_for(take, "the lease runs out")
    assert taken[0] > token
    assert not one.renew(token)


def test_a_lease_that_ran_out_unnoticed_is_renewed_all_the_same(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "LEASE_MS", 1)
    one = lease(client)
    token = one.acquire()
    assert token is not None
    wait_for(lambda: one.renew(token))


def test_tokens_never_fall_not_even_after_everything_was_flushed(client: Client) -> None:
    one = lease(client)
    tokens = []
    for _ in range(5):
        token = one.acquire()
        assert token is not None
        tokens.append(token)
        client.flushall()
        assert not one.renew(token)
    for _ in range(5):
        token = one.acquire()
        assert token is not None
        tokens.append(token)
        one.release(token)
    assert tokens == sorted(tokens)
    assert tokens[5:] == sorted(set(tokens[5:]))


def test_a_lease_key_that_holds_something_else_is_named(client: Client) -> None:
    client.set(KEYS.publisher, "precious")
    with pytest.raises(StoreUnavailable, match=KEYS.publisher):
        lease(client).acquire()
    assert client.get(KEYS.publisher) == b"precious"


def test_an_entry_is_what_the_contract_says() -> None:
    field, payload = encode_bar(chain(1, 1).bars[0], "json")
    assert field == b"bar.json"
    assert b'"t":%d' % (NOW_MS + MINUTE_MS) in payload


def test_a_token_is_good_for_its_holder_alone(client: Client) -> None:
    one, two = lease(client), lease(client, "two")
    token = one.acquire()
    assert token is not None
    assert not two.renew(token)
    two.release(token)
    assert one.renew(token)
    assert two.acquire() is None
