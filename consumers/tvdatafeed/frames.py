"""The data frames that tvDatafeed's programs know; needs pandas."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from consumers.errors import FrameUnavailable

try:
    import pandas as pd
except ImportError as error:
    raise FrameUnavailable(
        "consumers.tvdatafeed needs pandas: install it with `pip install 'tvbus[pandas]'`"
    ) from error

if TYPE_CHECKING:
    Column = pd.Series[Any]
else:
    Column = pd.Series

Row = tuple[int, float, float, float, float, float | None]
"""Open time in ms, prices, volume."""


class BarColumn(Column):
    """A column that takes `data.open[0]` for its first value, as pandas did before version 3.

    Programs written for tvDatafeed do so; with times as index no number is a label.
    """

    @property
    def _constructor(self) -> type[BarColumn]:
        return BarColumn

    @property
    def _constructor_expanddim(self) -> type[BarFrame]:
        return BarFrame

    def __getitem__(self, key: Any) -> Any:
        """Return what is labelled so, or what stands there."""
        if isinstance(key, int) and isinstance(self.index, pd.DatetimeIndex):
            return self.iloc[key]
        return super().__getitem__(key)


class BarFrame(pd.DataFrame):
    """A data frame whose columns are `BarColumn`; in all else a data frame."""

    @property
    def _constructor(self) -> type[BarFrame]:
        return BarFrame

    @property
    def _constructor_sliced(self) -> type[BarColumn]:
        return BarColumn


def frame_of(symbol: str, rows: Iterable[Row], *, utc: bool) -> BarFrame:
    """Return bars as tvDatafeed does: symbol, open, high, low, close, volume by `datetime`.

    The index holds open times, naive in the machine's own time zone, or aware in UTC. A
    missing volume is 0, as it is there.
    """
    bars = list(rows)
    values: dict[str, Any] = {"symbol": pd.Series([symbol] * len(bars), dtype="str")}
    for place, name in enumerate(("open", "high", "low", "close"), 1):
        values[name] = pd.Series([bar[place] for bar in bars], dtype="float64")
    values["volume"] = pd.Series([bar[5] or 0.0 for bar in bars], dtype="float64")
    frame = BarFrame(values)
    frame.index = _times([bar[0] for bar in bars], utc=utc)
    return frame


def _times(opened_ms: list[int], *, utc: bool) -> pd.DatetimeIndex:
    if utc:
        return pd.DatetimeIndex(pd.to_datetime(opened_ms, unit="ms", utc=True), name="datetime")
    aware = (datetime.fromtimestamp(ms / 1000, UTC).astimezone() for ms in opened_ms)
    local = [time.replace(tzinfo=None) for time in aware]
    return pd.DatetimeIndex(local, name="datetime")
