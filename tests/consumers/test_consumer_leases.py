"""Who of a group holds what: shared evenly, kept where it can be, by two at no time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
import redis
from consumer_world import Market, Server

from bus.connection import connect_reader
from consumers.core.standing import EVENTS_NAME, Standing
from consumers.errors import GroupUnavailable, NameTaken, StreamRefused
from consumers.shell import membership
from consumers.shell.membership import (
    REPLAYS_MAX,
    SOON_MS,
    Holding,
    Membership,
    look_at_sharing,
)
from tests.waiting import eventually

NAMES = [f"S{number:02}-X-1m" for number in range(12)]
LEASE_MS = 5_000
BEAT_MS = LEASE_MS // 5
ROUNDS_MAX = 30
"""A group that nobody joins or leaves is settled after so many beats of each member."""


class Sharers:
    """Members of one group as the tests move them; time passes for them by command."""

    def __init__(self, market: Market) -> None:
        self.client = market.client
        self.reader = connect_reader(market.url)
        self.keys = market.keys
        self.members: dict[str, Member] = {}

    def join(self, name: str, wants: Iterable[str]) -> Member:
        """A new process."""
        shell = Membership(self.reader, self.keys, "g", name, LEASE_MS)
        self.members[name] = Member(name, shell, set(wants))
        return self.members[name]

    def alive(self) -> list[Member]:
        """Who has not stopped and was not stalled for longer than its lease."""
        return [x for x in self.members.values() if not x.stalled]

    def pass_time(self, member: Member, ms: int) -> None:
        """Let so much time pass since this member's last beat, for the server too."""
        key = self.keys.group("g", "members")
        record = self.client.hget(key, member.name)
        if record is not None:
            expires, due, rest = record.split(b" ", 2)
            moved = b"%d %d %b" % (int(expires) - ms, int(due) - ms, rest)
            self.client.hset(key, member.name, moved)
        member.stalled = member.stalled or ms >= LEASE_MS

    def stall(self, member: Member) -> None:
        """Let it sleep for longer than its lease."""
        self.pass_time(member, LEASE_MS + 1)

    def stop(self, member: Member) -> None:
        """A clean stop."""
        member.shell.leave()
        del self.members[member.name]

    def settle(self) -> dict[str, str]:
        """Beat until nothing changes any more; return who holds what."""
        before: dict[str, str] = {}
        for _ in range(ROUNDS_MAX):
            for member in self.alive():
                member.beat()
            holders = self.holders()
            if holders == before and not any(x.standing.handing_over for x in self.alive()):
                return holders
            before = holders
        raise AssertionError(f"not settled after {ROUNDS_MAX} rounds: {before}")

    def holders(self) -> dict[str, str]:
        """Who holds what, by what the living members believe; fails where two hold one."""
        found: dict[str, str] = {}
        for member in self.alive():
            for name in member.standing.leases:
                assert name not in found, f"{name}: {found[name]} and {member.name}"
                found[name] = member.name
        return found


@dataclass
class Member:
    """A process: it gives back what it is told to as soon as no handler has it."""

    name: str
    shell: Membership
    wants: set[str]
    busy: set[str] = field(default_factory=set)
    """A handler has a bar of these."""
    stalled: bool = False
    standing: Standing = field(
        default_factory=lambda: Standing({}, frozenset(), 0, 0, 0, {}),
    )

    def beat(self, floor: int = 0) -> Standing:
        free = self.standing.handing_over - self.busy
        released = {name: self.standing.leases[name] for name in free}
        self.standing = self.shell.beat(self.wants, released, 0, floor)
        self.stalled = False
        return self.standing

    @property
    def held(self) -> set[str]:
        return set(self.standing.leases)


@pytest.fixture
def group(market: Market) -> Iterable[Sharers]:
    sharers = Sharers(market)
    yield sharers
    sharers.reader.close()


def fewest_moves(shares: list[int]) -> int:
    """How many names must move so that these shares and a new one differ by one at most."""
    each, more = divmod(sum(shares), len(shares) + 1)
    targets = [each + (place < more) for place in range(len(shares))]
    pairs = zip(sorted(shares, reverse=True), targets, strict=True)
    return sum(max(0, share - target) for share, target in pairs)


def check_shares(group: Sharers) -> None:
    """Everything wanted is held by one that wants it, and no single move would be fairer."""
    alive = group.alive()
    holders = group.holders()
    assert set(holders) == set().union(*(x.wants for x in alive))
    shares = Counter(holders.values())
    for member in alive:
        for other in alive:
            assert member.held <= member.wants
            if member.held & other.wants:
                assert shares[member.name] - shares[other.name] <= 1


def test_a_lone_member_holds_all_it_wants_each_by_a_token_of_its_own(group: Sharers) -> None:
    standing = group.join("a", [*NAMES, EVENTS_NAME]).beat()
    assert set(standing.leases) == {*NAMES, EVENTS_NAME}
    assert sorted(standing.leases.values()) == list(range(1, len(NAMES) + 2))
    assert standing.members == 1
    assert standing.handing_over == frozenset()
    assert standing.again_ms == BEAT_MS


def test_a_lease_holds_from_the_moment_the_beat_was_sent(group: Sharers) -> None:
    standing = group.join("a", NAMES).shell.beat(NAMES, {}, 7_000)
    assert standing.valid_until_ms == 7_000 + LEASE_MS


@pytest.mark.parametrize("seed", range(12))
def test_however_members_come_and_go_a_name_has_one_holder_and_shares_become_even(
    group: Sharers, seed: int
) -> None:
    rng = random.Random(seed)
    steps = ["join", *["beat"] * 4, "stall", "stop", "want", "scripts", "forget"]
    serial = 0
    granted: dict[int, str] = {}
    for _ in range(60):
        members = list(group.members.values())
        what = rng.choice(steps)
        one = rng.choice(members) if members else None
        if what == "join" and len(members) < 5:
            serial += 1
            wants = NAMES if rng.random() < 0.5 else rng.sample(NAMES, rng.randint(0, 8))
            one = group.join(f"m{serial}", wants)
            one.beat()
        elif one is None:
            continue
        elif what == "beat":
            one.busy = {name for name in one.held if rng.random() < 0.3}
            one.beat()
        elif what == "stall":
            group.stall(one)
        elif what == "stop":
            group.stop(one)
            one = None
        elif what == "want":
            one.wants = set(rng.sample(NAMES, rng.randint(0, len(NAMES))))
        elif what == "scripts":
            group.client.script_flush()
        elif what == "forget":
            # Nobody can tell who held what: until all have beaten, only the streams' fence helps.
            group.client.flushall()
            granted.clear()
            for member in group.alive():
                member.beat()
        if one is not None and not one.stalled:
            for name, token in one.standing.leases.items():
                assert granted.setdefault(token, f"{name} {one.name}") == f"{name} {one.name}"
        group.holders()
    for member in group.alive():
        member.busy.clear()
    if group.alive():
        settled = group.settle()
        check_shares(group)
        tokens = [x.standing.leases for x in group.alive()]
        assert group.settle() == settled
        assert [x.standing.leases for x in group.alive()] == tokens


@pytest.mark.parametrize(("members", "names"), [(1, 12), (2, 11), (3, 12), (4, 7), (5, 3), (3, 10)])
def test_one_that_comes_gets_its_share_and_nothing_else_moves(
    group: Sharers, members: int, names: int
) -> None:
    for number in range(members):
        group.join(f"m{number}", NAMES[:names])
    before = group.settle()
    shares = Counter(before.values())
    must = fewest_moves([shares[f"m{number}"] for number in range(members)])
    group.join("late-comer", NAMES[:names])
    after = group.settle()
    check_shares(group)
    moved = {name for name in before if before[name] != after[name]}
    assert len(moved) == must
    assert {after[name] for name in moved} <= {"late-comer"}


@pytest.mark.parametrize("ending", ["stop", "stall"])
def test_one_that_goes_leaves_its_names_and_the_others_keep_theirs(
    group: Sharers, ending: str
) -> None:
    for name in "abcd":
        group.join(name, NAMES)
    before = group.settle()
    goes = group.members["b"]
    getattr(group, ending)(goes)
    after = group.settle()
    check_shares(group)
    assert {name for name in NAMES if before[name] != after[name]} == goes.held


def test_many_that_come_at_once_share_evenly_after_few_beats(group: Sharers) -> None:
    group.join("first", NAMES).beat()
    for number in range(3):
        group.join(f"m{number}", NAMES).beat()
    first, *others = group.alive()
    first.beat()
    first.beat()
    for member in others:
        member.beat()
    assert [len(x.held) for x in group.alive()] == [3, 3, 3, 3]


def test_a_name_at_a_handler_stays_until_it_is_given_back(group: Sharers) -> None:
    one = group.join("a", NAMES[:2])
    one.beat()
    one.busy = set(NAMES)
    other = group.join("b", NAMES[:2])
    assert other.beat().again_ms == SOON_MS
    for _ in range(3):
        assert len(one.beat().handing_over) == 1
        assert one.standing.again_ms == SOON_MS
        assert other.beat().leases == {}
        assert other.standing.again_ms == SOON_MS
    group.pass_time(one, BEAT_MS + LEASE_MS // 20 + 200)
    assert other.beat().again_ms == BEAT_MS, "it may never give it back"
    moving = set(one.beat().handing_over)
    one.busy.clear()
    assert one.beat().handing_over == frozenset()
    assert set(other.beat().leases) == moving
    assert {one.beat().again_ms, other.beat().again_ms} == {BEAT_MS}


def test_a_name_is_kept_after_all_where_the_other_one_goes_again(group: Sharers) -> None:
    one = group.join("a", NAMES)
    one.beat()
    one.busy = set(NAMES)
    other = group.join("b", NAMES)
    other.beat()
    tokens = one.standing.leases
    assert len(one.beat().handing_over) == 6
    group.stop(other)
    assert one.beat().handing_over == frozenset()
    assert one.standing.leases == tokens


def test_what_is_not_wanted_any_more_is_handed_over(group: Sharers) -> None:
    one = group.join("a", NAMES[:4])
    one.beat()
    one.wants = set(NAMES[:3])
    assert one.beat().handing_over == {NAMES[3]}
    assert NAMES[3] in one.held
    assert set(one.beat().leases) == set(NAMES[:3])


def test_a_release_counts_for_the_lease_it_was_meant_for_only(group: Sharers) -> None:
    one = group.join("a", NAMES[:1])
    [token] = one.beat().leases.values()
    again = one.shell.beat(NAMES[:1], {NAMES[0]: token - 1}, 0)
    assert again.leases == {NAMES[0]: token}
    again = one.shell.beat(NAMES[:1], {NAMES[0]: token}, 0)
    assert again.leases == {NAMES[0]: token + 1}


def test_a_member_that_slept_alone_keeps_everything(group: Sharers) -> None:
    one = group.join("a", NAMES)
    before = one.beat().leases
    group.stall(one)
    assert one.beat().leases == before


def test_a_member_that_slept_loses_what_others_took(group: Sharers) -> None:
    one = group.join("a", NAMES)
    one.beat()
    group.stall(one)
    other = group.join("b", NAMES[:4])
    assert set(other.beat().leases) == set(NAMES[:4])
    assert set(one.beat().leases) == set(NAMES[4:])
    assert min(other.standing.leases.values()) > max(one.standing.leases.values())


def test_a_member_late_with_its_beat_keeps_its_names_and_is_given_none(group: Sharers) -> None:
    one, other = group.join("a", NAMES[:6]), group.join("b", NAMES)
    one.beat()
    other.beat()
    assert group.settle() == {name: "a" if number < 6 else "b" for number, name in enumerate(NAMES)}
    gone = group.join("c", NAMES[:6])
    gone.beat()
    group.pass_time(gone, BEAT_MS + LEASE_MS // 20 + 200)
    assert one.beat().handing_over == frozenset(), "it may never come for them"
    group.pass_time(one, BEAT_MS + LEASE_MS // 20 + 200)
    other.wants = set(NAMES)
    assert set(other.beat().leases) == set(NAMES[6:])


def test_a_clock_that_is_put_back_keeps_no_dead_member(group: Sharers) -> None:
    gone, heir = group.join("a", NAMES), group.join("b", NAMES)
    group.settle()
    group.pass_time(gone, -3_600_000)
    heir.beat()
    group.pass_time(gone, LEASE_MS + 1)
    assert set(heir.beat().leases) == set(NAMES)


def test_members_of_one_group_may_have_leases_of_different_length(group: Sharers) -> None:
    Membership(group.reader, group.keys, "g", "patient", 20 * LEASE_MS).beat(NAMES, {}, 0)
    record = group.client.hget(group.keys.group("g", "members"), "patient")
    eventually(lambda: look_at_sharing(group.reader, group.keys, "g").members["patient"] < 99_990)
    group.join("hasty", []).beat()
    assert group.client.hget(group.keys.group("g", "members"), "patient") == record


def test_two_that_die_together_cost_no_more_than_one(group: Sharers) -> None:
    for name in "abc":
        group.join(name, NAMES)
    group.settle()
    one, other, last = group.alive()
    group.stall(one)
    group.pass_time(other, BEAT_MS + LEASE_MS // 20 + 200)
    assert set(last.beat().leases) == set(NAMES) - other.held


def test_the_next_beat_comes_when_it_is_needed(group: Sharers) -> None:
    one, other = group.join("a", NAMES), group.join("b", NAMES)
    group.settle()
    assert one.beat().again_ms == BEAT_MS
    group.pass_time(other, LEASE_MS - 300)
    assert 200 < one.beat().again_ms <= 301, "when the other one expires"
    group.stall(other)
    assert one.beat().again_ms == BEAT_MS
    assert one.held == set(NAMES)


def test_what_nobody_comes_for_is_looked_after_as_soon_as_that_shows(group: Sharers) -> None:
    for name in "abc":
        group.join(name, NAMES)
    group.settle()
    one, other, gone = group.alive()
    group.stall(gone)
    one.beat()
    missing = set(NAMES) - one.held - other.held
    assert missing
    # The other one promised its next beat within BEAT_MS of its last.
    assert one.standing.again_ms <= BEAT_MS
    group.pass_time(other, BEAT_MS - 100)
    assert one.beat().again_ms <= 100 + LEASE_MS // 20 + 1
    group.pass_time(other, LEASE_MS // 20 + 200)
    assert set(one.beat().leases) == set(NAMES) - other.held


def test_tokens_rise_above_the_floor_that_is_asked_for(group: Sharers) -> None:
    one = group.join("a", NAMES[:2])
    before = one.beat().leases
    again = one.shell.beat(NAMES[:2], {NAMES[0]: before[NAMES[0]]}, 0, 100)
    assert again.leases == {NAMES[0]: 101, NAMES[1]: before[NAMES[1]]}
    assert one.shell.beat(NAMES[:3], {}, 0).leases[NAMES[2]] == 102


def test_tokens_of_a_member_do_not_fall_though_everything_is_flushed(group: Sharers) -> None:
    one = group.join("a", NAMES)
    one.beat()
    highest = max(one.beat(floor=40).leases.values())
    group.client.flushall()
    group.client.script_flush()
    assert min(one.beat().leases.values()) > highest


def test_a_process_that_comes_again_begins_with_new_tokens_at_once(group: Sharers) -> None:
    old = group.join("a", NAMES)
    before = old.beat().leases
    new = group.join("a", NAMES)
    after = new.beat().leases
    assert set(after) == set(NAMES)
    assert min(after.values()) > max(before.values())
    assert new.beat().leases == after


def test_also_where_the_group_had_forgotten_the_one_before(group: Sharers) -> None:
    old = group.join("a", NAMES)
    before = old.beat().leases
    group.stall(old)
    group.join("b", []).beat()
    assert group.client.hexists(group.keys.group("g", "members"), "a") is False
    after = group.join("a", NAMES).beat().leases
    assert min(after.values()) > max(before.values())


def test_the_older_of_two_with_one_name_is_told_and_cannot_end_the_newer(group: Sharers) -> None:
    old = group.join("a", NAMES)
    old.beat()
    new = group.join("a", NAMES)
    leases = new.beat().leases
    with pytest.raises(NameTaken, match="'a': give each process its own name"):
        old.beat()
    old.shell.leave()
    assert new.beat().leases == leases


def test_a_beat_whose_reply_was_lost_is_made_again(
    group: Sharers, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = group.join("a", NAMES)
    run = membership.run

    def lossy(*arguments: object) -> object:
        run(*arguments)  # type: ignore[arg-type]
        raise redis.ConnectionError("the reply was lost")

    with monkeypatch.context() as patch:
        patch.setattr(membership, "run", lossy)
        with pytest.raises(GroupUnavailable, match="the reply was lost"):
            one.beat()
    assert sorted(one.beat().leases.values()) == list(range(1, len(NAMES) + 1))


def test_a_clean_stop_gives_everything_back_at_once(group: Sharers) -> None:
    one, other = group.join("a", NAMES), group.join("b", NAMES)
    group.settle()
    group.stop(one)
    assert look_at_sharing(group.reader, group.keys, "g").leases.keys() == other.held
    assert set(other.beat().leases) == set(NAMES)
    assert other.standing.members == 1


def test_replays_go_to_the_holder_of_their_series(group: Sharers) -> None:
    one, other = group.join("a", NAMES), group.join("b", NAMES)
    holders = group.settle()
    asked = {f"17-{number}": name for number, name in enumerate(NAMES)} | {"18-0": "S-GONE-1m"}
    group.client.hset(group.keys.group("g", "replays"), mapping=asked)
    for member in (one, other):
        mine = {letter: name for letter, name in asked.items() if holders.get(name) == member.name}
        assert member.beat().replays == mine


def test_so_many_replays_are_told_at_once(group: Sharers) -> None:
    asked = {f"17-{number}": NAMES[0] for number in range(REPLAYS_MAX + 20)}
    group.client.hset(group.keys.group("g", "replays"), mapping=asked)
    assert len(group.join("a", NAMES).beat().replays) == REPLAYS_MAX


def test_how_a_group_is_shared_can_be_looked_at(group: Sharers, market: Market) -> None:
    one, other = group.join("a", NAMES), group.join("b", NAMES)
    holders = group.settle()
    group.stall(other)
    seen = look_at_sharing(market.client, market.keys, "g")
    assert set(seen.members) == {"a"}
    assert 0 < seen.members["a"] <= LEASE_MS
    assert {name: x.member for name, x in seen.leases.items()} == holders
    assert seen.leases[NAMES[0]] == Holding("a", one.standing.leases[NAMES[0]])
    assert look_at_sharing(market.client, market.keys, "nobody").members == {}


@pytest.mark.parametrize("what", ["members", "leases", "replays"])
def test_a_key_that_holds_something_else_is_told(group: Sharers, what: str) -> None:
    group.client.set(group.keys.group("g", what), "x")
    with pytest.raises((StreamRefused, GroupUnavailable), match="WRONGTYPE"):
        group.join("a", NAMES).beat()


def test_a_server_that_is_gone_is_told(own_server: Server, market: Market) -> None:
    client = connect_reader(own_server.url)
    one = Membership(client, market.keys, "g", "a", LEASE_MS)
    one.beat(NAMES, {}, 0)
    own_server.kill()
    for call in (lambda: one.beat(NAMES, {}, 0), one.leave):
        with pytest.raises(GroupUnavailable):
            call()
    with pytest.raises(GroupUnavailable):
        look_at_sharing(client, market.keys, "g")
    client.close()


def test_a_dead_member_is_followed_within_the_lease_time_by_the_clock(group: Sharers) -> None:
    gone = Membership(group.reader, group.keys, "g", "gone", 400)
    assert set(gone.beat(NAMES, {}, 0).leases) == set(NAMES)
    heir = Membership(group.reader, group.keys, "g", "heir", 400)
    early = heir.beat(NAMES, {}, 0)
    assert early.leases == {}
    assert early.again_ms <= 80
    eventually(lambda: set(heir.beat(NAMES, {}, 0).leases) == set(NAMES), "it took over", 4.0)
