"""Bars of history as text for people, and as CSV, JSON and Parquet for programs."""

from __future__ import annotations

import csv
import io
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson

from consumers.errors import SinkUnavailable, UsageError
from publisher.wire.answers import HistoryBar

KEYS: Final = ("t", "o", "h", "l", "c", "v", "e")
"""The contract's keys, in the order of `HistoryBar`."""
COLUMNS: Final = ("open_time", "open", "high", "low", "close", "volume", "end_time")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def table(bars: Sequence[HistoryBar]) -> str:
    """Return aligned lines under a heading; every digit is shown."""
    rows: list[tuple[str, ...]] = [("open time (UTC)", *COLUMNS[1:6])]
    for bar in bars:
        opened = _time(bar.open_time_ms).replace("T", " ")
        rows.append((opened, *(_number(value) for value in bar[1:6])))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for first, *numbers in rows:
        cells = (text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *cells]) + "\n")
    return "".join(lines)


def to_csv(bars: Sequence[HistoryBar]) -> bytes:
    """Return CSV with a heading; times are ISO texts in UTC, what is missing is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for bar in bars:
        ended = None if bar.end_time_ms is None else _time(bar.end_time_ms)
        writer.writerow((_time(bar.open_time_ms), *bar[1:6], ended))
    return stream.getvalue().encode()


def to_json(bars: Sequence[HistoryBar]) -> bytes:
    """Return a JSON array of objects with the contract's keys, one on each line."""
    lines = [orjson.dumps(dict(zip(KEYS, bar, strict=True))) for bar in bars]
    return b"[\n" + b",\n".join(lines) + b"\n]\n" if lines else b"[]\n"


def to_parquet(bars: Sequence[HistoryBar]) -> bytes:
    """Return Parquet; times are timestamps in UTC. Raises UsageError without pyarrow."""
    arrow, parquet = _pyarrow()
    time, number = arrow.timestamp("ms", tz="UTC"), arrow.float64()
    columns = zip(*bars, strict=True) if bars else [()] * len(COLUMNS)
    arrays = [
        arrow.array(values, time if name.endswith("_time") else number)
        for name, values in zip(COLUMNS, columns, strict=True)
    ]
    stream = io.BytesIO()
    parquet.write_table(arrow.table(dict(zip(COLUMNS, arrays, strict=True))), stream)
    return stream.getvalue()


FORMATS: Final[Mapping[str, Callable[[Sequence[HistoryBar]], bytes]]] = {
    ".csv": to_csv,
    ".json": to_json,
    ".parquet": to_parquet,
}


def check_target(path: Path) -> None:
    """Raise UsageError where nothing could be written, before anything is asked for."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--out must end in {', '.join(FORMATS)}, was {str(path)!r}")
    if not path.parent.is_dir():
        raise UsageError(f"there is no directory {str(path.parent)!r}: make it first")
    if path.is_dir():
        raise UsageError(f"{str(path)!r} is a directory: name a file")
    if path.suffix.lower() == ".parquet":
        _pyarrow()


def save(path: Path, bars: Sequence[HistoryBar]) -> None:
    """Write a file in the format of its ending, whole or not at all. Raises SinkUnavailable."""
    content = FORMATS[path.suffix.lower()](bars)
    # Beside it, because only within one file system a file takes another's place at once.
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise SinkUnavailable(f"cannot write {str(path)!r}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # noqa: PLC0415 - an extra, loaded only where it is used
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            "Parquet needs pyarrow: install it with `pip install 'tvbus[parquet]'`"
        ) from error
    return pyarrow, pyarrow.parquet


def _time(time_ms: int) -> str:
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.isoformat().replace("+00:00", "Z")


def _number(value: float | None) -> str:
    return "-" if value is None else repr(value).removesuffix(".0")
