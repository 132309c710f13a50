"""The dead letters of a group: read, asked for again, dropped.

A letter is asked for again by naming it in the group's hash of replays; the
member that holds its series hands it over. Nothing here acknowledges anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

from bus.connection import Client
from consumers.core.ids import ZERO, EntryId
from consumers.core.letters import Letter
from consumers.core.patterns import Pattern
from consumers.core.standing import EVENTS_NAME
from consumers.errors import LetterIdInvalid, LetterUnknown
from consumers.shell.streams import as_entry, translated
from publisher.wire import Keys, Series, SeriesInvalid

PAGE: Final = 100
"""Letters read in one call: each may have a traceback and an entry in it."""
BATCH: Final = 500
"""Letters asked for again or dropped in one call."""
REPLAYS_MAX: Final = 10_000
"""Letters of a group that may wait to be handed over again."""

T = TypeVar("T")

_ID: Final = re.compile(r"[0-9]{1,18}-[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters are meant: those of one series or pattern, or of EVENTS_NAME."""

    text: str
    _pattern: Pattern | None

    @classmethod
    def parse(cls, text: str) -> Choice:
        """Read a series, a pattern, or `@events`. Raises PatternInvalid."""
        return cls(text, None if text == EVENTS_NAME else Pattern.parse(text))

    def matches(self, letter: Letter) -> bool:
        """Tell whether the letter is meant."""
        if self._pattern is None:
            return letter.name == EVENTS_NAME
        try:
            return self._pattern.matches(Series.parse(letter.name))
        except SeriesInvalid:
            return False


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the letters, and where the next ones begin."""

    letters: tuple[Letter, ...]
    next: EntryId | None
    """Ask for the letters after this one; None where these are the last."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking for letters again."""

    asked: int
    waiting: int
    """Of these, somebody had asked already."""
    left: int
    """There was no room for these: REPLAYS_MAX wait."""
    nameless: int
    """These do not tell their series, so nobody can hand them over."""


class DeadLetters:
    """The dead letters of one group. Raises GroupUnavailable where the bus fails."""

    def __init__(self, client: Client, keys: Keys, group: str) -> None:
        self._client = client
        self.group = group
        self._key = keys.dead(group)
        self._replays = keys.group(group, "replays")

    def count(self) -> int:
        """Return how many there are."""
        with translated():
            return self._client.xlen(self._key)

    def page(
        self,
        limit: int,
        after: EntryId | None = None,
        *,
        oldest_first: bool = False,
        choice: Choice | None = None,
    ) -> Page:
        """Return so many letters after this one, the newest first unless told otherwise."""
        found = self.walk(after, oldest_first=oldest_first, choice=choice)
        letters = tuple(islice(found, limit))
        more = next(found, None) is not None
        return Page(letters, letters[-1].id if more and letters else None)

    def walk(
        self,
        after: EntryId | None = None,
        *,
        oldest_first: bool = False,
        choice: Choice | None = None,
    ) -> Iterator[Letter]:
        """Yield all letters that are meant and are there now, read in bounded pages.

        What is buried meanwhile is left out: a letter that is handed over again
        may come back at once.
        """
        newest = self._downwards(None, 1) if oldest_first else []
        end = newest[0].id if newest else ZERO
        while True:
            page = self._upwards(after, end) if oldest_first else self._downwards(after, PAGE)
            for letter in page:
                if choice is None or choice.matches(letter):
                    yield letter
            if len(page) < PAGE:
                return
            after = page[-1].id

    def _downwards(self, before: EntryId | None, count: int) -> list[Letter]:
        high = "+" if before is None else f"({before}"
        with translated():
            raw: Any = self._client.xrevrange(self._key, high, "-", count=count)
        return [Letter.read(*as_entry(x)) for x in raw]

    def _upwards(self, after: EntryId | None, end: EntryId) -> list[Letter]:
        low = "-" if after is None else f"({after}"
        with translated():
            raw: Any = self._client.xrange(self._key, low, str(end), count=PAGE)
        return [Letter.read(*as_entry(x)) for x in raw]

    def find(self, ids: Iterable[str]) -> list[Letter]:
        """Return the letters with these IDs, in this order.

        Raises LetterIdInvalid, and LetterUnknown where one of them is not there.
        """
        wanted = list(dict.fromkeys(self.parse_id(text) for text in ids))
        letters = []
        for some in _parts(wanted, PAGE):
            pipeline = self._client.pipeline(transaction=False)
            for one in some:
                pipeline.xrange(self._key, str(one), str(one))
            with translated():
                letters += [Letter.read(*as_entry(raw[0])) for raw in pipeline.execute() if raw]
        missing = sorted(set(wanted) - {x.id for x in letters})
        if missing:
            shown = ", ".join(map(str, missing[:5])) + (" …" if len(missing) > 5 else "")
            raise LetterUnknown(
                f"group {self.group!r} has no dead letter {shown}; "
                f"`tvbus dead list --group {self.group}` shows those it has"
            )
        return letters

    def parse_id(self, text: str) -> EntryId:
        """Read the ID of a letter. Raises LetterIdInvalid."""
        if not _ID.fullmatch(text):
            raise LetterIdInvalid(
                "a dead letter's ID is written as 1760000040000-0, "
                f"as `tvbus dead list --group {self.group}` shows it, was {text!r}"
            )
        return EntryId.parse(text)

    def waiting(self, letters: Sequence[Letter]) -> set[EntryId]:
        """Return which of them were asked for and not yet handed over again."""
        found: set[EntryId] = set()
        for some in _parts(letters, BATCH):
            with translated():
                names: Any = self._client.hmget(self._replays, [str(x.id) for x in some])
            found |= {x.id for x, name in zip(some, names, strict=True) if name is not None}
        return found

    def replay(self, letters: Iterable[Letter]) -> Asked:
        """Ask the group to hand these over again."""
        with translated():
            room = max(0, REPLAYS_MAX - self._client.hlen(self._replays))
        asked = waiting = left = nameless = 0
        for some in _parts(letters, BATCH):
            known = self.waiting(some)
            new = [x for x in some if x.name and x.id not in known]
            wanted: dict[Any, Any] = {str(x.id): x.name for x in new[: room - asked]}
            if wanted:
                with translated():
                    self._client.hset(self._replays, mapping=wanted)
            asked += len(wanted)
            waiting += len(known)
            left += len(new) - len(wanted)
            nameless += sum(not x.name for x in some)
        return Asked(asked, waiting, left, nameless)

    def drop(self, ids: Iterable[EntryId]) -> int:
        """Delete these letters and forget that they were asked for; return how many there were."""
        dropped = 0
        for some in _parts(map(str, ids), BATCH):
            with translated():
                dropped += self._client.xdel(self._key, *some)
                self._client.hdel(self._replays, *some)
        return dropped


def _parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    source = iter(items)
    while part := list(islice(source, size)):
        yield part
