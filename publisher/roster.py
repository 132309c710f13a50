"""The series that are published, from being wanted to being live; one thread owns them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from publisher.commands import Answer, Command
from publisher.core import bars as decided
from publisher.core import session as heard
from publisher.core.session import Session
from publisher.delivery import CORRECTIONS_WAITING_MAX, OUTBOX_BARS_MAX, Delivery
from publisher.errors import PublisherError, StoreError, StoreRefused
from publisher.notes import Notes
from publisher.ports import Ports
from publisher.publication import Publication
from publisher.wire import DAY_MS, HOUR_MS, Bar, Series, SeriesInvalid, SeriesState

FILLS_MAX: Final = 8
"""Series whose history is on the way at the same time; bounds memory and pace."""
RETRIES_MAX: Final = 4
"""How many of them may be series that were interrupted or refused before."""
MUTE_MS_MAX: Final = 5_000
"""A series of which TradingView says nothing for longer holds no other up."""
STEADY_MS: Final = 10_000
"""A series that was live for longer is asked again soon when it is interrupted."""
VERIFIED_MAX: Final = 32
"""Streams compared in one turn, after the bus was away."""
SERIES_MAX: Final = 5_000
REFUSED_ATTEMPT: Final = 7
"""A refused series is asked for again after minutes, not seconds."""


class Roster:
    """Asks for series, runs what their ledgers decide, answers who asked for them."""

    def __init__(
        self, ports: Ports, delivery: Delivery, notes: Notes, history_bars: int, settle_ms: int
    ) -> None:
        self._ports = ports
        self._delivery = delivery
        self._notes = notes
        self._history_bars = history_bars
        self._settle_ms = settle_ms
        self.publications: dict[Series, Publication] = {}

    def add(self, publication: Publication) -> None:
        """Publish one more series."""
        self.publications[publication.series] = publication
        self._move(publication, "starting")

    # Commands.

    def obey(self, command: Command, session: Session | None) -> None:
        """Do what a request asks, series by series; each gets its own answer."""
        for text in command.series:
            try:
                series = Series.parse(text)
            except SeriesInvalid as error:
                answer = Answer(text, accepted=False, message=str(error))
                self._delivery.answer(command.id, answer)
                continue
            if command.action == "subscribe":
                self._subscribe(series, command.id, text)
            else:
                self._unsubscribe(series, command.id, text, session)

    def _subscribe(self, series: Series, request: str, text: str) -> None:
        publication = self.publications.get(series)
        if publication is None and len(self.publications) >= SERIES_MAX:
            message = f"{SERIES_MAX} series are published already; unsubscribe some first"
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
            self._answer(publication, accepted=True, message="live")
        elif publication.state == "refused":
            publication.retry_at_ms = 0

    def _unsubscribe(
        self, series: Series, request: str, text: str, session: Session | None
    ) -> None:
        publication = self.publications.pop(series, None)
        if publication is None:
            message = f"{series} was not published"
            self._delivery.answer(request, Answer(text, accepted=False, message=message))
            return
        if session is not None:
            session.unsubscribe(series)
        self._answer(publication, accepted=False, message="unsubscribed meanwhile")
        publication.wanted_by = "command"
        self._move(publication, "removed")
        self._notes.tell("series.removed", series=series)
        self._delivery.answer(request, Answer(text, accepted=True, message="removed"))

    def _answer(self, publication: Publication, *, accepted: bool, message: str) -> None:
        for request, text in publication.requests:
            self._delivery.answer(request, Answer(text, accepted=accepted, message=message))
        publication.requests.clear()

    # Asking TradingView.

    def start(self, session: Session, now_ms: int) -> None:
        """Ask for series that are due, a few at a time, those without trouble first."""
        self._verify(session, now_ms)
        held = [p for p in self.publications.values() if _holds_place(p, now_ms)]
        room = FILLS_MAX - len(held)
        retries = RETRIES_MAX - sum(p.backoff.attempt > 0 for p in held)
        due = [p for p in self.publications.values() if _is_due(p, now_ms)] if room > 0 else []
        for publication in sorted(due, key=lambda p: p.backoff.attempt):
            retried = publication.backoff.attempt > 0
            if room <= 0 or self._delivery.trouble is not None or (retried and retries <= 0):
                return
            if self._read_end(publication, session, now_ms):
                self._request(publication, session, now_ms)
                room -= 1
                retries -= retried

    def doubt_all(self) -> None:
        """The bus was away: it may have come back without its newest entries."""
        for publication in self.publications.values():
            publication.doubted = True

    def _verify(self, session: Session, now_ms: int) -> None:
        room = VERIFIED_MAX
        for publication in list(self.publications.values()):
            # What waits in the outbox proves by itself that it follows the stream's end.
            if not publication.doubted or publication.outbox or publication.ledger is None:
                continue
            if room <= 0 or self._delivery.trouble is not None:
                return
            room -= 1
            end = self._stream_end(publication, session, now_ms)
            if end is None:
                continue
            publication.doubted = False
            if end.watermark_ms != publication.ledger.watermark_ms:
                reason = "the bus came back without its newest bars"
                self.read_again(publication, reason, session, now_ms)

    def _read_end(self, publication: Publication, session: Session, now_ms: int) -> bool:
        """Make sure that the ledger knows the stream's end; return whether it does."""
        if publication.ledger is not None:
            return True
        end = self._stream_end(publication, session, now_ms)
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
            self.refuse(publication, error, session, now_ms)
            return False
        publication.ledger = decided.Ledger(series, end, self._history_bars)
        publication.correction_ms = end.correction_ms
        publication.doubted = False
        return True

    def _stream_end(
        self, publication: Publication, session: Session, now_ms: int
    ) -> decided.StreamEnd | None:
        try:
            return self._ports.store.stream_end(publication.series)
        except StoreRefused as error:
            self.refuse(publication, error, session, now_ms)
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
        session.unsubscribe(publication.series)
        session.subscribe(publication.series, bars, now_ms)
        publication.requested = True
        publication.requested_ms = now_ms
        publication.heard = False
        self._move(publication, "filling")

    def interrupt_all(self, now_ms: int) -> None:
        """The connection is gone: all that was asked for must be asked for again."""
        for publication in self.publications.values():
            publication.requested = False
            publication.retry_at_ms = 0
            _end_live(publication, now_ms)
            if publication.state in {"live", "filling"}:
                self._move(publication, "starting", "not connected to TradingView")

    def again(
        self, publication: Publication, reason: str, session: Session | None, now_ms: int
    ) -> None:
        """Ask for the series again, later."""
        if session is not None:
            session.unsubscribe(publication.series)
        publication.requested = False
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
        self._move(publication, "starting", reason)

    def read_again(
        self, publication: Publication, reason: str, session: Session | None, now_ms: int
    ) -> None:
        """The stream is not as left, or what waited was let go: begin from its end."""
        self._let_go(publication)
        self.again(publication, reason, session, now_ms)

    def _let_go(self, publication: Publication) -> None:
        """Forget what waits for the stream; history has it when the series is asked again."""
        if publication.corrections:
            self._tell_dropped(publication, len(publication.corrections))
        publication.outbox.clear()
        publication.corrections.clear()
        publication.forming = None
        publication.ledger = None

    def refuse(
        self,
        publication: Publication,
        error: PublisherError,
        session: Session | None,
        now_ms: int,
    ) -> None:
        """This series cannot be published now; it is tried again after minutes."""
        if session is not None:
            session.unsubscribe(publication.series)
        _end_live(publication, now_ms)
        publication.backoff.attempt = max(publication.backoff.attempt, REFUSED_ATTEMPT)
        publication.retry_at_ms = now_ms + publication.backoff.next_delay_ms(self._ports.rng)
        publication.requested = False
        publication.forming = None
        if isinstance(error, StoreError):
            # What TradingView refuses from now on takes nothing from the bars it gave before.
            self._let_go(publication)
        if publication.state != "refused" or publication.reason != str(error):
            self._notes.tell(
                "series.refused", level="error", series=publication.series, reason=error
            )
        self._move(publication, "refused", str(error))
        self._answer(publication, accepted=False, message=str(error))

    def _move(self, publication: Publication, state: SeriesState, reason: str = "") -> None:
        publication.state, publication.reason = state, reason
        self._delivery.describe(publication, {"state": state, "reason": reason})

    # What TradingView says.

    def hear(
        self, event: heard.SeriesEvent, session: Session, wall_ms: int, monotonic_ms: int
    ) -> None:
        """Take what the session heard of one series."""
        publication = self.publications.get(event.series)
        if publication is None or publication.ledger is None:
            return
        publication.heard = True
        ledger = publication.ledger
        at = self._moment(publication, session, wall_ms, monotonic_ms)
        decisions: list[decided.Decision] = []
        match event:
            case heard.Resolved():
                self._learn(publication, event)
            case heard.BarsArrived():
                decisions = ledger.receive(event.bars, at)
            case heard.HistoryAnswered():
                self._learn_mode(publication, event)
                at = self._moment(publication, session, wall_ms, monotonic_ms)
                decisions = ledger.complete(event.exhausted is not None, at)
            case heard.Refused():
                self.refuse(publication, event.error, session, monotonic_ms)
            case heard.Interrupted():
                if event.unanswered:
                    ledger.note_unanswered()
                self.again(publication, event.reason, session, monotonic_ms)
        self._run(publication, decisions, session, monotonic_ms)

    def expire(self, session: Session, now_ms: int, heard_ms: int) -> None:
        """Close by the clock what has ended, as of the last thing heard."""
        wall_ms = self._ports.clock.wall_ms()
        for publication in list(self.publications.values()):
            if publication.requested and publication.ledger is not None:
                at = self._moment(publication, session, wall_ms, heard_ms)
                self._run(publication, publication.ledger.expire(at), session, now_ms)

    def _moment(
        self, publication: Publication, session: Session, wall_ms: int, monotonic_ms: int
    ) -> decided.Moment:
        server_ms = session.server_now_ms(monotonic_ms)
        settle_ms = (self._settle_ms + publication.update_period_ms) * session.speed
        return decided.Moment(wall_ms, wall_ms if server_ms is None else server_ms, int(settle_ms))

    def _learn(self, publication: Publication, event: heard.Resolved) -> None:
        assert publication.ledger is not None
        info = event.info
        publication.ledger.set_delay(info.delay_ms)
        fields = {name: str(value) for name, value in asdict(info).items()}
        self._delivery.describe(publication, fields)
        if info != publication.info and (info.source != info.name or info.delay_ms):
            self._notes.tell(
                "series.substituted",
                level="warning",
                series=publication.series,
                source=info.source,
                delay_ms=info.delay_ms,
            )
        publication.info = info

    def _learn_mode(self, publication: Publication, event: heard.HistoryAnswered) -> None:
        publication.update_period_ms = event.update_period_ms
        self._delivery.describe(publication, {"update_mode": event.update_mode})

    # What the ledger decides.

    def _run(
        self,
        publication: Publication,
        decisions: Sequence[decided.Decision],
        session: Session,
        now_ms: int,
    ) -> None:
        for place, decision in enumerate(decisions):
            match decision:
                case decided.Publish():
                    publication.outbox.append(decision.bar)
                    publication.forming = None
                case decided.Form():
                    publication.forming = decision.bar
                    if self._jumped(publication, decision.bar, now_ms):
                        publication.jumped_ms = now_ms
                        self._check(publication, session, decisions[place + 1 :])
                        return
                case decided.Correct():
                    self._correct(publication, decision)
                case decided.AskMore():
                    session.request_more(publication.series, decision.bars, now_ms)
                case decided.FillDone():
                    self._go_live(publication, decision.published, session, now_ms)
                case decided.Reload():
                    self.again(publication, decision.reason, session, now_ms)
                case decided.Refuse():
                    self._tell_refused(publication, decision)
                case decided.Abandon():
                    self._tell_abandoned(publication, decision)

    def shed(self, session: Session | None, now_ms: int) -> None:
        """Let go of bars that wait beyond the bound; they are fetched again later."""
        waiting = sum(len(p.outbox) for p in self.publications.values())
        while waiting > OUTBOX_BARS_MAX:
            longest = max(self.publications.values(), key=lambda p: len(p.outbox))
            waiting -= len(longest.outbox)
            self.read_again(longest, "too many bars wait for the bus", session, now_ms)

    def _jumped(self, publication: Publication, bar: Bar, now_ms: int) -> bool:
        """Tell whether bars may have been missed before this one.

        TradingView does not say when it lost something. A pause in trading looks
        the same, so the check costs one request and comes ever more seldom where
        it finds nothing.
        """
        previous_ms = bar.previous_open_time_ms
        if publication.state != "live" or previous_ms is None:
            return False
        span_ms = bar.open_time_ms - previous_ms
        if span_ms <= bar.series.interval_ms + HOUR_MS * (bar.series.interval_ms >= DAY_MS):
            return False
        if bar.open_time_ms <= publication.checked_ms or now_ms < publication.check_at_ms:
            return False
        publication.checked_ms = bar.open_time_ms
        publication.check_at_ms = now_ms + publication.checks.next_delay_ms(self._ports.rng)
        return True

    def _check(
        self,
        publication: Publication,
        session: Session,
        passed: Sequence[decided.Decision] = (),
    ) -> None:
        """Ask for the newest bars anew; nothing newer is published before the answer."""
        self._notes.tell("series.checked", series=publication.series)
        session.unsubscribe(publication.series)
        publication.requested = False
        publication.retry_at_ms = 0
        if any(isinstance(decision, decided.Publish) for decision in passed):
            # The ledger is past the jump already: begin again from the stream's end.
            publication.ledger = None
        self._move(publication, "starting", "bars may have been missed")

    def _correct(self, publication: Publication, decision: decided.Correct) -> None:
        bar = decision.bar
        if len(publication.corrections) >= CORRECTIONS_WAITING_MAX:
            publication.corrections.popleft()
            self._tell_dropped(publication, 1)
        publication.corrections.append(bar)
        self._notes.tell(
            "bar.late" if decision.late else "bar.corrected",
            series=publication.series,
            open_time_ms=bar.open_time_ms,
            revision=bar.revision,
        )

    def _go_live(
        self, publication: Publication, published: int, session: Session, now_ms: int
    ) -> None:
        publication.live_ms = now_ms
        if published:
            publication.checks.reset()
        if publication.backoff.attempt >= REFUSED_ATTEMPT:
            publication.backoff.reset()
        self._move(publication, "live")
        self._notes.tell("series.filled", series=publication.series, bars=published)
        self._answer(publication, accepted=True, message=f"live, {published} bars of history")
        jumped_ms, publication.jumped_ms = publication.jumped_ms, None
        if published and jumped_ms is not None:
            # Bars were missed indeed, so others may have missed the last of theirs unseen.
            for other in self.publications.values():
                if other.state == "live" and other.requested_ms < jumped_ms:
                    self._check(other, session)

    def _tell_dropped(self, publication: Publication, corrections: int) -> None:
        self._notes.tell(
            "correction.dropped",
            level="warning",
            series=publication.series,
            corrections=corrections,
        )

    def _tell_refused(self, publication: Publication, decision: decided.Refuse) -> None:
        self._notes.tell(
            "bar.refused",
            level="warning",
            series=publication.series,
            open_time_ms=decision.open_time_ms,
            reason=decision.reason,
        )

    def _tell_abandoned(self, publication: Publication, decision: decided.Abandon) -> None:
        self._notes.tell(
            "gap.abandoned",
            level="error",
            series=publication.series,
            after_ms=decision.after_ms,
            before_ms=decision.before_ms,
        )


def _holds_place(publication: Publication, now_ms: int) -> bool:
    """Tell whether its history is on the way, so that others have to wait."""
    is_mute = publication.requested and not publication.heard
    return publication.filling and not (is_mute and now_ms - publication.requested_ms > MUTE_MS_MAX)


def _end_live(publication: Publication, now_ms: int) -> None:
    """It is live no longer; only if it was for some time, its troubles are forgotten."""
    if publication.live_ms is not None and now_ms - publication.live_ms > STEADY_MS:
        publication.backoff.reset()
    publication.live_ms = None


def _is_due(publication: Publication, now_ms: int) -> bool:
    return (
        not publication.requested and not publication.outbox and now_ms >= publication.retry_at_ms
    )
