"""Bars as CSV, one file for each series, sorted by open time.

A newer bar is appended, in one write. Any other, which is rare, is looked for by
halving, since the lines are sorted; where the file must change, a new one takes its
place at once. So nothing is kept in memory between two calls, and another process
may have written in the meantime.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from consumers.core.rows import COLUMNS, Row, by_series, moment, newest, since_epoch_ms
from consumers.errors import SinkUnavailable
from consumers.sinks import files
from consumers.sinks.sink import BATCH_BARS, Sink
from publisher.wire import Bar, Series

log = structlog.get_logger("consumers")

HEADER: Final = (",".join(COLUMNS) + "\n").encode()
LINE_BYTES_MAX: Final = 4096
"""No row is as long; what is longer at the end of a file is none of ours."""
OPENINGS_MAX: Final = 20
"""How often a file may be replaced by others while it is being opened."""


class CsvSink(Sink):
    """Append each bar to the file of its series, `DIR/SERIES.csv`.

    A call returns when the rows are on the disk (fsync), so neither kill -9 nor a
    power cut takes them. A last line that was cut off by either is removed.
    """

    batch = BATCH_BARS

    def __init__(self, folder: Path) -> None:
        """Make the directory where there is none. Raises UsageError."""
        files.make_folder(folder)
        self._folder = folder
        self._known: set[Series] = set()

    def write(self, bars: Sequence[Bar]) -> None:
        """Keep bars. Raises SinkUnavailable and SinkRejected."""
        for series, rows in by_series(bars).items():
            path = self._folder / f"{files.file_name(series)}.csv"
            with files.told(path), _opened(path) as file:
                if series not in self._known:
                    files.check_case(path)
                    self._known.add(series)
                try:
                    _store(path, file, newest(rows))
                except (ValueError, TypeError) as error:
                    raise SinkUnavailable(
                        f"{str(path)!r} has a line that is none of ours, {error}: "
                        "mend it or move it away"
                    ) from error


def _store(path: Path, file: BinaryIO, rows: dict[int, Row]) -> None:
    last_ms = _mend(path, file)
    newer = [row for time_ms, row in rows.items() if time_ms > last_ms]
    changed = list(_changed(file, rows.values(), last_ms))
    if changed:
        _rewrite(path, file, [*changed, *newer])
    elif newer:
        file.seek(0, os.SEEK_END)
        file.write(b"".join(map(_line, newer)))
        _sync(file)


def _mend(path: Path, file: BinaryIO) -> int:
    """Make the file end with a whole line; return the last row's open time, -1 for none."""
    start = file.read(len(HEADER))
    if start != HEADER:
        if not HEADER.startswith(start):
            raise SinkUnavailable(f"{str(path)!r} does not begin as ours do: move it away")
        file.truncate(0)
        file.seek(0)
        file.write(HEADER)
        _sync(file)
        files.sync_folder(path.parent)
        return -1
    size = file.seek(0, os.SEEK_END)
    begin = max(len(HEADER) - 1, size - 2 * LINE_BYTES_MAX)
    file.seek(begin)
    *lines, torn = file.read().split(b"\n")
    if not lines:
        raise ValueError("it does not end")
    if torn:
        file.truncate(size - len(torn))
        log.warning("sink.mended", file=str(path), cut=torn.decode(errors="replace"))
    return _parse(lines[-1]).open_time_ms if lines[-1] else -1


def _changed(file: BinaryIO, rows: Iterable[Row], last_ms: int) -> Iterator[Row]:
    """Yield the rows up to the last one held that the file has not, or not so."""
    rows = [row for row in rows if row.open_time_ms <= last_ms]
    if not rows:
        return
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for row in rows:
            line = _find(content, row.open_time_ms)
            if not line:
                yield row
            elif row.replaces(held := _parse(line)):
                yield row.over(held)


def _find(content: mmap.mmap, open_time_ms: int) -> bytes:
    """Return the line of an open time, nothing where there is none."""
    low, high = len(HEADER), len(content)
    while low < high:
        middle = (low + high) // 2
        begin = content.rfind(b"\n", low - 1, middle) + 1
        end = content.find(b"\n", middle) + 1
        time_ms = _time_ms(content[begin:end])
        if time_ms == open_time_ms:
            return content[begin : end - 1]
        if time_ms < open_time_ms:
            low = end
        else:
            high = begin
    return b""


def _rewrite(path: Path, file: BinaryIO, rows: Iterable[Row]) -> None:
    file.seek(len(HEADER))
    lines = {_time_ms(line): line for line in file}
    lines |= {row.open_time_ms: _line(row) for row in rows}
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as copy:
        copy.write(HEADER)
        copy.writelines(lines[time_ms] for time_ms in sorted(lines))
        _sync(copy)
    files.replace_file(part, path)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open and lock the file that is at the path now; made where there is none."""
    for _ in range(OPENINGS_MAX):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with os.fdopen(handle, "r+b") as file:
            files.lock(handle, path)
            if path.exists() and os.path.samestat(path.stat(), os.fstat(handle)):
                yield file
                return
    raise SinkUnavailable(f"{str(path)!r} is being replaced all the time")


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _line(row: Row) -> bytes:
    end = "" if row.end_time_ms is None else _text(row.end_time_ms)
    cells = (
        _text(row.open_time_ms),
        *(repr(price) for price in row[1:5]),
        "" if row.volume is None else repr(row.volume),
        end,
        _text(row.received_ms),
        row.closed_by,
        "true" if row.gap else "false",
        str(row.revision),
    )
    return (",".join(cells) + "\n").encode()


def _parse(line: bytes) -> Row:
    cells = line.decode(errors="replace").split(",")
    opened, first, high, low, close, volume, end, received, closed_by, gap, revision = cells
    return Row(
        _read(opened),
        *(float(first), float(high), float(low), float(close)),
        float(volume) if volume else None,
        _read(end) if end else None,
        _read(received),
        closed_by,
        gap == "true",
        int(revision),
    )


def _time_ms(line: bytes) -> int:
    return _read(line.partition(b",")[0].decode(errors="replace"))


def _text(time_ms: int) -> str:
    return moment(time_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read(text: str) -> int:
    return since_epoch_ms(datetime.fromisoformat(text))
