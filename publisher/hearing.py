"""What TradingView says of the series, and what their ledgers make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Final

from publisher.core import decisions as decided
from publisher.core import session as heard
from publisher.core.delays import SUSPICIOUS_MS, stated_delay
from publisher.core.session import Session
from publisher.delivery import CORRECTIONS_WAITING_MAX, Delivery
from publisher.errors import SeriesRefused
from publisher.notes import Notes
from publisher.ports import Ports
from publisher.publication import Publication
from publisher.roster import REFUSED_ATTEMPT, Roster
from publisher.watching import Watch
from publisher.wire import DAY_MS, HOUR_MS, Bar

MEASURED_STEP_MS: Final = 1_000
"""A measured delay that changed by less is not told again."""


class Hearing:
    """Hands what was heard to the ledgers and runs what they decide; one thread owns it."""

    def __init__(
        self,
        ports: Ports,
        delivery: Delivery,
        notes: Notes,
        roster: Roster,
        watch: Watch,
        *,
        settle_ms: int,
        require_realtime: bool = False,
    ) -> None:
        self._ports = ports
        self._delivery = delivery
        self._notes = notes
        self._roster = roster
        self._settle_ms = settle_ms
        self._watch = watch
        self._require_realtime = require_realtime

    def hear(
        self, event: heard.SeriesEvent, session: Session, wall_ms: int, monotonic_ms: int
    ) -> None:
        """Take what the session heard of one series."""
        publication = self._roster.publications.get(event.series)
        if publication is None or publication.ledger is None:
            return
        publication.heard = True
        ledger = publication.ledger
        at = self._moment(publication, session, wall_ms, monotonic_ms)
        decisions: list[decided.Decision] = []
        match event:
            case heard.Resolved():
                self._learn(publication, event)
                if self._too_late(publication, monotonic_ms):
                    return
            case heard.BarsArrived():
                at = replace(at, stated_ms=event.server_time_ms)
                if self._watch.hear(publication, at):
                    # Nobody knows what was said meanwhile; history has it.
                    self.check(publication, "data came again after a silence")
                    return
                decisions = ledger.receive(event.bars, at)
            case heard.HistoryAnswered():
                self._learn_mode(publication, event)
                if self._too_late(publication, monotonic_ms):
                    return
                at = self._moment(publication, session, wall_ms, monotonic_ms)
                decisions = ledger.complete(event.exhausted is not None, at)
            case heard.Refused():
                self._roster.refuse(publication, event.error, monotonic_ms)
            case heard.Interrupted():
                if event.unanswered:
                    ledger.note_unanswered()
                self._roster.again(publication, event.reason, monotonic_ms)
        self._run(publication, decisions, at, monotonic_ms, session.speed)

    def expire(self, session: Session, now_ms: int, heard_ms: int) -> None:
        """Close by the clock what has ended, as of the last thing heard on this connection."""
        wall_ms = self._ports.clock.wall_ms()
        for publication in list(self._roster.publications.values()):
            if publication.session is session and publication.ledger is not None:
                at = self._moment(publication, session, wall_ms, heard_ms)
                decisions = publication.ledger.expire(at)
                self._run(publication, decisions, at, now_ms, session.speed)

    def listen(self, session: Session, now_ms: int, heard_ms: int) -> bool:
        """Look for series whose data stays away; return whether the connection is mute.

        As of the last thing heard on it: what was not read yet is no silence.
        """
        server_ms = session.server_now_ms(heard_ms)
        if server_ms is None:
            return False
        publications = [p for p in self._roster.publications.values() if p.session is session]
        silence = self._watch.silence(publications, server_ms)
        if silence.whole:
            return True
        for publication in silence.series:
            self._roster.again(publication, "no data though the market is open", now_ms)
        due = self._watch.due(publications, server_ms)
        if due is not None and not any(p.filling for p in self._roster.publications.values()):
            self.check(due, "its newest bars are compared with history")
        return False

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
        known = publication.info
        if info.source != info.name and (known is None or info.source != known.source):
            self._notes.tell(
                "series.substituted",
                level="warning",
                series=publication.series,
                source=info.source,
            )
        publication.info = info
        self._watch.learn(publication, info)
        self._tell_delay(publication)

    def _learn_mode(self, publication: Publication, event: heard.HistoryAnswered) -> None:
        publication.update_period_ms = event.update_period_ms
        publication.update_mode = event.update_mode
        self._tell_delay(publication)

    def _tell_delay(self, publication: Publication) -> None:
        symbol_delay_ms = publication.info.delay_ms if publication.info else 0
        stated = stated_delay(symbol_delay_ms, publication.update_mode)
        fields = {"stated_delay_ms": str(stated.delay_ms), "update_mode": publication.update_mode}
        self._delivery.describe(publication, fields)
        if stated != publication.stated and stated.late:
            self._notes.tell(
                "series.delayed",
                level="warning",
                series=publication.series,
                delay_ms=stated.delay_ms,
                end_of_day=stated.end_of_day,
            )
        publication.stated = stated

    def _too_late(self, publication: Publication, now_ms: int) -> bool:
        """Refuse a series that is not in real time where only such are wanted."""
        if not (self._require_realtime and publication.stated.late):
            return False
        error = SeriesRefused(
            f"{publication.series} {publication.stated}, and TVBUS_REQUIRE_REALTIME is set: "
            "sign in with a plan that has it in real time, or unset it"
        )
        self._roster.refuse(publication, error, now_ms)
        return True

    def _measure(self, publication: Publication, bar: Bar, at: decided.Moment) -> None:
        """Learn from a bar that began to form how late the data really is."""
        is_new = bar.open_time_ms > publication.opened_ms
        publication.opened_ms = max(publication.opened_ms, bar.open_time_ms)
        if not is_new or publication.state != "live":
            return
        publication.meter.note(bar.open_time_ms, at.server_ms)
        measured_ms = publication.meter.measured_ms
        if measured_ms is None:
            return
        told_ms = publication.measured_told_ms
        if told_ms is None or abs(measured_ms - told_ms) >= MEASURED_STEP_MS:
            publication.measured_told_ms = measured_ms
            self._delivery.describe(publication, {"measured_delay_ms": str(measured_ms)})
        is_late = measured_ms - publication.stated.delay_ms > SUSPICIOUS_MS
        if is_late and not publication.late_told:
            self._notes.tell(
                "series.delayed",
                level="warning",
                series=publication.series,
                delay_ms=publication.stated.delay_ms,
                measured_delay_ms=measured_ms,
            )
        publication.late_told = is_late

    # What the ledger decides.

    def _run(
        self,
        publication: Publication,
        decisions: Sequence[decided.Decision],
        at: decided.Moment,
        now_ms: int,
        speed: float,
    ) -> None:
        for place, decision in enumerate(decisions):
            match decision:
                case decided.Publish():
                    publication.outbox.append(decision.bar)
                    publication.forming = None
                case decided.Form():
                    publication.forming = decision.bar
                    self._measure(publication, decision.bar, at)
                    if self._jumped(publication, decision.bar, now_ms):
                        publication.jumped_ms = now_ms
                        self.check(publication, "bars may have been missed", decisions[place + 1 :])
                        return
                case decided.Correct():
                    self._correct(publication, decision)
                case decided.AskMore():
                    assert publication.session is not None
                    publication.session.request_more(publication.series, decision.bars, now_ms)
                case decided.FillDone():
                    self._watch.begin(publication, decision.published, at, speed)
                    self._go_live(publication, decision.published, now_ms)
                case decided.Reload():
                    self._roster.again(publication, decision.reason, now_ms)
                case decided.Refuse():
                    self._tell_refused(publication, decision)
                case decided.Abandon():
                    self._tell_abandoned(publication, decision)

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

    def check(
        self, publication: Publication, reason: str, passed: Sequence[decided.Decision] = ()
    ) -> None:
        """Ask for the newest bars anew; nothing newer is published before the answer."""
        self._notes.tell("series.checked", series=publication.series, reason=reason)
        publication.release()
        publication.retry_at_ms = 0
        if any(isinstance(decision, decided.Publish) for decision in passed):
            # The ledger is past the jump already: begin again from the stream's end.
            publication.ledger = None
        self._roster.move(publication, "starting", reason)

    def _correct(self, publication: Publication, decision: decided.Correct) -> None:
        bar = decision.bar
        if len(publication.corrections) >= CORRECTIONS_WAITING_MAX:
            publication.corrections.popleft()
            self._roster.tell_dropped(publication, 1)
        publication.corrections.append(bar)
        self._notes.tell(
            "bar.late" if decision.late else "bar.corrected",
            series=publication.series,
            open_time_ms=bar.open_time_ms,
            revision=bar.revision,
        )

    def _go_live(self, publication: Publication, published: int, now_ms: int) -> None:
        publication.live_ms = now_ms
        if published:
            publication.checks.reset()
        if publication.backoff.attempt >= REFUSED_ATTEMPT:
            publication.backoff.reset()
        self._roster.move(publication, "live")
        self._notes.tell("series.filled", series=publication.series, bars=published)
        self._roster.answer(
            publication,
            accepted=True,
            message=f"live, {published} bars of history{_honesty(publication)}",
        )
        jumped_ms, publication.jumped_ms = publication.jumped_ms, None
        if published and jumped_ms is not None:
            # Bars were missed indeed, so others may have missed the last of theirs unseen.
            for other in self._roster.publications.values():
                if other.state == "live" and other.requested_ms < jumped_ms:
                    self.check(other, "another series missed bars")

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
            before_bars=True,  # who reads of a gap finds what tells of it
            series=publication.series,
            after_ms=decision.after_ms,
            before_ms=decision.before_ms,
        )


def _honesty(publication: Publication) -> str:
    """What must be said of a series' data, where it is late or from elsewhere."""
    info, parts = publication.info, []
    if info is not None and info.source != info.name:
        parts.append(f"from {info.source}")
    if publication.stated.late:
        parts.append(str(publication.stated))
    return "".join(f", {part}" for part in parts)
