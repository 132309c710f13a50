"""`~m~LEN~m~PAYLOAD`: cut right, whatever the payloads and wherever messages end."""

from __future__ import annotations

from itertools import pairwise

import pytest
import recordings
from hypothesis import example, given
from hypothesis import strategies as st
from recordings import needs_recordings

from publisher.core.frames import FRAME_UNITS_MAX, Splitter, is_heartbeat, join
from publisher.errors import RemoteProtocolError

# What strict UTF-8 can carry: every character but lone halves of UTF-16.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
MARKED = st.lists(st.sampled_from(["~", "m", "h", "~m~", "7", "{}", "한", "😀"]), max_size=8)
PAYLOADS = st.one_of(TEXTS, MARKED.map("".join))


def cut(text: str, places: list[int]) -> list[str]:
    """The text in pieces, cut at these places."""
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:stop] for start, stop in pairwise(edges)]


@given(PAYLOADS)
@example("😀")
def test_a_frame_declares_what_javascript_counts(payload: str) -> None:
    assert join(payload) == f"~m~{recordings.units(payload)}~m~{payload}"


@given(st.lists(PAYLOADS, max_size=5))
def test_what_is_joined_is_split_again(payloads: list[str]) -> None:
    splitter = Splitter()
    assert splitter.feed("".join(join(payload) for payload in payloads)) == payloads
    assert splitter.rest == ""


@given(st.lists(PAYLOADS, min_size=1, max_size=4), st.lists(st.integers(0, 200), max_size=6))
def test_where_messages_end_makes_no_difference(payloads: list[str], places: list[int]) -> None:
    splitter = Splitter()
    text = "".join(join(payload) for payload in payloads)
    got = [payload for piece in cut(text, places) for payload in splitter.feed(piece)]
    assert got == payloads
    assert splitter.rest == ""


def test_one_character_at_a_time_is_enough() -> None:
    text = join("~h~1") + join("한국 😀") + join("") + join('{"m":"du"}')
    splitter = Splitter()
    got = [payload for character in text for payload in splitter.feed(character)]
    assert got == ["~h~1", "한국 😀", "", '{"m":"du"}']


def test_payloads_that_are_complete_come_before_the_rest() -> None:
    splitter = Splitter()
    assert splitter.feed("~m~2~m~ab~m~4~m~~h~7~m~5~m~abc") == ["ab", "~h~7"]
    assert splitter.rest == "~m~5~m~abc"
    assert splitter.feed("de") == ["abcde"]
    assert splitter.rest == ""


@pytest.mark.parametrize(
    "rest",
    [
        "~",
        "~m",
        "~m~",
        "~m~1",
        "~m~123456789",
        "~m~12~",
        "~m~12~m",
        "~m~123456789~m",
        "~m~2~m~😀"[:-1],
    ],
)
def test_the_beginning_of_a_frame_is_kept(rest: str) -> None:
    splitter = Splitter(frame_units_max=10**9)
    assert splitter.feed(rest) == []
    assert splitter.rest == rest


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "{}",
        "~h~1",
        "~m~",
        "~m~x",
        "~m~-1~m~",
        "~m~~m~",
        "~m~1234567890",
        "~m~1~n~x",
        "~x~1~m~x",
        " ~m~1~m~x",
        "~m~2~m~abc",
        "~m~٣~m~abc",
        "~m~3٣~m~abc",
    ],
)
def test_what_is_no_frame_is_refused_and_shown(text: str) -> None:
    splitter = Splitter()
    with pytest.raises(RemoteProtocolError, match="must begin with ~m~LEN~m~"):
        splitter.feed(text + "~" * 20)


def test_a_length_that_ends_inside_a_character_is_refused() -> None:
    for text in ("~m~1~m~😀", "~m~2~m~a😀", "~m~1~m~😀~m~1~m~a"):
        with pytest.raises(RemoteProtocolError, match="ends inside a character"):
            Splitter().feed(text)


def test_a_frame_that_declares_too_much_is_refused_before_it_is_kept() -> None:
    assert Splitter(frame_units_max=3).feed("~m~3~m~abc") == ["abc"]
    with pytest.raises(RemoteProtocolError, match=r"may have 3 units, this one declares 4"):
        Splitter(frame_units_max=3).feed("~m~4~m~")
    with pytest.raises(RemoteProtocolError, match=str(FRAME_UNITS_MAX + 1)):
        Splitter().feed(f"~m~{FRAME_UNITS_MAX + 1}~m~")


@given(
    st.one_of(st.text(max_size=40), MARKED.map("".join)), st.lists(st.integers(0, 40), max_size=3)
)
def test_any_text_is_split_or_refused(text: str, places: list[int]) -> None:
    splitter = Splitter(frame_units_max=64)
    try:
        got = [payload for piece in cut(text, places) for payload in splitter.feed(piece)]
    except RemoteProtocolError:
        return
    assert sum(len(payload) for payload in got) + len(splitter.rest) <= len(text)


@pytest.mark.parametrize("payload", ["~h~0", "~h~1", "~h~157", "~h~" + "9" * 18])
def test_a_heartbeat_is_known(payload: str) -> None:
    assert is_heartbeat(payload)


@pytest.mark.parametrize(
    "payload", ["", "~h~", "~h~x", "~h~1 ", "~h~1\n", "x~h~1", "~h~-1", "~h~٣", "~h~" + "9" * 19]
)
def test_what_is_not_quite_a_heartbeat_is_none(payload: str) -> None:
    assert not is_heartbeat(payload)


@needs_recordings
def test_a_recorded_length_counts_utf16_units_not_bytes() -> None:
    (message,) = recordings.messages("123-nonascii-LEN-is-utf16-units.framed.txt")
    (payload,) = Splitter().feed(message)
    assert message.startswith("~m~99~m~")
    assert (len(payload), len(payload.encode())) == (99, 113)
    assert join(payload) == message


@needs_recordings
def test_a_recorded_heartbeat_goes_back_byte_for_byte() -> None:
    for message in recordings.messages("126-heartbeats.framed.txt"):
        (payload,) = Splitter().feed(message)
        assert is_heartbeat(payload)
        assert join(payload) == message


@needs_recordings
def test_a_recorded_heartbeat_does_not_hide_the_data_behind_it() -> None:
    _, message = recordings.messages("019-heartbeat-batched-with-data-wsmessages.json")
    payloads = Splitter().feed(message)
    assert payloads[0] == "~h~7"
    assert [is_heartbeat(payload) for payload in payloads[1:]] == [False] * 4


@needs_recordings
def test_four_recorded_packets_in_one_message_are_four_payloads() -> None:
    (message,) = recordings.messages("121-several-packets-one-ws-message.framed.txt")
    assert len(Splitter().feed(message)) == 4
