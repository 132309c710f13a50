"""The series that are published, from being wanted to being live; one thread owns them."""

from __future__ import annotations

from typing import Final

from publisher.codes import code_of
from publisher.core.barriers import Member
from publisher.core.bars import Ledger
from publisher.core.decisions import StreamEnd
from publisher.core.pacing import Pace
from publisher.core.session import Session
from publisher.core.tokens import Limits
from publisher.delivery import OUTBOX_BARS_MAX, Delivery
from publisher.errors import PublisherError, SeriesRefused, StoreError, StoreRefused
from publisher.links import Links
from publisher.notes import Notes
from publisher.ports import Ports
from publisher.publication import SERIES_MAX, Publication
from publisher.wire import DAY_MS, Series, SeriesInvalid, SeriesState
from publisher.wire.answers import Answer
from publisher.wire.commands import Command

FILLS_MAX: Final = 8
"""Series whose history is on the way at the same time; bounds memory and pace."""
RETRIES_MAX: Final = 4
"""How many of them may be series that were interrupted or refused before."""
MUTE_MS_MAX: Final = 5_000
"""A series of which TradingView says nothing for longer holds no other up."""
STEADY_MS: Final = 10_000
"""A series that was live for longer is asked again soon when it is interrupted."""
LOOK_MS: Final = 60_000
"""How often every line of the catalogue is written again, and every stream's end read."""
VERIFIED_MAX: Final = 32
"""Streams whose end is read in one turn."""
REFUSED_ATTEMPT: Final = 7
"""A refused series is asked for again after minutes, not seconds."""


class Roster:
    """Asks TradingView for series, and answers who wants them published."""

    def __init__(self, ports: Ports, delivery: Delivery, notes: Notes, history_bars: int) -> None:
        self._ports = ports
        self._delivery = delivery
        self._notes = notes
        self._history_bars = history_bars
        self._look_at_ms = 0
        self.publications: dict[Series, Publication] = {}
        self.limits: Limits | None = None
        """What the plan allows, once it is known."""

    def add(self, publication: Publication) -> None:
        """Publish one more series."""
        self.publications[publication.series] = publication
        self.move(publication, "starting")

    # Commands.

    def obey(self, command: Command) -> None:
        """Do what a request asks, series by series; each gets its own answer."""
        for text in command.series:
            try:
                series = Series.parse(text)
            except SeriesInvalid as error:
                answer = Answer(text, accepted=False, message=str(error), code="invalid")
                self._delivery.answer(command.id, answer)
                continue
            if command.action == "subscribe":
                self._subscribe(series, command.id, text)
            else:
                self._unsubscribe(series, command.id, text)

    def _subscribe(self, series: Series, request: str, text: str) -> None:
        publication = self.publications.get(series)
        if publication is None and (message := self._full()):
            self._delivery.answer(request, Answer(text, accepted=False, message=message))
            return
        if publication is None:
            publication = Publication(series, "command")
            self.add(publication)
            self._notes.tell("series.subscribed", series=series)
        if publication.wanted_by != "command":
            # It outlives its name in the settings from now on.
            publication.wanted_by = "command"
            self._delivery.enlist(publication)
        publication.requests.append((request, text))
        if publication.state == "live":
            self.answer(publication, accepted=True, message="live")
        elif publication.state == "refused":
            publication.retry_at_ms = 0

    def _full(self) -> str:
        """Return why no more series can be taken, empty where they can."""
        if len(self.publications) >= SERIES_MAX:
            return f"{SERIES_MAX} series are published already; unsubscribe some first"
        series_max = self.limits.series if self.limits else None
        if series_max is not None and len(self.publications) >= series_max:
            return _beyond_plan(self.limits)
        return ""

    def _unsubscribe(self, series: Series, request: str, text: str) -> None:
        publication = self.publications.pop(series, None)
        if publication is None:
            message = f"{series} was not published"
            self._delivery.answer(request, Answer(text, accepted=False, message=message))
            return
        publication.release()
        self.answer(publication, accepted=False, message="unsubscribed meanwhile")
        publication.wanted_by = "command"
        self.move(publication, "removed")
        self._notes.tell("series.removed", series=series)
        self._delivery.answer(request, Answer(text, accepted=True, message="removed"))

    def answer(
        self, publication: Publication, *, accepted: bool, message: str, code: str = ""
    ) -> None:
        """Answer all who asked for the series."""
        for request, text in publication.requests:
            self._delivery.answer(request, Answer(text, accepted, message, code))
        publication.requests.clear()

    # Asking TradingView.

    def start(self, links: Links, pace: Pace, now_ms: int) -> None:
        """Ask for series that are due, a few at a time, those without trouble first."""
        self._verify(now_ms)
        held = [p for p in self.publications.values() if _holds_place(p, now_ms)]
        room = FILLS_MAX - len(held)
        retries = RETRIES_MAX - sum(p.backoff.attempt > 0 for p in held)
        due = [p for p in self.publications.values() if _is_due(p, now_ms)] if room > 0 else []
        for publication in sorted(due, key=lambda p: p.backoff.attempt):
            retried = publication.backoff.attempt > 0
            if room <= 0 or self._delivery.trouble is not None or (retried and retries <= 0):
                return
            session = links.roomiest()
            if session is None:
                return
            if self._is_beyond_plan():
                self.refuse(publication, SeriesRefused(_beyond_plan(self.limits)), now_ms)
            elif self._read_end(publication, session, now_ms):
                if not pace.take(now_ms):
                    return
                self._request(publication, session, now_ms)
                room -= 1
                retries -= retried

    def _is_beyond_plan(self) -> bool:
        series_max = self.limits.series if self.limits else None
        if series_max is None:
            return False
        return sum(p.session is not None for p in self.publications.values()) >= series_max

    def members(self) -> list[Member]:
        """Return the live series, as the barriers of their intervals see them.

        Those are among them whose newest bars are being compared with history.
        """
        return [
            Member(p.series, p.liveness.hours, newest_ms, p.stated.late)
            for p in self.publications.values()
            if p.live_ms is not None and (newest_ms := p.newest_ms) is not None
        ]

    def look_again(self, now_ms: int) -> None:
        """Write the catalogue and read the streams' ends from time to time.

        No fence keeps late lines out of the catalogue; a stream that was evicted or
        deleted would go unnoticed until its next bar, which may be a month away.
        """
        if now_ms >= self._look_at_ms:
            self._look_at_ms = now_ms + LOOK_MS
            for publication in self.publications.values():
                self._delivery.enlist(publication)
            self.doubt_all()

    def doubt_all(self) -> None:
        """The bus may have lost entries: compare each stream's end with what was left there."""
        for publication in self.publications.values():
            publication.doubted = True

    def _verify(self, now_ms: int) -> None:
        room = VERIFIED_MAX
        for publication in list(self.publications.values()):
            # What waits in the outbox proves by itself that it follows the stream's end.
            waits = publication.outbox or publication.corrections
            if not publication.doubted or waits or publication.ledger is None:
                continue
            if room <= 0 or self._delivery.trouble is not None:
                return
            room -= 1
            end = self._stream_end(publication, now_ms)
            if end is None:
                continue
            publication.doubted = False
            left = publication.ledger.watermark_ms, publication.correction_ms
            if (end.watermark_ms, end.correction_ms) != left:
                reason = "the bus has lost the stream's newest entries"
                self.read_again(publication, reason, now_ms)

    def _read_end(self, publication: Publication, session: Session, now_ms: int) -> bool:
        """Make sure that the ledger knows the stream's end; return whether it does."""
        if publication.ledger is not None:
            return True
        end = self._stream_end(publication, now_ms)
        if end is None:
            return False
        series = publication.series
        latest_ms = max(self._ports.clock.wall_ms(), session.server_now_ms(now_ms) or 0)
        if (end.watermark_ms or 0) > latest_ms + series.interval_ms:
            # Nothing could be appended before that time comes.
            error = StoreRefused(
                f"the stream of {series} ends in the future ({end.watermark_ms} ms): "
                "rename or delete it"
            )
            self.refuse(publication, error, now_ms)
            return False
        publication.ledger = Ledger(series, end, self._first_fill_bars(series))
        publication.correction_ms = end.correction_ms
        publication.doubted = False
        return True

    def _first_fill_bars(self, series: Series) -> int:
        """Return how many bars a new stream begins with, within the plan's window.

        The window holds for intraday bars alone. What fills a gap is asked for in any
        case: published figures are no hard edge, and TradingView says where it ends.
        """
        if self.limits is None or series.interval_ms >= DAY_MS:
            return self._history_bars
        return min(self._history_bars, self.limits.bars)

    def _stream_end(self, publication: Publication, now_ms: int) -> StreamEnd | None:
        try:
            return self._ports.store.stream_end(publication.series)
        except StoreRefused as error:
            self.refuse(publication, error, now_ms)
        except StoreError as error:
            self._delivery.note_trouble(error)
            # Where only reading fails, writing must not make this a tight loop.
            delay_ms = publication.backoff.next_delay_ms(self._ports.rng)
            publication.retry_at_ms = now_ms + delay_ms
        return None

    def _request(self, publication: Publication, session: Session, now_ms: int) -> None:
        assert publication.ledger is not None
        server_ms = session.server_now_ms(now_ms) or self._ports.clock.wall_ms()
        bars = publication.ledger.begin(server_ms)
        publication.release()
        session.subscribe(publication.series, bars, now_ms)
        publication.session = session
        publication.requested_ms = now_ms
        publication.heard = False
        self.move(publication, "filling")

    def interrupt(self, session: Session, now_ms: int) -> None:
        """A connection is gone: what was asked for on it must be asked for again."""
        for publication in self.publications.values():
            if publication.session is not session:
                continue
            publication.session = None
            publication.liveness.end()
            publication.retry_at_ms = 0
            _end_live(publication, now_ms)
            if publication.state in {"live", "filling"}:
                self.move(publication, "starting", "not connected to TradingView")

    def again(self, publication: Publication, reason: str, now_ms: int) -> None:
        """Ask for the series again, later."""
        publication.release()
        _end_live(publication, now_ms)
        delay_ms = publication.backoff.next_delay_ms(self._ports.rng)
        publication.retry_at_ms = now_ms + delay_ms
        self._notes.tell(
            "series.interrupted",
            level="warning",
            series=publication.series,
            reason=reason,
            retry_in_ms=delay_ms,
        )
        self.move(publication, "starting", reason)

    def read_again(self, publication: Publication, reason: str, now_ms: int) -> None:
        """The stream is not as left, or what waited was let go: begin from its end."""
        self._let_go(publication)
        self.again(publication, reason, now_ms)

    def _let_go(self, publication: Publication) -> None:
        """Forget what waits for the stream; history has it when the series is asked again."""
        if publication.corrections:
            self.tell_dropped(publication, len(publication.corrections))
        publication.outbox.clear()
        publication.corrections.clear()
        publication.forming = None
        publication.ledger = None

    def refuse(self, publication: Publication, error: PublisherError, now_ms: int) -> None:
        """This series cannot be published now; it is tried again after minutes."""
        publication.release()
        _end_live(publication, now_ms)
        publication.backoff.attempt = max(publication.backoff.attempt, REFUSED_ATTEMPT)
        publication.retry_at_ms = now_ms + publication.backoff.next_delay_ms(self._ports.rng)
        publication.forming = None
        if isinstance(error, StoreError):
            # What TradingView refuses from now on takes nothing from the bars it gave before.
            self._let_go(publication)
        if publication.state != "refused" or publication.reason != str(error):
            self._notes.tell(
                "series.refused", level="error", series=publication.series, reason=error
            )
        self.move(publication, "refused", str(error))
        self.answer(publication, accepted=False, message=str(error), code=code_of(error))

    def move(self, publication: Publication, state: SeriesState, reason: str = "") -> None:
        """Note where the series stands, for the catalogue and its hash."""
        publication.state, publication.reason = state, reason
        self._delivery.describe(publication, {"state": state, "reason": reason})

    def tell_dropped(self, publication: Publication, corrections: int) -> None:
        """Tell that corrections were let go."""
        self._notes.tell(
            "correction.dropped",
            level="warning",
            series=publication.series,
            corrections=corrections,
        )

    def shed(self, now_ms: int) -> None:
        """Let go of bars that wait beyond the bound; they are fetched again later."""
        waiting = sum(len(p.outbox) for p in self.publications.values())
        while waiting > OUTBOX_BARS_MAX:
            longest = max(self.publications.values(), key=lambda p: len(p.outbox))
            waiting -= len(longest.outbox)
            self.read_again(longest, "too many bars wait for the bus", now_ms)


def _beyond_plan(limits: Limits | None) -> str:
    assert limits is not None
    return (
        f"the plan ({limits.plan}) allows about {limits.series} series at a time; "
        "unsubscribe some first"
    )


def _holds_place(publication: Publication, now_ms: int) -> bool:
    """Tell whether its history is on the way, so that others have to wait."""
    is_mute = publication.session is not None and not publication.heard
    return publication.filling and not (is_mute and now_ms - publication.requested_ms > MUTE_MS_MAX)


def _end_live(publication: Publication, now_ms: int) -> None:
    """It is live no longer; only if it was for some time, its troubles are forgotten."""
    if publication.live_ms is not None and now_ms - publication.live_ms > STEADY_MS:
        publication.backoff.reset()
    publication.live_ms = None


def _is_due(publication: Publication, now_ms: int) -> bool:
    is_asked = publication.session is not None
    return not is_asked and not publication.outbox and now_ms >= publication.retry_at_ms
