"""Tables of what was sampled over days: wide (a column per signal) or long (signal, value)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lsm2.data.day_grid import Rows
from lsm2.data.store import DayStore
from lsm2.data.tables.file import TableFile, find_files
from lsm2.data.tables.rows import TableLayout, TableReader
from lsm2.data.wall_clock import WallClock
from lsm2.errors import InputError
from lsm2.importers.pipeline import ADVICE, ImportOptions, import_rows


@dataclass(frozen=True)
class TableOptions(ImportOptions):
    """How a table is to be read."""

    subject: str = "subject"
    """Column that names the person."""
    timestamp: str = "timestamp"
    """Column of the time."""
    signal: str = "signal"
    """Column that names the signal, in a long table."""
    value: str = "value"
    """Column of the value, in a long table."""
    where: str | None = None
    """A true/false column; only rows where it is true are read."""


def import_table(
    source: Path | str,
    out: Path | str,
    options: TableOptions = TableOptions(),
    *,
    replace: bool = False,
    progress: bool = False,
) -> DayStore:
    """Read a CSV (also .csv.gz) or Parquet file, or a folder of them, into a new store at `out`.

    The store has one day per person and local date. A file with the columns `signal` and `value` is long, any
    other wide. Empty cells are missing; so are values of LSM-2 signals outside their plausible range. With
    `replace`, a store at `out` gives way to the new one when that is complete.

    Raises InputError naming file, row and column of what cannot be read, and leaves `out` unchanged.
    """
    source, out = Path(source), Path(out)
    return import_rows(source, out, _rows(source, options), options, replace=replace, progress=progress)


def _rows(source: Path, options: TableOptions) -> Iterator[Rows]:
    """All rows of all files."""
    for file in [TableFile(path) for path in find_files(source)]:
        layout = _layout(file, options)
        clock = WallClock(options.timezone, options.timestamp, ADVICE.zone)
        reader = TableReader(layout, clock, ADVICE.choice)
        for first_row, batch in file.batches(layout.columns):
            yield reader.rows(batch, file.place_from(first_row), file.path.name)


def _layout(file: TableFile, options: TableOptions) -> TableLayout:
    """Which column of this file means what; raises InputError naming the flag of one that is absent."""
    file.require(options.subject, "--subject")
    file.require(options.timestamp, "--timestamp")
    if options.where is not None:
        file.require(options.where, "--where")
    common = TableLayout(
        options.timestamp, options.subject, where=options.where, wanted=options.columns or None
    )
    if options.signal in file.columns and options.value in file.columns:
        return dataclasses.replace(common, signal=options.signal, value=options.value)
    fixed = [name for name in (options.subject, options.timestamp, options.where) if name is not None]
    signals = tuple(name for name in file.columns if name not in fixed)
    if not signals:
        raise InputError(
            f"{file.path} has no column with numbers beside {', '.join(fixed)}; "
            "add one per signal, or the columns signal and value"
        )
    return dataclasses.replace(common, signals=signals)
