"""What a stream lets the holder of its lease do, and what it refuses everybody else."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from consumer_world import Market

from bus.connection import connect_reader
from consumers.core.ids import ZERO, EntryId
from consumers.core.start import Start
from consumers.errors import ConsumerError, Fenced, GroupLost, GroupUnavailable, StreamRefused
from consumers.shell import group as module
from consumers.shell.group import Group, GroupState, Leaving, Served, Serving, TakenOver
from consumers.shell.membership import Holding, Membership, look_at_sharing
from tvbus.doctor.look_bus import CONNECTING, consuming

KEY = "tv:bars:{BTCUSDT-BINANCE-1m}"
OTHER = "tv:bars:{ETHUSDT-BINANCE-1m}"


class Stream:
    """One stream, members that read it for a group, and what the server says of it."""

    def __init__(self, market: Market) -> None:
        self.client = market.client
        self.reader = connect_reader(market.url)
        self.keys = market.keys
        self.add(1, 6)

    def add(self, first: int, last: int, key: str = KEY) -> None:
        """Entries with these numbers as IDs."""
        for number in range(first, last + 1):
            self.client.xadd(key, {"n": number}, id=f"{number}-0")

    def member(self, name: str, token: int | None = None) -> Group:
        """A member; with a token it has taken the stream over."""
        group = Group(self.reader, self.keys, "g", name)
        if token is not None:
            assert group.create({KEY: ZERO})[KEY] in {True, False}
            assert isinstance(group.take_over({KEY: token})[KEY], TakenOver)
        return group

    def pending(self) -> dict[int, tuple[str, int]]:
        """ID → (consumer, deliveries)."""
        lines: Any = self.client.xpending_range(KEY, "g", "-", "+", 1_000)
        return {
            int(x["message_id"].split(b"-")[0]): (x["consumer"].decode(), x["times_delivered"])
            for x in lines
        }

    def consumers(self) -> set[str]:
        return {x["name"].decode() for x in self.client.xinfo_consumers(KEY, "g")}


@pytest.fixture
def stream(market: Market) -> Iterator[Stream]:
    made = Stream(market)
    yield made
    made.reader.close()


def ids(*numbers: int) -> list[EntryId]:
    return [EntryId(x) for x in numbers]


def read(group: Group, token: int, count: int = 10, **options: Any) -> list[int]:
    """Serve; return the numbers that came."""
    [served] = group.serve([Serving(KEY, token, count=count, **options)])
    assert isinstance(served, Served), served
    assert all(fields in ({b"n": b"%d" % entry.ms}, {}) for entry, fields in served.entries)
    return [entry.ms for entry, _ in served.entries]


def refused(call: Callable[[], Any]) -> ConsumerError:
    """What a call says is wrong with the one stream."""
    try:
        [outcome] = call()
    except ConsumerError as error:
        return error
    assert isinstance(outcome, ConsumerError), outcome
    return outcome


def test_the_holder_acknowledges_and_reads_on(stream: Stream) -> None:
    one = stream.member("a", 1)
    assert read(one, 1, count=4) == [1, 2, 3, 4]
    assert read(one, 1, acks=ids(1, 2)) == [5, 6]
    assert read(one, 1, acks=ids(3)) == []
    assert set(stream.pending()) == {4, 5, 6}
    assert read(one, 1, count=0, acks=ids(4)) == []
    stream.add(7, 7)
    assert read(one, 1, count=0) == []
    assert set(stream.pending()) == {5, 6}


ACTIONS: dict[str, Callable[[Group, int], Any]] = {
    "read": lambda group, token: group.serve([Serving(KEY, token, count=3)]),
    "pending": lambda group, token: group.serve([Serving(KEY, token, cursor=ZERO, count=3)]),
    "acknowledge": lambda group, token: group.serve([Serving(KEY, token, ids(1))]),
    "retry": lambda group, token: [group.raise_attempt(KEY, token, EntryId(1))],
    "hand over": lambda group, token: group.hand_over([Leaving(KEY, token, ids(1))]),
    "take over": lambda group, token: group.take_over({KEY: token}).values(),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("heir_token", [8, 9])
def test_whoever_was_replaced_can_do_nothing_more(
    stream: Stream, action: str, heir_token: int
) -> None:
    stale = stream.member("a", 7)
    assert read(stale, 7, count=3) == [1, 2, 3]
    stream.member("b", heir_token)
    before = stream.pending()
    stream.client.script_flush()
    error = refused(lambda: ACTIONS[action](stale, 7))
    assert isinstance(error, Fenced)
    assert error.token == heir_token
    assert not error.retryable
    assert stream.pending() == before
    assert stream.consumers() == {f"b#{heir_token}"}
    assert stream.member("b").serve([Serving(KEY, heir_token, count=9)]) != []


def test_a_token_that_somebody_else_has_is_not_enough(stream: Stream) -> None:
    """After a flush of the group's keys the counter begins anew."""
    stream.member("a", 7)
    outcome = refused(lambda: stream.member("b").take_over({KEY: 7}).values())
    assert isinstance(outcome, Fenced)
    assert outcome.token == 7
    assert stream.consumers() == {"a#7"}


@pytest.mark.parametrize("action", [x for x in ACTIONS if x != "take over"])
@pytest.mark.parametrize("loss", ["stream", "group", "remade", "never"])
def test_a_group_that_is_not_the_one_taken_over_is_lost(
    stream: Stream, action: str, loss: str
) -> None:
    one = stream.member("a", None if loss == "never" else 1)
    if loss == "stream":
        stream.client.delete(KEY)
    elif loss in {"group", "remade"}:
        stream.client.xgroup_destroy(KEY, "g")
    if loss == "remade":
        stream.client.xgroup_create(KEY, "g", "3")
    error = refused(lambda: ACTIONS[action](one, 1))
    assert isinstance(error, GroupLost)
    assert error.retryable
    if loss == "remade":
        assert stream.consumers() == set()


def test_what_was_lost_is_made_again_where_it_shall_be(stream: Stream) -> None:
    one = stream.member("a", 1)
    stream.client.delete(KEY)
    assert isinstance(refused(lambda: one.take_over({KEY: 1}).values()), GroupLost)
    assert one.create({KEY: EntryId(3)}) == {KEY: True}
    assert one.create({KEY: EntryId(5)}) == {KEY: False}
    taken = one.take_over({KEY: 1})[KEY]
    assert taken == TakenOver(EntryId(3), EntryId(3), 0, ())
    stream.add(1, 6)
    assert read(one, 1) == [4, 5, 6]


@pytest.mark.parametrize("action", ACTIONS)
def test_a_key_that_is_no_stream_is_refused_by_name(stream: Stream, action: str) -> None:
    one = stream.member("a", 1)
    stream.client.delete(KEY)
    stream.client.set(KEY, "x")
    error = refused(lambda: ACTIONS[action](one, 1))
    assert isinstance(error, StreamRefused)
    assert str(error) == f"key {KEY} holds a string, not a stream: rename or delete it"
    assert isinstance(one.create({KEY: ZERO})[KEY], StreamRefused)


def test_one_stream_in_trouble_does_not_hinder_the_others(stream: Stream) -> None:
    one = stream.member("a", 3)
    stream.add(1, 2, OTHER)
    taken = one.take_over({OTHER: 4, KEY: 3, "nowhere": 5})
    assert [type(x) for x in taken.values()] == [GroupLost, TakenOver, GroupLost]
    one.create({OTHER: ZERO})
    one.take_over({OTHER: 4})
    served = one.serve(
        [Serving("nowhere", 5, count=1), Serving(OTHER, 4, count=1), Serving(KEY, 2, count=1)]
    )
    assert [type(x) for x in served] == [GroupLost, Served, Fenced]
    left = one.hand_over([Leaving("nowhere", 5), Leaving(OTHER, 4, ids(1))])
    assert [type(x) for x in left] == [GroupLost, type(None)]


def test_a_take_over_brings_all_that_others_have_pending(stream: Stream) -> None:
    stream.client.xgroup_create(KEY, "g", "0")
    for name, count in (("b#5", 2), ("plain", 1), ("a#6", 1), ("idle", 0)):
        stream.client.xgroup_createconsumer(KEY, "g", name)
        if count:
            stream.client.xreadgroup("g", name, {KEY: ">"}, count=count)
    stream.client.xclaim(KEY, "g", "plain", 0, ["3-0"])
    taken = stream.member("a").take_over({KEY: 7})[KEY]
    assert taken == TakenOver(EntryId(1).before(), EntryId(4), 4, ())
    assert stream.consumers() == {"a#7"}
    # Only the lowest may have been at a handler.
    assert stream.pending() == {n: ("a#7", 2 if n in {1, 3} else 1) for n in range(1, 5)}


def test_a_take_over_that_is_repeated_counts_once(stream: Stream) -> None:
    read(stream.member("b", 1), 1)
    one = stream.member("a", 2)
    before = stream.pending()
    again = one.take_over({KEY: 2})[KEY]
    assert again == TakenOver(EntryId(1).before(), EntryId(6), 0, ())
    assert stream.pending() == before
    assert before[1] == ("a#2", 2)


def test_a_take_over_goes_in_portions(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    stream.add(7, 9)
    stream.client.xgroup_create(KEY, "g", "0")
    for name, count in (("b#1", 4), ("c#2", 5)):
        stream.client.xreadgroup("g", name, {KEY: ">"}, count=count)
    stream.client.xdel(KEY, "3-0")
    taken = stream.member("a").take_over({KEY: 3})[KEY]
    assert taken == TakenOver(EntryId(1).before(), EntryId(9), 8, (EntryId(3),))
    assert stream.consumers() == {"a#3"}
    assert {n: count for n, (_, count) in stream.pending().items() if count != 1} == {1: 2}


def test_more_than_so_many_portions_are_not_taken_over_at_once(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    monkeypatch.setattr(module, "PORTIONS_MAX", 2)
    read(stream.member("b", 1), 1)
    one = stream.member("a")
    assert isinstance(one.take_over({KEY: 2})[KEY], GroupUnavailable)
    taken = one.take_over({KEY: 2})[KEY]
    assert isinstance(taken, TakenOver)
    assert taken.position == EntryId(1).before()


def test_pending_entries_that_were_trimmed_are_told_and_acknowledged(stream: Stream) -> None:
    read(stream.member("b", 1), 1)
    stream.client.xdel(KEY, "1-0", "2-0", "5-0")
    taken = stream.member("a").take_over({KEY: 2})[KEY]
    assert taken == TakenOver(EntryId(3).before(), EntryId(6), 3, tuple(ids(1, 2, 5)))
    assert stream.pending() == {3: ("a#2", 2), 4: ("a#2", 1), 6: ("a#2", 1)}


def test_own_ones_that_were_trimmed_meanwhile_are_told_too(stream: Stream) -> None:
    one = stream.member("a", 1)
    read(one, 1, count=3)
    stream.client.xdel(KEY, "1-0", "2-0")
    stream.client.xreadgroup("g", "somebody", {KEY: ">"}, count=1)
    taken = one.take_over({KEY: 1})[KEY]
    assert taken == TakenOver(EntryId(3).before(), EntryId(4), 1, tuple(ids(1, 2)))
    assert stream.pending() == {3: ("a#1", 2), 4: ("a#1", 1)}


def test_a_stream_of_which_nothing_is_left_can_be_taken_over(stream: Stream) -> None:
    read(stream.member("b", 1), 1)
    stream.client.xtrim(KEY, maxlen=0, approximate=False)
    taken = stream.member("a").take_over({KEY: 2})[KEY]
    assert taken == TakenOver(EntryId(6), EntryId(6), 0, tuple(ids(1, 2, 3, 4, 5, 6)))
    assert stream.pending() == {}


def test_own_pending_entries_come_again_in_order_and_uncounted(stream: Stream) -> None:
    one = stream.member("a", 1)
    read(one, 1)
    assert one.raise_attempt(KEY, 1, EntryId(2)) == 2
    stream.client.xdel(KEY, "4-0")
    before = stream.pending()
    [served] = one.serve([Serving(KEY, 1, cursor=ZERO, count=3)])
    assert isinstance(served, Served)
    assert served == Served(
        [(EntryId(n), {b"n": b"%d" % n}) for n in (1, 2, 3)], attempts={EntryId(2): 2}
    )
    assert read(one, 1, cursor=EntryId(3), acks=ids(1)) == [4, 5, 6]
    [served] = one.serve([Serving(KEY, 1, cursor=EntryId(3), count=1)])
    assert isinstance(served, Served)
    assert served.entries == [(EntryId(4), {})]
    assert read(one, 1, cursor=EntryId(6)) == []
    assert stream.pending() == {n: x for n, x in before.items() if n != 1}


def test_attempts_are_counted_by_the_server_over_take_overs(stream: Stream) -> None:
    one = stream.member("a", 1)
    read(one, 1, count=2)
    assert [one.raise_attempt(KEY, 1, EntryId(1)) for _ in range(2)] == [2, 3]
    other = stream.member("b", 2)
    assert other.raise_attempt(KEY, 2, EntryId(1)) == 5
    assert other.raise_attempt(KEY, 2, EntryId(6)) == 0, "nobody has it yet"
    read(other, 2, count=0, acks=ids(1))
    assert other.raise_attempt(KEY, 2, EntryId(1)) == 0


def test_what_no_handler_had_is_handed_over_as_new(stream: Stream) -> None:
    one = stream.member("a", 1)
    read(one, 1, count=4)
    assert one.hand_over([Leaving(KEY, 1, ids(1, 2))]) == [None]
    assert stream.pending() == {3: ("a#1", 0), 4: ("a#1", 1)}
    for token in range(2, 9):
        heir = stream.member("b", token)
        [served] = heir.serve([Serving(KEY, token, cursor=ZERO, count=9)])
        assert served == Served([(EntryId(n), {b"n": b"%d" % n}) for n in (3, 4)])
        assert heir.hand_over([Leaving(KEY, token)]) == [None]
        assert heir.hand_over([Leaving(KEY, token)]) == [None], "the reply was lost"


def test_what_a_handler_had_is_handed_over_as_tried(stream: Stream) -> None:
    one = stream.member("a", 1)
    read(one, 1, count=2)
    assert one.hand_over([Leaving(KEY, 1, untouched=False)]) == [None]
    [served] = stream.member("b", 2).serve([Serving(KEY, 2, cursor=ZERO, count=9)])
    assert isinstance(served, Served)
    assert served.attempts == {EntryId(1): 2}


def test_a_trimmed_entry_left_behind_is_still_told_to_the_next(stream: Stream) -> None:
    one = stream.member("a", 1)
    read(one, 1, count=2)
    stream.client.xdel(KEY, "1-0")
    assert one.hand_over([Leaving(KEY, 1)]) == [None]
    taken = stream.member("b").take_over({KEY: 2})[KEY]
    assert isinstance(taken, TakenOver)
    assert taken.trimmed == (EntryId(1),)


def test_who_left_cleanly_still_stands_for_the_fence(stream: Stream) -> None:
    stream.member("a", 5).hand_over([Leaving(KEY, 5)])
    error = refused(lambda: stream.member("b").take_over({KEY: 4}).values())
    assert isinstance(error, Fenced)


def test_where_a_group_stands_can_be_seen_without_taking_it_over(stream: Stream) -> None:
    one = stream.member("a", 1)
    read(one, 1, count=4)
    read(one, 1, count=0, acks=ids(1, 2))
    stream.client.set("no-stream", "x")
    state, nobody, nothing, refusal = one.look([KEY, OTHER, "nowhere", "no-stream"])
    assert state == GroupState(EntryId(3).before(), EntryId(4))
    assert nobody is None
    assert nothing is None
    assert isinstance(refusal, StreamRefused)
    read(one, 1, count=0, acks=ids(3, 4))
    assert one.look([KEY]) == [GroupState(EntryId(4), EntryId(4))]
    assert one.start_position(KEY, Start.parse("last:2")) == EntryId(4)
    stream.client.xgroup_destroy(KEY, "g")
    assert one.look([KEY]) == [None]


def test_checkpoints_are_kept_by_the_holder_of_the_lease(stream: Stream) -> None:
    names = ["A-X-1m", "B-X-1m"]
    one = stream.member("a")
    leases = Membership(stream.reader, stream.keys, "g", "a").beat(names, {}, 0).leases
    one.save_checkpoints(dict.fromkeys(names, EntryId(9)), leases)
    assert one.checkpoints([*names, "C-X-1m"]) == dict.fromkeys(names, EntryId(9))
    one.save_checkpoints({names[0]: EntryId(8)}, leases)
    stale = {name: token - 1 for name, token in leases.items()}
    one.save_checkpoints({names[1]: EntryId(8)}, stale)
    stream.member("b").save_checkpoints({names[1]: EntryId(7)}, leases)
    assert one.checkpoints(names) == {names[0]: EntryId(8), names[1]: EntryId(9)}
    assert one.checkpoints([]) == {}


def test_a_checkpoint_that_nobody_holds_only_rises(stream: Stream) -> None:
    one = stream.member("a")
    for position, kept in [
        (EntryId(5, 3), EntryId(5, 3)),
        (EntryId(5, 2), EntryId(5, 3)),
        (EntryId(5, 4), EntryId(5, 4)),
        (EntryId(4, 9), EntryId(5, 4)),
        (EntryId(10, 0), EntryId(10, 0)),
        (EntryId(11, 0).before(), EntryId(11, 0).before()),
        (EntryId(11, 0), EntryId(11, 0)),
    ]:
        one.save_checkpoints({"A-X-1m": position}, {})
        assert one.checkpoints(["A-X-1m"]) == {"A-X-1m": kept}


def test_a_checkpoint_in_a_key_that_holds_something_else_is_told(stream: Stream) -> None:
    stream.client.set(stream.keys.group("g", "checkpoints"), "x")
    one = stream.member("a")
    for call in (
        lambda: one.save_checkpoints({"A-X-1m": EntryId(1)}, {}),
        lambda: one.checkpoints(["A-X-1m"]),
    ):
        with pytest.raises((StreamRefused, GroupUnavailable), match="WRONGTYPE"):
            call()


def test_scripts_that_the_server_forgot_are_loaded_again(stream: Stream) -> None:
    one = stream.member("a", 1)
    stream.add(1, 3, OTHER)
    one.create({OTHER: ZERO})
    one.take_over({OTHER: 1})
    stream.client.script_flush()
    served = one.serve([Serving(KEY, 1, count=2), Serving(OTHER, 1, count=2)])
    assert [[entry.ms for entry, _ in x.entries] for x in served if isinstance(x, Served)] == [
        [1, 2],
        [1, 2],
    ]


@dataclass
class Model:
    """What one stream of a group should be: kept by this test alone."""

    entries: list[int] = field(default_factory=list)
    delivered: int = 0
    ruler: tuple[str, int] = ("", 0)
    pending: dict[int, list[Any]] = field(default_factory=dict)
    """ID → [consumer, deliveries]."""

    def rules(self, name: str, token: int) -> bool:
        return (name, token) == self.ruler

    def take_over(self, name: str, token: int) -> None:
        changes = not self.rules(name, token)
        self.ruler = (name, token)
        if not changes:
            return
        self.pending = {n: x for n, x in self.pending.items() if n in self.entries}
        for line in self.pending.values():
            line[0] = f"{name}#{token}"
        if self.pending:
            self.pending[min(self.pending)][1] += 1

    def read(self, count: int) -> list[int]:
        new = [n for n in self.entries if n > self.delivered][:count]
        for number in new:
            self.pending[number] = [f"{self.ruler[0]}#{self.ruler[1]}", 1]
            self.delivered = number
        return new


@pytest.mark.parametrize("seed", range(10))
def test_whatever_members_try_only_the_highest_token_has_effect(stream: Stream, seed: int) -> None:
    rng = random.Random(seed)
    model = Model(entries=list(range(1, 7)))
    members = {name: stream.member(name) for name in "abc"}
    members["a"].create({KEY: ZERO})
    highest_id, tokens = 6, 0
    known: list[tuple[str, int]] = []
    for _ in range(200):
        what = rng.choice(
            ["token", "over", "read", "read", "read", "ack", "ack", "retry", "more", "trim"]
        )
        name, token = rng.choice(known[-3:]) if known else ("a", 0)
        group, rules = members[name], model.rules(name, token)
        if what == "token":
            tokens += 1
            known.append((rng.choice("abc"), tokens))
        elif what == "more":
            stream.add(highest_id + 1, highest_id + 3)
            model.entries += range(highest_id + 1, highest_id + 4)
            highest_id += 3
        elif what == "trim":
            gone = rng.sample(model.entries, min(2, len(model.entries)))
            stream.client.xdel(KEY, "0-1", *(f"{n}-0" for n in gone))
            model.entries = [n for n in model.entries if n not in gone]
            stream.client.script_flush()
        elif not token:
            continue
        elif what == "over":
            outcome = group.take_over({KEY: token})[KEY]
            if token < model.ruler[1]:
                assert isinstance(outcome, Fenced)
                assert outcome.token == model.ruler[1]
            else:
                model.take_over(name, token)
                assert isinstance(outcome, TakenOver)
                assert outcome.delivered == EntryId(model.delivered)
                if model.pending:
                    assert outcome.position == EntryId(min(model.pending)).before()
        elif what == "retry":
            number = rng.choice(list(model.pending) or [1])
            if number in model.pending and number not in model.entries:
                continue
            try:
                attempt = group.raise_attempt(KEY, token, EntryId(number))
            except (Fenced, GroupLost):
                assert not rules
                continue
            assert rules
            if number in model.pending:
                model.pending[number][1] += 1
                assert attempt == model.pending[number][1]
            else:
                assert attempt == 0
        else:
            acks = rng.sample(list(model.pending), min(2, len(model.pending)))
            count = 2 if what == "read" else 0
            [served] = group.serve([Serving(KEY, token, [EntryId(n) for n in acks], None, count)])
            assert isinstance(served, Served) == rules
            if isinstance(served, Served):
                model.pending = {n: x for n, x in model.pending.items() if n not in acks}
                assert [entry.ms for entry, _ in served.entries] == model.read(count)
        assert stream.pending() == {n: tuple(x) for n, x in model.pending.items()}
    assert model.delivered > 15
    assert model.ruler[1] > 3


def test_no_more_rights_are_needed_than_the_doctor_asks_about(
    stream: Stream, market: Market
) -> None:
    names = [x.lower().replace(" ", "|") for x in (*CONNECTING, *consuming(market.keys))]
    rights = ["~tv:*", "-@all", *(f"+{x}" for x in names)]
    market.client.execute_command("ACL", "SETUSER", "con", "on", ">hush", *rights)
    market.client.execute_command("ACL", "LOG", "RESET")
    client = connect_reader(market.url.replace("unix://", "unix://con:hush@"))
    membership = Membership(client, market.keys, "g", "a")
    market.client.hset(market.keys.group("g", "replays"), "1-0", "A-X-1m")
    leases = membership.beat(["A-X-1m"], {}, 0).leases
    one = Group(client, market.keys, "g", "a")
    assert one.look([KEY]) == [None]
    assert one.create({KEY: one.start_position(KEY, Start.parse("oldest"))}) == {KEY: True}
    one.take_over({KEY: 1})
    assert read(one, 1) == [1, 2, 3, 4, 5, 6]
    market.client.xdel(KEY, "2-0")
    assert isinstance(one.take_over({KEY: 2})[KEY], TakenOver)
    assert read(one, 2, cursor=ZERO, acks=ids(1)) == [3, 4, 5, 6]
    assert one.raise_attempt(KEY, 2, EntryId(3)) == 2
    assert one.wait({KEY: EntryId(6)}, 0) == set()
    one.save_checkpoints({"A-X-1m": EntryId(1), "B-X-1m": EntryId(1)}, leases)
    assert one.checkpoints(["A-X-1m"]) == {"A-X-1m": EntryId(1)}
    assert one.hand_over([Leaving(KEY, 2)]) == [None]
    assert look_at_sharing(client, market.keys, "g").leases == {"A-X-1m": Holding("a", 1)}
    market.client.set("tv:x", "x")
    assert isinstance(refused(lambda: one.take_over({"tv:x": 1}).values()), StreamRefused)
    assert isinstance(refused(lambda: one.take_over({"tv:y": 1}).values()), GroupLost)
    membership.leave()
    one.close()
    client.close()
    seen = {entry["object"].lower() for entry in market.client.acl_log()}
    assert seen <= {"client|setinfo"}
    market.client.acl_deluser("con")
