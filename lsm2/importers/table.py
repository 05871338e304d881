"""Tables of what was sampled over days: long (subject, timestamp, signal, value) or wide (subject, timestamp, a column per signal)."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from lsm2.data.day_grid import DayGrid
from lsm2.data.signals import Signal, named_signal
from lsm2.data.store import DayStore
from lsm2.data.store.layout import Day
from lsm2.data.store.writer import check_replaceable
from lsm2.data.wall_clock import LOCAL, WallClock
from lsm2.errors import InputError
from lsm2.importers.table_file import TableFile, find_files
from lsm2.progress import counted

_EPOCH = datetime.date(1970, 1, 1)
REPORT = "import.json"
"""File in the store that says what was read and what was left out."""


@dataclasses.dataclass(frozen=True)
class TableLayout:
    """How a table is to be read, one field per argument of `import_table`."""

    columns: tuple[str, ...] | None
    subject: str
    timestamp: str
    signal: str
    value: str
    where: str | None
    sample_minutes: int
    timezone: str


def import_table(
    source: Path | str,
    out: Path | str,
    *,
    columns: Sequence[str] | None = None,
    subject: str = "subject",
    timestamp: str = "timestamp",
    signal: str = "signal",
    value: str = "value",
    where: str | None = None,
    sample_minutes: int = 1,
    timezone: str = LOCAL,
    aggregate: Literal["none", "mean"] = "none",
    min_observed: float = 0.0,
    log1p: Sequence[str] = (),
    units: Mapping[str, str] | None = None,
    replace: bool = False,
    progress: bool = False,
) -> DayStore:
    """Read a CSV (also .csv.gz) or Parquet file, or a folder of them, into a new store at `out` with one day per person and local date.

    A file with the columns `signal` and `value` is long, any other wide. Empty cells are missing; so are values of LSM-2 signals outside
    their plausible range.

    columns: the signals to take, in this order; default all (wide: every column must then be numeric).
    subject, timestamp, signal, value: names of those columns.
    where: a true/false column; only rows where it is true are read.
    sample_minutes: minutes per sample, a divisor of 60. Two values in one epoch are an error, or averaged with aggregate="mean".
    timezone: "local" if times are wall clock, else the IANA zone people lived in: times with a zone are converted to it, and of the hour
        that happens twice when clocks go back the first is kept.
    min_observed: leave out days of which less than this fraction is observed; days without any value are always left out.
    log1p: signals to normalise through log(1 + x).
    units: unit by signal, for signals that are not LSM-2's, or not in LSM-2's unit (which also lifts the plausible range).

    Raises InputError naming file, row and column for anything that cannot be read, and leaves `out` as it was.
    """
    source, out = Path(source), Path(out)
    _check_arguments(sample_minutes, aggregate, min_observed)
    check_replaceable(out, replace)
    layout = TableLayout(
        tuple(columns) if columns else None,
        subject,
        timestamp,
        signal,
        value,
        where,
        sample_minutes,
        timezone,
    )
    scratch = next(folder for folder in out.absolute().parents if folder.is_dir())
    grid = DayGrid(1440 // sample_minutes, aggregate == "mean", scratch)
    files = [TableFile(file) for file in find_files(source)]
    available: dict[str, None] = {}
    rows = sum(counted(_read_files(files, layout, grid, available), "reading batches of rows", progress))
    if absent := [name for name in columns or () if name not in available]:
        raise InputError(
            f"{source} has no signal {absent[0]!r}; it has {', '.join(available)}: correct columns"
        )
    signals = _describe(columns or list(available), log1p, units or {})
    report = ImportReport(tuple(file.path.name for file in files), rows, timezone)
    days = _list_days(grid, signals, min_observed, report, source)
    return DayStore.write(
        out,
        signals,
        days,
        sample_minutes=sample_minutes,
        progress=progress,
        attachments={REPORT: report.to_json},
        replace=replace,
    )


@dataclasses.dataclass
class ImportReport:
    """What was read and what was left out."""

    files: tuple[str, ...]
    rows: int
    timezone: str
    days_left_out: int = 0
    values_out_of_range: dict[str, int] = dataclasses.field(default_factory=dict)

    def to_json(self) -> bytes:
        """The report as a JSON file."""
        return (json.dumps(dataclasses.asdict(self), indent=1) + "\n").encode()


def _read_files(
    files: Sequence[TableFile], layout: TableLayout, grid: DayGrid, available: dict[str, None]
) -> Iterator[int]:
    """Read all files into the grid, and the names of their signals into `available`; yields the number of rows of each batch."""
    for file in files:
        file.require(layout.subject, "subject")
        file.require(layout.timestamp, "timestamp")
        if layout.where is not None:
            file.require(layout.where, "where")
        fixed = [name for name in (layout.subject, layout.timestamp, layout.where) if name is not None]
        long = layout.signal in file.columns and layout.value in file.columns
        signals = [] if long else [name for name in file.columns if name not in fixed]
        if not (long or signals):
            raise InputError(
                f"{file.path} has no column with numbers beside {', '.join(fixed)}; add one per signal, or the columns signal and value"
            )
        available.update(dict.fromkeys(signals))
        if layout.columns is not None:
            signals = [name for name in layout.columns if name in signals]
        clock = WallClock(layout.timezone, file.path, layout.timestamp)
        for first_row, batch in file.batches(fixed + ([layout.signal, layout.value] if long else signals)):
            people, subjects = file.names(batch, layout.subject, first_row)
            minutes, keep = clock.minutes(batch.column(layout.timestamp), first_row)
            if layout.where is not None:
                keep &= file.flags(batch, layout.where, first_row)
            if long:
                codes, names = file.names(batch, layout.signal, first_row)
                available.update(dict.fromkeys(names))
                series = [(codes, names, file.numbers(batch, layout.value, first_row))]
            else:
                series = [
                    (np.zeros(batch.num_rows, dtype=np.int64), [name], file.numbers(batch, name, first_row))
                    for name in signals
                ]
            for codes, names, values in series:
                if layout.columns is not None:
                    values[
                        ~np.isin(codes, [code for code, name in enumerate(names) if name in layout.columns])
                    ] = np.nan
                values[~keep] = np.nan
                at = _add_series(
                    grid, (people, subjects), minutes, (codes, names), values, layout.sample_minutes
                )
                if at is not None:
                    time = np.datetime64(int(minutes[at]), "m").item()
                    raise InputError(
                        f"{file.path}, row {first_row + at}: subject {subjects[people[at]]!r} already has a value of {names[codes[at]]!r} "
                        f'in the {layout.sample_minutes} min from {time:%Y-%m-%d %H:%M}; remove one, or average them with aggregate="mean"'
                    )
            yield batch.num_rows


def _add_series(
    grid: DayGrid,
    people: tuple[np.ndarray, list[str]],
    minutes: np.ndarray,
    signals: tuple[np.ndarray, list[str]],
    values: np.ndarray,
    sample_minutes: int,
) -> int | None:
    """Put rows into the grid, people and signals given as (codes, names); returns the first place that is a duplicate, if there is one."""
    rows = np.flatnonzero(~np.isnan(values))
    dates = minutes[rows] // 1440
    first = dates.min() if len(rows) else 0
    span = int(dates.max() - first) + 1 if len(rows) else 1
    combined = (people[0][rows] * span + (dates - first)) * len(signals[1]) + signals[0][rows]
    distinct, key_of = np.unique(combined, return_inverse=True)
    keys = [
        (
            people[1][code // len(signals[1]) // span],
            int(first) + code // len(signals[1]) % span,
            signals[1][code % len(signals[1])],
        )
        for code in distinct.tolist()
    ]
    at = grid.add(keys, key_of, minutes[rows] % 1440 // sample_minutes, values[rows])
    return None if at is None else int(rows[at])


def _describe(names: Sequence[str], log1p: Sequence[str], units: Mapping[str, str]) -> tuple[Signal, ...]:
    """The signals of the store; raises InputError for a name in `log1p` or `units` that is none of them."""
    for argument, given in (("log1p", log1p), ("units", units)):
        if unknown := [name for name in given if name not in names]:
            raise InputError(
                f"{argument} names the signal {unknown[0]!r}, which is not imported; the signals are {', '.join(names)}"
            )
    signals = (named_signal(name, units.get(name)) for name in names)
    return tuple(
        dataclasses.replace(signal, transform="log1p") if signal.name in log1p else signal
        for signal in signals
    )


def _list_days(
    grid: DayGrid, signals: Sequence[Signal], min_observed: float, report: ImportReport, source: Path
) -> Iterator[Day]:
    """The days to keep, without values out of range; raises InputError at the end for a signal that lies out of range for the most part."""
    low, high = (np.array([getattr(signal, side) for signal in signals])[:, None] for side in ("low", "high"))
    observed_of, outside_of = np.zeros(len(signals), dtype=np.int64), np.zeros(len(signals), dtype=np.int64)
    for subject, date, values in grid.days([signal.name for signal in signals]):
        outside = (values < low) | (values > high)
        observed_of += (~np.isnan(values)).sum(1)
        outside_of += outside.sum(1)
        values[outside] = np.nan
        observed = 1 - float(np.isnan(values).mean())
        if observed == 0 or observed < min_observed:
            report.days_left_out += 1
        else:
            yield Day(subject, (_EPOCH + datetime.timedelta(days=date)).isoformat(), values)
    report.values_out_of_range = {
        signal.name: int(count) for signal, count in zip(signals, outside_of, strict=True) if count
    }
    for signal, observed, count in zip(signals, observed_of, outside_of, strict=True):
        if 2 * count > observed:
            raise InputError(
                f"{source}: {count} of {observed} values of {signal.name!r} are outside {signal.low:g} to {signal.high:g} {signal.unit}; "
                "is the unit another one? Name it with units, or rename the signal"
            )


def _check_arguments(sample_minutes: int, aggregate: str, min_observed: float) -> None:
    if sample_minutes < 1 or 60 % sample_minutes:
        raise InputError(f"sample_minutes is {sample_minutes}; it must divide 60")
    if aggregate not in ("none", "mean"):
        raise InputError(f"aggregate is {aggregate!r}; choose 'none' or 'mean'")
    if not 0 <= min_observed <= 1:
        raise InputError(f"min_observed is {min_observed}; it must be a fraction between 0 and 1")
