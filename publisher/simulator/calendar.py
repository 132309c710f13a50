"""Trading sessions: when each market is open, in UTC, through daylight saving."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from publisher.simulator.holidays import closed_days, half_days

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
_EPOCH: Final = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Session:
    """One trading day. Times are ms since the epoch, UTC."""

    day: date
    """The trading date; an evening opening belongs to the next day."""
    open_ms: int
    close_ms: int
    extended_open_ms: int
    extended_close_ms: int


@dataclass(frozen=True, slots=True)
class Venue:
    """The hours of a market, in minutes since local midnight of the trading date."""

    timezone: str
    open: int
    """Negative where the session opens on the evening before."""
    close: int
    holidays: str = "none"
    half_day_close: int = 0
    lunch: tuple[int, int] | None = None
    extended: tuple[int, int] | None = None
    """Hours of the extended session, None where there is none."""

    @property
    def round_the_clock(self) -> bool:
        """True for a 24x7 market."""
        return self.timezone == "Etc/UTC" and self.close - self.open == 1440

    @property
    def session_text(self) -> str:
        """The regular session as TradingView writes it."""
        return "24x7" if self.round_the_clock else session_text(self.open, self.close)


def session_text(begin: int, end: int) -> str:
    """Write hours given in minutes as `HHMM-HHMM`."""
    return "-".join(f"{m % 1440 // 60:02}{m % 60:02}" for m in (begin, end))


def is_trading_day(venue: Venue, day: date) -> bool:
    """Tell whether a venue has a session with this trading date."""
    if venue.round_the_clock:
        return True
    return day.weekday() < 5 and day not in closed_days(venue.holidays, day.year)


@lru_cache(maxsize=8192)
def session_on(venue: Venue, day: date) -> Session | None:
    """Return the session of a trading date, None where the market is closed."""
    if not is_trading_day(venue, day):
        return None
    if venue.round_the_clock:
        midnight = (day.toordinal() - _EPOCH) * DAY_MS
        return Session(day, midnight, midnight + DAY_MS, midnight, midnight + DAY_MS)
    begin, end = venue.open, venue.close
    extended_begin, extended_end = venue.extended or (begin, end)
    if day in half_days(venue.holidays, day.year):
        extended_end -= end - venue.half_day_close
        end = venue.half_day_close
    opens = _utc_ms(venue, day, begin)
    # No zone changes its clocks inside a session, so differences are exact.
    return Session(
        day,
        opens,
        opens + (end - begin) * MINUTE_MS,
        opens - (begin - extended_begin) * MINUTE_MS,
        opens + (extended_end - begin) * MINUTE_MS,
    )


def _utc_ms(venue: Venue, day: date, minutes: int) -> int:
    days, minutes = divmod(minutes, 1440)
    local = datetime(
        day.year, day.month, day.day, minutes // 60, minutes % 60, tzinfo=ZoneInfo(venue.timezone)
    ) + timedelta(days=days)
    return int(local.timestamp() * 1000)


def sessions_from(venue: Venue, from_ms: int) -> Iterator[Session]:
    """Yield sessions without end, the first being the one whose close is after a time."""
    day = utc_day(from_ms) - timedelta(days=2)
    while True:
        session = session_on(venue, day)
        if session is not None and session.extended_close_ms > from_ms:
            yield session
        day += timedelta(days=1)


def sessions_back(venue: Venue, before_ms: int, listed: date) -> Iterator[Session]:
    """Yield the sessions that open before a time, newest first, down to a listing."""
    day = utc_day(before_ms) + timedelta(days=2)
    while day >= listed:
        session = session_on(venue, day)
        if session is not None and session.extended_open_ms < before_ms:
            yield session
        day -= timedelta(days=1)


def utc_day(time_ms: int) -> date:
    """Return the UTC date of a time in ms."""
    return date.fromordinal(_EPOCH + time_ms // DAY_MS)


@lru_cache(maxsize=65536)
def _offset_of_hour(timezone: str, hour: int) -> int:
    moment = datetime.fromtimestamp(hour * 3600, UTC).astimezone(ZoneInfo(timezone))
    offset = moment.utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def utc_offset_s(timezone: str, time_s: int) -> int:
    """Return how far a zone's clocks are ahead of UTC, seconds."""
    return 0 if timezone == "Etc/UTC" else _offset_of_hour(timezone, time_s // 3600)
