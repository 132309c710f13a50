"""Which series a handler wants."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from consumers.errors import PatternInvalid
from publisher.wire import Series, SeriesInvalid, parse_interval


@dataclass(frozen=True, slots=True)
class Pattern:
    """One series by name, or all whose text form matches, such as `*-BINANCE-1m`.

    A name counts whether or not the publisher knows the series yet; what a
    pattern means is found in the catalogue.
    """

    text: str
    series: Series | None
    """The series where the text names exactly one."""

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read a series in any of its spellings, or a pattern with `*`, `?` or `[…]`.

        Raises PatternInvalid.
        """
        typed = text.strip()
        if not any(mark in typed for mark in "*?["):
            try:
                series = Series.parse(typed)
            except SeriesInvalid as error:
                raise PatternInvalid(f"{error}, or a pattern such as *-BINANCE-1m") from None
            return cls(str(series), series)
        if typed.rfind("@") > typed.rfind("-") and ":" in typed:
            name, _, interval = typed.rpartition("@")
            exchange, _, symbol = name.partition(":")
            name = f"{symbol}-{exchange}"
        else:
            name, _, interval = typed.rpartition("-")
        return cls(f"{name.upper()}-{_canonical(interval)}" if name else typed, None)

    def matches(self, series: Series) -> bool:
        """Tell whether the handler wants this series."""
        if self.series is not None:
            return self.series == series
        return fnmatchcase(str(series), self.text)


def _canonical(interval: str) -> str:
    try:
        return parse_interval(interval)
    except SeriesInvalid:
        return interval
