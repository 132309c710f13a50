"""What the publisher is asked to publish for a TvDatafeedLive, and no longer."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import Any, Final

import structlog

from consumers.errors import RequestOverdue, RequestRefused
from consumers.shell.requests import ANSWER_S_MAX, Requests, new_command, refusal
from consumers.shell.streams import backwards
from consumers.tvdatafeed.users import Users
from publisher.wire import EntryMalformed, Series, Summary

log = structlog.get_logger("consumers")

LOOK_S: Final = 0.2
"""How often a series that others had subscribed is looked at until it is live."""
UNSUBSCRIBE_S_MAX: Final = 5.0
"""How long the publisher's word is waited for when series are given up."""


class Subscriptions:
    """Subscribes what is not published yet, and takes back only that.

    Its owner sees to it that `begin`, `end` and `look` do not overlap. Each method raises
    BusUnreachable where the bus fails.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._users = Users(requests)
        self._own: set[Series] = set()
        self._troubled: dict[Series, str] = {}

    def begin(self, series: Series, timeout_s: float) -> int | None:
        """Make sure that a series is live; return when its last bar opened, None without any.

        Raises RequestRefused, SymbolUnknown, and RequestOverdue after the time-out; then
        nothing is left subscribed.
        """
        self._requests.check()
        end_s = time.monotonic() + timeout_s
        # Before anything else: from now on nobody else unsubscribes it.
        self._users.renew([series])
        try:
            line = self._line(series)
            if line is None or line.state == "removed":
                self._subscribe(series, end_s)
            else:
                self._await_live(series, end_s)
        except RequestRefused:
            self.end([series])
            raise
        with self._requests.reached():
            newest = list(backwards(self._requests.client, self._requests.keys.bars(series), 1))
        return newest[0][0].ms if newest else None

    def end(self, series: Collection[Series]) -> None:
        """Unsubscribe what was subscribed here and nobody else is known to use."""
        unused = self._users.leave(series)
        for one in series:
            self._troubled.pop(one, None)
        given_up = [one for one in series if one in self._own and one in unused]
        self._own.difference_update(series)
        if given_up:
            command = new_command("unsubscribe", *given_up)
            self._requests.send(command)
            # What is followed again right after must not be found published still.
            self._requests.answers(command, UNSUBSCRIBE_S_MAX)

    def renew(self, followed: Collection[Series]) -> None:
        """Say that these are followed still. May overlap with anything."""
        self._users.renew(followed)

    def look(self, followed: Collection[Series]) -> None:
        """Tell which of these are published no longer, and again.

        What the publisher's settings do not name any more is subscribed; what a person
        unsubscribed is not.
        """
        for series in followed:
            line = self._line(series)
            if line is not None and line.state == "removed" and line.wanted_by == "settings":
                self._own.add(series)
                self._requests.send(new_command("subscribe", series))
            trouble = _trouble(line)
            if trouble and self._troubled.get(series) != trouble:
                log.warning("seis.interrupted", series=str(series), reason=trouble)
            elif not trouble and series in self._troubled:
                log.info("seis.resumed", series=str(series))
            self._troubled.pop(series, None)
            if trouble:
                self._troubled[series] = trouble

    def _subscribe(self, series: Series, end_s: float) -> None:
        command = new_command("subscribe", series)
        self._own.add(series)
        self._requests.send(command)
        answers = self._requests.answers(command, end_s - time.monotonic())
        if not answers:
            raise _late(series, end_s)
        if not answers[0].accepted:
            raise refusal(answers[0])

    def _await_live(self, series: Series, end_s: float) -> None:
        """Wait for what somebody else subscribed; asking anew would make it ours."""
        patient_until_s = min(end_s, time.monotonic() + ANSWER_S_MAX)
        while (line := self._line(series)) is not None and line.state != "live":
            if line.state in {"refused", "removed"}:
                raise RequestRefused(f"{series} is not published: {_trouble(line)}")
            if time.monotonic() >= patient_until_s:
                raise _late(series, end_s)
            threading.Event().wait(LOOK_S)

    def _line(self, series: Series) -> Summary | None:
        name, keys = str(series), self._requests.keys
        with self._requests.reached():
            text: Any = self._requests.client.hget(keys.catalogue, name)
        try:
            return None if text is None else Summary.decode(name.encode(), text)
        except EntryMalformed:
            return None  # written by a newer version


def _trouble(line: Summary | None) -> str:
    """Return why nothing comes; empty where the publisher is at it."""
    if line is None or line.state not in {"refused", "removed"}:
        return ""
    if line.state == "removed" and not line.reason:
        return f"it was unsubscribed: `tvbus subscribe {line.series}` brings it back"
    return line.reason


def _late(series: Series, end_s: float) -> RequestRefused:
    if time.monotonic() >= end_s:
        return RequestOverdue(f"{series} was not live in time")
    return RequestRefused(f"{series} is not live yet, and nobody says why: see `tvbus status`")
