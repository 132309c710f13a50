"""Bars as pandas' data frames; pandas is an extra, loaded only where it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from consumers.errors import FrameUnavailable
from publisher.wire import Bar, Series

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

_PRICES: Final = ("open", "high", "low", "close", "volume")


def require_frames(who: str) -> None:
    """Raise FrameUnavailable where pandas is not installed."""
    try:
        import pandas  # noqa: F401, PLC0415 - see above
    except ImportError as error:
        raise FrameUnavailable(
            f"{who} needs pandas: install it with `pip install 'tvbus[pandas]'`"
        ) from error


def frame_by_time(bars: Iterable[Bar]) -> pd.DataFrame:
    """Return bars of one series as rows, indexed by open time in UTC; a missing volume is NaN."""
    import pandas as pd  # noqa: PLC0415 - see above

    every = list(bars)
    index = pd.to_datetime([x.open_time_ms for x in every], unit="ms", utc=True)
    return _prices(every, pd.DatetimeIndex(index, name="open_time"))


def frame_by_series(bars: Mapping[Series, Bar]) -> pd.DataFrame:
    """Return one bar of each series as rows, indexed by the series' text, with `open_time`."""
    import pandas as pd  # noqa: PLC0415 - see above

    frame = _prices(list(bars.values()), pd.Index([str(x) for x in bars], name="series", dtype=str))
    opened = pd.to_datetime([x.open_time_ms for x in bars.values()], unit="ms", utc=True)
    frame.insert(0, "open_time", opened)
    return frame


def _prices(bars: list[Bar], index: pd.Index) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415 - see above

    columns = {
        name: pd.array([getattr(bar, name) for bar in bars], dtype="float64") for name in _PRICES
    }
    return pd.DataFrame(columns, index=index)
