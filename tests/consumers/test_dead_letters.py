"""Dead letters: read, shown, asked for again and dropped, by value and by command."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from consumer_world import BTC, ETH, T0, Market

from consumers import dead
from consumers.core.ids import EntryId
from consumers.core.letters import Letter
from consumers.core.standing import EVENTS_NAME
from consumers.dead import Choice, DeadLetters
from consumers.errors import LetterIdInvalid, LetterUnknown, StreamRefused
from consumers.sinks.print import bar_json
from publisher.wire import EntryMalformed, encode_bar
from tests.command_runs import Run
from tvbus.letters import letter_line

KEY = "tv:dead:{g}"
REPLAYS = "tv:group:{g}:replays"


def fields(market: Market, number: int = 0, series: Any = BTC, **more: str) -> dict[Any, Any]:
    """What a consumer writes of a bar that it gave up on."""
    name, payload = encode_bar(market.bar(series, number))
    return {
        "reason": "ValueError: no taste",
        "traceback": "Traceback (most recent call last):\n  File x\nValueError: no taste",
        "kind": "bars",
        "series": str(series),
        "key": market.keys.bars(series),
        "id": f"{market.bar(series, number).open_time_ms}-0",
        "consumer": "host-7#3",
        "buried_ms": "1760000100123",
        "attempts": "5",
        b"original." + name: payload,
    } | more


def bury(market: Market, number: int = 0, series: Any = BTC, **more: str) -> str:
    """Put a letter on the bus with an ID that tells the bar's number."""
    entry = f"{1_000 + number}-0"
    market.client.xadd(KEY, fields(market, number, series, **more), id=entry)
    return entry


@pytest.fixture
def letters(market: Market) -> DeadLetters:
    return DeadLetters(market.client, market.keys, "g")


def numbers(page: dead.Page) -> list[int]:
    return [letter.id.ms - 1_000 for letter in page.letters]


def as_bytes(written: dict[Any, Any]) -> dict[bytes, bytes]:
    def one(x: Any) -> bytes:
        return x.encode() if isinstance(x, str) else bytes(x)

    return {one(name): one(value) for name, value in written.items()}


def test_a_letter_reads_as_it_was_written(market: Market) -> None:
    letter = Letter.read(EntryId(1_000), as_bytes(fields(market)))
    assert (letter.reason, letter.kind, letter.name) == ("ValueError: no taste", "bars", str(BTC))
    assert (letter.key, letter.entry) == ("tv:bars:{BTCUSDT-BINANCE-1m}", f"{T0}-0")
    assert (letter.consumer, letter.buried_ms, letter.attempts) == ("host-7#3", 1760000100123, 5)
    assert letter.traceback.startswith("Traceback")
    assert letter.bar() == market.bar(BTC, 0)
    assert letter.event() is None


@pytest.mark.parametrize(
    ("key", "kind", "name"),
    [
        ("tv:bars:{BTCUSDT-BINANCE-1m}", "bars", "BTCUSDT-BINANCE-1m"),
        ("x:corrections:{A-B-1D+EUR}", "corrections", "A-B-1D+EUR"),
        ("tv:events", "events", EVENTS_NAME),
        ("elsewhere", "", ""),
    ],
)
def test_what_an_older_version_wrote_tells_its_series_by_the_key(
    key: str, kind: str, name: str
) -> None:
    old = {b"reason": b"r", b"key": key.encode(), b"id": b"5-0", b"consumer": b"c"}
    letter = Letter.read(EntryId(1), old | {b"buried_ms": b"17"})
    assert (letter.kind, letter.name) == (kind, name)
    assert (letter.traceback, letter.attempts, letter.buried_ms) == ("", None, 17)
    assert letter.bar() is None
    assert letter.event() is None


def test_a_letter_of_anything_can_be_read() -> None:
    letter = Letter.read(EntryId(1), {b"buried_ms": b"soon", b"reason": b"\xff", b"x": b"y"})
    assert (letter.reason, letter.buried_ms, letter.fields) == ("\ufffd", None, {})


def test_an_event_is_decoded() -> None:
    def letter(text: bytes, field: bytes = b"original.event") -> Letter:
        return Letter.read(EntryId(1), {b"key": b"tv:events", field: text})

    assert letter(b'{"event":"gap.abandoned"}').event() == {"event": "gap.abandoned"}
    assert letter(b"{}").bar() is None
    for text in (b"{", b"[1]"):
        with pytest.raises(EntryMalformed):
            letter(text).event()
    with pytest.raises(EntryMalformed):
        letter(b"{}", b"original.other").event()


def test_a_bar_that_cannot_be_decoded_says_so(market: Market) -> None:
    broken = {b"key": b"tv:bars:{BTCUSDT-BINANCE-1m}", b"original.bar": b"\xc1"}
    with pytest.raises(EntryMalformed):
        Letter.read(EntryId(1), broken).bar()
    nameless = {b"key": b"elsewhere", b"original.bar": b"\x80"}
    with pytest.raises(EntryMalformed, match="not a series"):
        Letter.read(EntryId(1), nameless).bar()


@pytest.mark.parametrize("oldest_first", [True, False])
def test_pages_follow_each_other_without_loss_or_repetition(
    market: Market, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch, oldest_first: bool
) -> None:
    monkeypatch.setattr(dead, "PAGE", 3)
    for number in range(10):
        bury(market, number)
    expected = list(range(10)) if oldest_first else list(range(9, -1, -1))
    seen: list[int] = []
    after = None
    for size in (4, 4, 2):
        page = letters.page(4, after, oldest_first=oldest_first)
        assert len(page.letters) == size
        seen += numbers(page)
        after = page.next
    assert seen == expected
    assert after is None
    assert letters.count() == 10


def test_a_page_that_is_just_full_is_the_last(market: Market, letters: DeadLetters) -> None:
    for number in range(3):
        bury(market, number)
    assert letters.page(3).next is None
    assert letters.page(2).next == EntryId(1_001)


def test_only_letters_of_the_series_that_is_meant(market: Market, letters: DeadLetters) -> None:
    bury(market, 0, BTC)
    bury(market, 1, ETH)
    bury(market, 2, key="tv:events", kind="events", series=EVENTS_NAME)
    bury(market, 3, key="elsewhere", series="no series")
    for text, expected in (
        (str(BTC), [0]),
        ("binance:ethusdt@1m", [1]),
        ("*-BINANCE-1m", [1, 0]),
        (EVENTS_NAME, [2]),
    ):
        assert numbers(letters.page(9, choice=Choice.parse(text))) == expected


def test_letters_are_found_by_their_ids(market: Market, letters: DeadLetters) -> None:
    first, second = bury(market, 0), bury(market, 1)
    assert [str(x.id) for x in letters.find([second, first, second])] == [second, first]
    with pytest.raises(LetterUnknown, match="has no dead letter 7-0; `tvbus dead list --group g`"):
        letters.find([first, "7-0"])
    for text in ("", "-", "+", "x", "1", "1-", "1-0-0", "9" * 19 + "-0"):
        with pytest.raises(LetterIdInvalid, match="written as 1760000040000-0"):
            letters.find([text])


def test_many_unknown_ids_are_not_all_named(market: Market, letters: DeadLetters) -> None:
    with pytest.raises(LetterUnknown, match="letter 1-0, 2-0, 3-0, 4-0, 5-0 …;"):
        letters.find([f"{number}-0" for number in range(1, 9)])


def test_asking_again_names_the_letter_and_its_series(market: Market, letters: DeadLetters) -> None:
    first = bury(market, 0, BTC)
    second = bury(market, 1, ETH)
    assert letters.replay(letters.find([first])) == dead.Asked(1, 0, 0, 0)
    assert letters.waiting(letters.find([first, second])) == {EntryId.parse(first)}
    assert letters.replay(letters.walk(oldest_first=True)) == dead.Asked(1, 1, 0, 0)
    assert market.client.hgetall(REPLAYS) == {
        first.encode(): str(BTC).encode(),
        second.encode(): str(ETH).encode(),
    }


def test_a_letter_that_comes_back_meanwhile_is_not_asked_for_again(
    market: Market, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead, "PAGE", 2)
    for number in range(4):
        bury(market, number)
    seen = []
    for letter in letters.walk(oldest_first=True):
        seen.append(letter.id.ms - 1_000)
        bury(market, 4 + len(seen))  # fails again, and is buried at the end
    assert seen == [0, 1, 2, 3]


def test_no_more_wait_than_there_is_room(
    market: Market, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead, "REPLAYS_MAX", 3)
    monkeypatch.setattr(dead, "BATCH", 2)
    for number in range(5):
        bury(market, number)
    bury(market, 5, key="elsewhere", series="")
    assert letters.replay(letters.walk(oldest_first=True)) == dead.Asked(3, 0, 2, 1)
    assert set(market.client.hkeys(REPLAYS)) == {b"1000-0", b"1001-0", b"1002-0"}
    assert letters.replay(letters.walk(oldest_first=True)) == dead.Asked(0, 3, 2, 1)


def test_a_dropped_letter_is_waited_for_no_longer(
    market: Market, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead, "BATCH", 2)
    ids = [EntryId.parse(bury(market, number)) for number in range(5)]
    letters.replay(letters.walk())
    assert letters.drop(ids[:3]) == 3
    assert numbers(letters.page(9)) == [4, 3]
    assert set(market.client.hkeys(REPLAYS)) == {b"1003-0", b"1004-0"}


def test_a_key_that_holds_something_else_is_refused(market: Market, letters: DeadLetters) -> None:
    market.client.set(KEY, "mine")
    with pytest.raises(StreamRefused, match="WRONGTYPE"):
        letters.count()


def test_the_list_is_a_line_for_each_letter(market: Market, run: Run) -> None:
    bury(market, 0)
    bury(market, 1, ETH, reason="first\nsecond \x1b[31m" + "x" * 200)
    ended = run("dead", "list", "--group", "g", TVBUS_REDIS_URL=market.url)
    assert (ended.code, ended.err) == (0, "")
    newer, older = ended.out.splitlines()
    assert newer.split()[:4] == [
        "1001-0",
        "2025-10-09T08:55:00Z",
        "ETHUSDT-BINANCE-1m",
        "2025-10-09T08:55:00Z",
    ]
    assert older.split()[3:] == ["2025-10-09T08:54:00Z", "5x", "ValueError:", "no", "taste"]
    assert "\x1b" not in newer
    assert newer.endswith("x…")


def test_the_list_goes_on_where_it_ended(market: Market, run: Run) -> None:
    for number in range(3):
        bury(market, number)
    base = ("dead", "list", "--group", "g", "--oldest", "--limit", "2")
    ended = run(*base, TVBUS_REDIS_URL=market.url)
    assert [row[0] for row in ended.lines] == ["1000-0", "1001-0"]
    assert ended.err == "more follow: add --after 1001-0 --oldest\n"
    ended = run(*base, "--after", "1001-0", TVBUS_REDIS_URL=market.url)
    assert [row[0] for row in ended.lines] == ["1002-0"]
    assert ended.err == ""


def test_the_list_for_programs_says_what_waits_and_what_follows(market: Market, run: Run) -> None:
    first, _ = bury(market, 0), bury(market, 1)
    run("dead", "replay", "--group", "g", first, TVBUS_REDIS_URL=market.url)
    ended = run(
        *("dead", "list", "--group", "g", "--oldest", "--limit", "1", "--json"),
        TVBUS_REDIS_URL=market.url,
    )
    assert json.loads(ended.out) == {
        "group": "g",
        "count": 2,
        "letters": [
            {
                "id": "1000-0",
                "series": "BTCUSDT-BINANCE-1m",
                "kind": "bars",
                "key": "tv:bars:{BTCUSDT-BINANCE-1m}",
                "entry_id": f"{T0}-0",
                "open_time_ms": T0,
                "reason": "ValueError: no taste",
                "attempts": 5,
                "consumer": "host-7#3",
                "buried_ms": 1760000100123,
                "replay_asked": True,
            }
        ],
        "next": "1000-0",
    }


def test_a_letter_is_shown_whole(market: Market, run: Run) -> None:
    first = bury(market, 0)
    ended = run("dead", "show", "--group", "g", first, TVBUS_REDIS_URL=market.url)
    assert ended.code == 0
    assert ended.out.splitlines()[1:6] == [
        "series       BTCUSDT-BINANCE-1m",
        f"came from    tv:bars:{{BTCUSDT-BINANCE-1m}} {T0}-0",
        "buried       2025-10-09T08:55:00Z by host-7#3",
        "attempts     5",
        "reason       ValueError: no taste",
    ]
    assert "C     100.5" in ended.out
    assert ended.out.endswith("  File x\nValueError: no taste\n")


def test_letters_are_shown_to_programs_with_the_bar(market: Market, run: Run) -> None:
    first, second = bury(market, 0), bury(market, 1, key="tv:events", kind="events")
    third = bury(market, 2, series="no series")
    ended = run("dead", "show", "--group", "g", first, "--json", TVBUS_REDIS_URL=market.url)
    shown = json.loads(ended.out)
    assert shown["bar"] == json.loads(bar_json(market.bar(BTC, 0)))
    assert (shown["event"], shown["undecoded"]) == (None, None)
    assert shown["traceback"].endswith("ValueError: no taste")
    ended = run("dead", "show", "--group", "g", second, third, "--json", TVBUS_REDIS_URL=market.url)
    event, other = map(json.loads, ended.out.splitlines())
    assert event["undecoded"].startswith("event cannot be decoded")
    assert event["open_time_ms"] is None
    assert "'no series' is not a series" in other["undecoded"]


def test_what_a_letter_holds_is_told_in_words(market: Market, run: Run) -> None:
    event = {"key": "tv:events", "kind": "events", "series": EVENTS_NAME}
    ids = [
        bury(market, 0, **event, **{"original.event": '{"event":"gap.abandoned"}'}),
        bury(market, 1, series="no series"),
    ]
    ids.append("5000-0")
    market.client.xadd(KEY, {"key": "tv:bars:{A-B-1m}", "id": "soon"}, id="5000-0")
    ended = run("dead", "show", "--group", "g", *ids, TVBUS_REDIS_URL=market.url)
    assert 'event        {"event":"gap.abandoned"}' in ended.out
    assert "bar          cannot be decoded: 'no series' is not a series" in ended.out
    assert "bar          was trimmed before it was read" in ended.out
    assert "attempts     unknown" in ended.out


def test_replay_and_drop_by_command(
    market: Market, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(market, 0, BTC)
    second = bury(market, 1, ETH)
    url = market.url
    ended = run("dead", "replay", "--group", "g", "--series", "ETH*-1m", TVBUS_REDIS_URL=url)
    assert (ended.code, ended.out) == (
        0,
        "1 asked for; members of 'g' hand them over, now or when they run\n",
    )
    ended = run("dead", "replay", "--group", "g", "--all", TVBUS_REDIS_URL=url)
    assert "1 asked for" in ended.out
    assert "1 were asked for before, and wait" in ended.out
    ended = run("dead", "list", "--group", "g", TVBUS_REDIS_URL=url)
    assert ended.out.count("replay asked for: ValueError") == 2
    ended = run("dead", "drop", "--group", "g", second, "--yes", TVBUS_REDIS_URL=url)
    assert (ended.code, ended.out) == (0, "1 dropped\n")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    ended = run("dead", "drop", "--group", "g", "--all", TVBUS_REDIS_URL=url)
    assert (ended.code, ended.out, ended.err) == (1, "", "nothing was dropped\n")
    assert market.client.xlen(KEY) == 1


def test_what_cannot_be_asked_for_again_is_told(
    market: Market, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead, "REPLAYS_MAX", 1)
    for number in range(2):
        bury(market, number)
    bury(market, 2, key="elsewhere", series="")
    ended = run("dead", "replay", "--group", "g", "--all", TVBUS_REDIS_URL=market.url)
    assert ended.code == 1
    assert "1 asked for" in ended.out
    assert "1 do not tell their series" in ended.err
    assert "1 are left" in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("list", "--group", "nobody"), 1, "no group 'nobody' on this bus; there are: g, other"),
        (("list", "--group", "g", "--after", "x"), 2, "written as 1760000040000-0"),
        (("list", "--group", "g", "--series", "7x"), 2, "'7x' is not a series"),
        (("list", "--group", "g", "--limit", "0"), 2, "--limit"),
        (("show", "--group", "g", "1-0"), 1, "has no dead letter 1-0"),
        (("show", "--group", "g"), 2, "ids"),
        (("replay", "--group", "g"), 2, "say which: IDs, or --series, or --all"),
        (("replay", "--group", "g", "1-0", "--all"), 2, "say which"),
        (("replay", "--group", "g", "1000-0", "1-0"), 1, "has no dead letter 1-0"),
        (("drop", "--group", "g", "--all"), 2, "add --yes"),
        (("drop", "--group", "g", "1-0", "--yes"), 1, "has no dead letter 1-0"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_changes_nothing(
    market: Market, run: Run, arguments: tuple[str, ...], code: int, words: str
) -> None:
    bury(market, 0)
    market.list_series(BTC)
    for group in ("g", "other"):
        market.client.xgroup_create(market.keys.bars(BTC), group, "0", mkstream=True)
    ended = run("dead", *arguments, TVBUS_REDIS_URL=market.url)
    assert ended.code == code, ended.err
    assert words in ended.err
    if ended.err.startswith("tvbus:"):
        assert ended.err.count("\n") == 1
    assert market.client.xlen(KEY) == 1
    assert market.client.hlen(REPLAYS) == 0


@pytest.mark.parametrize("trace", ["members", "stream"])
def test_a_group_without_dead_letters_is_no_mistake(market: Market, run: Run, trace: str) -> None:
    if trace == "members":
        market.client.hset("tv:group:{g}:members", "host-7", "x")
    else:
        market.list_series(BTC)
        market.client.xgroup_create(market.keys.bars(BTC), "g", "0", mkstream=True)
    ended = run("dead", "list", "--group", "g", TVBUS_REDIS_URL=market.url)
    assert (ended.code, ended.out, ended.err) == (0, "no dead letters\n", "")


def test_a_choice_that_means_none_says_so(market: Market, run: Run) -> None:
    bury(market, 0)
    ended = run("dead", "list", "--group", "g", "--series", "ETH*-1m", TVBUS_REDIS_URL=market.url)
    assert ended.out == "none of the 1 dead letters is meant\n"


def test_a_bus_that_fails_is_told_in_one_line(market: Market, run: Run) -> None:
    market.client.hset("tv:dead:{g}", "x", "y")
    ended = run("dead", "list", "--group", "g", TVBUS_REDIS_URL=market.url)
    assert ended.code == 1
    assert ended.err.count("\n") == 1


def test_a_letter_without_anything_has_a_line(market: Market) -> None:
    assert letter_line(Letter.read(EntryId(5), {}), waiting=False).split() == ["5-0", "?"]
