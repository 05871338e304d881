"""Which person, day or interval each row of a label file speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lsm2.data.day_grid import MINUTES_PER_DAY
from lsm2.data.labels.columns import Columns
from lsm2.data.labels.values import Kind
from lsm2.data.store import DayStore
from lsm2.data.tables.file import TableFile
from lsm2.data.tables.rows import names
from lsm2.data.wall_clock import LOCAL, WallClock, first_failing
from lsm2.errors import InputError

Level = Literal["person", "day", "interval"]
KEYS: dict[Level, tuple[str, ...]] = {
    "person": ("subject",),
    "day": ("subject", "date"),
    "interval": ("subject", "start", "end"),
}
_ZONE_ADVICE = "write the local wall clock, without a zone"


@dataclass(frozen=True, eq=False)
class Labels:
    """Labelled examples of one target: people, days or intervals, all of people in the store."""

    target: str
    kind: Kind
    level: Level
    subjects: tuple[str, ...]
    """The person of each of the n examples."""
    dates: tuple[str, ...] | None
    """ISO date of each example, a day of the store; None at other levels."""
    spans: np.ndarray | None
    """(n, 2) int64 minutes of wall clock since 1970-01-01, start and end (exclusive); None at other
    levels.
    """
    values: np.ndarray
    """(n,) float64: the number of a regression, else the index of the class."""
    classes: tuple[str, ...]
    """Names of the classes in order, numbers by size; () for a regression."""
    covariates: np.ndarray
    """(n, K) float64, NaN where the cell is empty; text as indicators."""
    covariate_names: tuple[str, ...]
    left_out: dict[str, int]
    """Why rows of the file are no examples: number of rows."""


@dataclass(frozen=True, eq=False)
class Whose:
    """What rows of the file speak of."""

    rows: np.ndarray
    """(n,) int64, the row of each example; a row cut into windows occurs more than once."""
    dates: np.ndarray | None
    """(n,) datetime64[D]."""
    spans: np.ndarray | None
    """(n, 2) int64 minutes."""


def find_level(file: TableFile) -> Level:
    """The level of a label file by its columns; raises InputError where they do not say."""
    if "subject" not in file.columns:
        raise InputError(
            f"{file.path} has no column 'subject'; its columns are {', '.join(file.columns)}: rename the one "
            "that names the person"
        )
    if ("start" in file.columns) != ("end" in file.columns):
        one, other = ("start", "end") if "start" in file.columns else ("end", "start")
        raise InputError(f"{file.path} has a column {one!r} but no {other!r}; an interval needs both")
    if "start" in file.columns:
        return "interval"
    return "day" if "date" in file.columns else "person"


def read_dates(columns: Columns, rows: np.ndarray) -> Whose:
    """The day of each of these rows; raises InputError naming the row of what is no date."""
    cells = columns.cells("date").take(pa.array(rows))
    empty = cells.is_null().to_numpy(zero_copy_only=False)
    if empty.any():
        raise InputError(
            f"{columns.place(int(rows[empty.argmax()]))}, column 'date' is empty; every row needs it"
        )
    if pa.types.is_large_string(cells.type):
        cells = pc.call_function("utf8_trim_whitespace", [cells])
    try:
        dates = _as_dates(cells)
    except pa.ArrowException:
        at = first_failing(cells, _as_dates)
        raise InputError(
            f"{columns.place(int(rows[at]))}, column 'date': {cells[at].as_py()} is not a date; write "
            "ISO 8601, 2024-03-01"
        ) from None
    return Whose(rows, dates.to_numpy(zero_copy_only=False).astype("datetime64[D]"), None)


def read_spans(columns: Columns, rows: np.ndarray, left_out: dict[str, int]) -> Whose:
    """The interval of each of these rows; raises InputError naming the row of a time that is none."""
    chosen = pa.array(rows)
    times, keep = [], np.ones(len(rows), dtype=bool)
    for name in ("start", "end"):
        clock = WallClock(LOCAL, name, _ZONE_ADVICE)
        seconds, once = clock.seconds(
            columns.cells(name).take(chosen), lambda row: columns.place(int(rows[row]))
        )
        times.append(seconds)
        keep &= once
    # Whole minutes: those that the interval touches.
    spans = np.column_stack([times[0] // 60, -(-times[1] // 60)])
    backwards = spans[:, 1] <= spans[:, 0]
    if backwards.any():
        raise InputError(
            f"{columns.place(int(rows[backwards.argmax()]))}: the interval does not end after its start; "
            "give start and end with their dates, also past midnight"
        )
    if not keep.all():
        left_out["in the hour that happens twice when clocks go back"] = int((~keep).sum())
    return Whose(rows[keep], None, spans[keep])


def cut(whose: Whose, minutes: int, left_out: dict[str, int]) -> Whose:
    """Intervals as windows of so many minutes; the rest of each is dropped."""
    assert whose.spans is not None
    counts = (whose.spans[:, 1] - whose.spans[:, 0]) // minutes
    if short := int((counts == 0).sum()):
        left_out[f"shorter than {minutes} minutes"] = short
    of_row = np.repeat(np.arange(len(counts)), counts)
    window = np.arange(len(of_row)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = whose.spans[of_row, 0] + window * minutes
    return Whose(whose.rows[of_row], None, np.column_stack([start, start + minutes]))


def subject_names(columns: Columns) -> np.ndarray:
    """(rows,) object: the person of each row; raises InputError naming the row where it is empty."""
    cells = columns.cells("subject")
    if pa.types.is_floating(cells.type):
        raise InputError(
            f"{columns.file.path}, column 'subject' holds {cells.type}; write people's names as text or as "
            "integers"
        )
    coded = names(columns.batch("subject"), "subject", columns.place)
    return np.array(coded.names, dtype=object)[coded.codes]


def in_store(whose: Whose, subjects: np.ndarray, store: DayStore, left_out: dict[str, int]) -> Whose:
    """The examples on days of the store, counting the rows without one; `subjects` (rows of the file,)."""
    days = store.row_of_day
    people = subjects[whose.rows]
    if whose.dates is not None:
        of_day = whose.dates.astype(np.int64)
        keep = np.array([key in days for key in zip(people, of_day.tolist(), strict=True)], dtype=bool)
        why = "on a day that the store has not"
    else:
        assert whose.spans is not None
        first, last = whose.spans[:, 0] // MINUTES_PER_DAY, (whose.spans[:, 1] - 1) // MINUTES_PER_DAY
        keep = np.array(
            [
                any((person, day) in days for day in range(start, end + 1))
                for person, start, end in zip(people, first.tolist(), last.tolist(), strict=True)
            ],
            dtype=bool,
        )
        why = "on no day of the store"
    if lost := len(set(whose.rows.tolist()) - set(whose.rows[keep].tolist())):
        left_out[why] = lost
    return Whose(
        whose.rows[keep],
        None if whose.dates is None else whose.dates[keep],
        None if whose.spans is None else whose.spans[keep],
    )


def _as_dates(cells: pa.Array) -> pa.Array:
    dates = cells.cast(pa.date32())
    if pa.types.is_timestamp(cells.type) and not dates.cast(cells.type).equals(cells):
        raise pa.ArrowInvalid("a time of day")
    return dates
