"""Bars as Parquet, in the directories that pandas, polars and DuckDB know how to read.

    DIR/exchange=BINANCE/symbol=BTCUSDT/interval=1m/month=2026-11/2026-11-05.parquet

Every row has one file where it belongs, and a file is only ever replaced as a whole,
so no row can stand twice and no reader sees half a file. Where a month has many rows
(intervals below half an hour) the running month is in files of a day, to keep small
what each bar costs; a month that is over becomes one file, `2026-10.parquet`.

That last step changes several files, so it is made in an order that a kill cannot
harm: the complete month is written beside the directories, its presence says that the
days do not count any more, the days are removed, the month takes their place. Whoever
opens the directory next, or writes to the series, finishes what was begun.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from consumers.core.rows import COLUMNS, Row, by_series, moment, newest, since_epoch_ms
from consumers.errors import SinkUnavailable, UsageError
from consumers.sinks import files
from consumers.sinks.sink import BATCH_BARS, Sink
from publisher.wire import MINUTE_MS, Bar, Series, SeriesInvalid

try:
    import pyarrow as arrow
    from pyarrow import compute, parquet
except ImportError as error:
    raise UsageError(
        "parquet:DIR needs pyarrow: install it with `pip install 'tvbus[parquet]'`"
    ) from error

DAY_FILES_BELOW_MS: Final = 30 * MINUTE_MS
"""Shorter intervals than this have more than 1,488 rows a month."""
COMPRESSION: Final = "zstd"
_PART: Final = ".part"
_WHOLE: Final = ".whole"

_TIME: Final = arrow.timestamp("ms", tz="UTC")
_KINDS: Final = {
    **dict.fromkeys(COLUMNS, arrow.float64()),
    **dict.fromkeys(("open_time", "end_time", "received_time"), _TIME),
    "closed_by": arrow.string(),
    "gap": arrow.bool_(),
    "revision": arrow.int32(),
}
SCHEMA: Final = arrow.schema([("series", arrow.string()), *_KINDS.items()])
"""Columns and their types; exchange, symbol, interval and month come from the directories."""


class ParquetSink(Sink):
    """Keep bars as Parquet files in directories of exchange, symbol, interval and month.

    A call returns when the rows are on the disk (fsync), so neither kill -9 nor a
    power cut takes them.
    """

    batch = BATCH_BARS

    def __init__(self, folder: Path) -> None:
        """Make the directory where there is none, and finish what a kill interrupted.

        Raises UsageError and SinkUnavailable.
        """
        files.make_folder(folder)
        self._folder = folder
        self._known: set[Series] = set()
        for path in folder.glob(".*.*"):
            if (series := _owner(path)) is not None:
                self._finish(series)

    def write(self, bars: Sequence[Bar]) -> None:
        """Keep bars. Raises SinkUnavailable and SinkRejected."""
        for series, rows in by_series(bars).items():
            place = _Place(self._folder, series)
            with files.told(place.folder):
                files.make_folders(self._folder, place.folder)
                with files.locked_folder(place.folder):
                    if series not in self._known:
                        files.check_case(place.folder)
                        place.tidy()
                        self._known.add(series)
                    place.store(rows)

    def _finish(self, series: Series) -> None:
        """Complete what a killed process began, unless the process lives."""
        place = _Place(self._folder, series)
        with files.told(place.folder):
            files.make_folders(self._folder, place.folder)
            with files.locked_folder(place.folder, wait=False) as locked:
                if locked:
                    place.finish()
                    place.part.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the rows of one series are; whoever changes them has locked its directory."""

    root: Path
    series: Series

    @property
    def folder(self) -> Path:
        symbol, exchange = _part(self.series.symbol), _part(self.series.exchange)
        interval = str(self.series).rpartition("-")[2]
        return self.root / f"exchange={exchange}/symbol={symbol}/interval={interval}"

    @property
    def part(self) -> Path:
        """A file that is being written, outside the directories that others read."""
        return self.root / f".{files.file_name(self.series)}{_PART}"

    def store(self, rows: Iterable[Row]) -> None:
        self.finish()
        begun = False
        for path, some in self._files(rows).items():
            if not path.parent.exists():
                files.make_folders(self.root, path.parent)
                begun = True
            self._merge(path, some)
        if begun:
            self.tidy()

    def tidy(self) -> None:
        """Make one file of each month that is over."""
        self.finish()
        for folder in sorted(self.folder.glob("month=*"))[:-1]:
            month = folder.name.removeprefix("month=")
            paths = sorted(folder.glob("*.parquet"))
            if paths not in ([], [folder / f"{month}.parquet"]):
                table = arrow.concat_tables(map(_read, paths)).sort_by("open_time")
                whole = self.part.with_suffix(f".{month}{_WHOLE}")
                self._write(table, whole)
                self.finish()

    def finish(self) -> None:
        """Let months that are complete take the place of their days."""
        for path in list(self.root.glob(f".*{_WHOLE}")):
            if _owner(path) == self.series:
                month = path.name.removesuffix(_WHOLE).rpartition(".")[2]
                folder = self.folder / f"month={month}"
                files.make_folders(self.root, folder)
                for day in folder.glob(f"{month}-*.parquet"):
                    day.unlink()
                files.replace_file(path, folder / f"{month}.parquet")

    def _files(self, rows: Iterable[Row]) -> dict[Path, list[Row]]:
        """Return where each row belongs."""
        places: dict[Path, list[Row]] = {}
        for row in newest(rows).values():
            opened = moment(row.open_time_ms)
            folder = self.folder / f"month={opened:%Y-%m}"
            path = folder / f"{opened:%Y-%m}.parquet"
            if self.series.interval_ms < DAY_FILES_BELOW_MS and not path.exists():
                path = folder / f"{opened:%Y-%m-%d}.parquet"
            places.setdefault(path, []).append(row)
        return places

    def _merge(self, path: Path, rows: list[Row]) -> None:
        if not path.exists():
            self._write(self._table(rows), path)
            return
        held = _read(path)
        known = {row.open_time_ms: row for row in _rows(held.filter(_is_one_of(held, rows)))}
        changed = []
        for row in rows:
            if (old := known.get(row.open_time_ms)) is None:
                changed.append(row)
            elif row.replaces(old):
                changed.append(row.over(old))
        if changed:
            kept = held.filter(compute.invert(_is_one_of(held, changed)))
            table = arrow.concat_tables([kept, self._table(changed)])
            self._write(table.sort_by("open_time"), path)

    def _table(self, rows: list[Row]) -> Any:
        columns = zip(*rows, strict=True)
        arrays = [
            arrow.array(values, kind) for values, kind in zip(columns, _KINDS.values(), strict=True)
        ]
        names = arrow.array([str(self.series)] * len(rows), arrow.string())
        return arrow.Table.from_arrays([names, *arrays], schema=SCHEMA)

    def _write(self, table: Any, path: Path) -> None:
        with self.part.open("wb") as file:
            parquet.write_table(table, file, compression=COMPRESSION)
            file.flush()
            os.fsync(file.fileno())
        files.replace_file(self.part, path)


def _read(path: Path) -> Any:
    try:
        with parquet.ParquetFile(path) as file:
            return file.read().select(SCHEMA.names).cast(SCHEMA)
    except (arrow.ArrowException, KeyError) as error:
        reason = " ".join(str(error).split())
        raise SinkUnavailable(f"{str(path)!r} is none of ours: move it away; {reason}") from error


def _rows(table: Any) -> Iterator[Row]:
    for values in zip(*(table.column(name).to_pylist() for name in COLUMNS), strict=True):
        row = dict(zip(COLUMNS, values, strict=True))
        for name in ("open_time", "end_time", "received_time"):
            row[name] = None if row[name] is None else since_epoch_ms(row[name])
        yield Row(*row.values())


def _is_one_of(table: Any, rows: list[Row]) -> Any:
    times = arrow.array([row.open_time_ms for row in rows], _TIME)
    return compute.is_in(table.column("open_time"), value_set=times)


def _part(name: str) -> str:
    """Return a name as part of a path; readers of such directories decode it."""
    return quote(name, safe="!+")


def _owner(path: Path) -> Series | None:
    """Return whose file in progress this is, None where it is no such file."""
    if path.name.endswith(_PART):
        name = path.name.removesuffix(_PART)
    elif path.name.endswith(_WHOLE):
        name = path.name.removesuffix(_WHOLE).rpartition(".")[0]
    else:
        return None
    try:
        return Series.parse(name.removeprefix("."))
    except SeriesInvalid:
        return None
