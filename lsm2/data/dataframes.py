"""Days as pandas or polars DataFrames with times: wide (a column per signal) or long (signal, value)."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lsm2.data.day_grid import MINUTES_PER_DAY, Advice, DayGrid, PlausibleRanges
from lsm2.data.normalize import CLIP, Normalization
from lsm2.data.sampling import clear_steps, minutes_text
from lsm2.data.signals import Signal
from lsm2.data.store import DayStore
from lsm2.data.tables.rows import TableLayout, TableReader
from lsm2.data.wall_clock import LOCAL, WallClock
from lsm2.errors import InputError

ADVICE = Advice(
    duplicate="remove one, or average them first",
    finer="average them first, in pandas with resample('{minutes}min').mean() for each person",
    unit="Convert column {signal}",
    zone="convert them to the zone the person lived in, for instance Europe/Berlin "
    "(pandas: .dt.tz_convert, polars: .dt.convert_time_zone)",
    choice="drop the column",
)
_BATCH_ROWS = 2**17


def days_given(values: Any) -> Any:
    """What a caller gave as days: a DataFrame, array or tensor; lists become arrays, LazyFrames DataFrames.

    Raises InputError for anything else, and for what holds no numbers.
    """
    if is_frame(values):
        return values
    if _is_lazy(values):
        return values.collect()
    if isinstance(values, DayStore):
        raise InputError("the days are a DayStore; give the values of days, such as store.values(0)")
    if type(values).__module__.split(".")[0] == "torch" and hasattr(values, "detach"):
        return values
    try:
        array = np.asarray(values)
        if array.dtype.kind in "OU":
            array = array.astype(np.float32)
    except (TypeError, ValueError):
        array = np.array(None)
    if array.dtype.kind in "fiub":
        return array
    raise InputError(
        f"the days are of type {type(values).__name__} and no array of numbers; give a pandas or polars "
        "DataFrame, or numbers of shape (days, signals, samples) with NaN where nothing was measured"
    )


def whole_minutes(minutes: Any) -> int:
    """A number of minutes, given as int or float; raises InputError if it is not whole."""
    try:
        whole = int(minutes)
        if not isinstance(minutes, (bool, str)) and whole == minutes:
            return whole
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"minutes is {minutes!r}; give a whole number of minutes, such as 60")


def warn_of_clipped(normalised: np.ndarray, normalization: Normalization) -> None:
    """Warn of signals of which the normalisation clipped most values (..., C, L): is the unit another one?"""
    per_signal = np.moveaxis(normalised, -2, 0).reshape(len(normalization.signals), -1)
    clipped = (np.abs(per_signal) >= CLIP).sum(1)
    observed = (~np.isnan(per_signal)).sum(1)
    for index in np.flatnonzero(2 * clipped > observed):
        signal = normalization.signals[index]
        low, high = normalization.invert(np.full((len(per_signal), 2), [-CLIP, CLIP]))[index]
        warnings.warn(
            f"{clipped[index]} of {observed[index]} values of {signal.name!r} lie outside "
            f"{f'{low:.4g} to {high:.4g} {signal.unit}'.rstrip()}, all that the model knows, and are "
            "clipped; is the unit another one?",
            stacklevel=5,
        )


def is_frame(values: object) -> bool:
    """Whether this is a DataFrame of pandas or polars; imports neither."""
    return type(values).__name__ == "DataFrame" and _library(values) in ("pandas", "polars")


@dataclass(frozen=True)
class FrameDays:
    """One day per subject and date of a DataFrame, and the way back to a DataFrame of the same library."""

    values: np.ndarray
    """(B, C, L) float32 in physical units, NaN = missing."""
    subjects: tuple[str, ...] | None
    """Of each day; None where the frame has no column subject."""
    dates: np.ndarray
    """(B,) datetime64[D]."""
    signals: tuple[str, ...]
    library: str

    @classmethod
    def from_frame(cls, frame: Any, signals: Sequence[Signal], sample_minutes: int) -> FrameDays:
        """Cut a frame into days exactly as `lsm2 import table` cuts a file.

        A signal without a column is missing all day. Days without any value are left out. Warns if values
        come less often than every `sample_minutes`. Raises InputError naming the column and row (from 0) for
        anything that cannot be read, and for two values in one sample.
        """
        table = _table(frame)
        if not table.num_rows:
            raise InputError("the frame has no rows")
        known = tuple(signal.name for signal in signals)
        layout = _layout(table)
        _check_known(layout.signals, known)
        reader = TableReader(layout, WallClock(LOCAL, layout.timestamp, ADVICE.zone), ADVICE.choice)
        grid = DayGrid(sample_minutes, ADVICE)
        for first_row, batch in _batches(table.select(layout.columns)):
            rows = reader.rows(batch, _place_from(first_row))
            _check_known(rows.available, known)
            grid.add(rows)
        _warn_of_sparse(grid)
        ranges = PlausibleRanges(signals)
        days = [day for day in grid.days(ranges, known, sample_minutes) if not np.isnan(day[2]).all()]
        ranges.check("the frame", ADVICE)
        if not days:
            raise InputError("the frame has no values, only empty cells")
        subjects, dates, values = zip(*days, strict=True)
        return cls(
            np.stack(values),
            None if layout.subject is None else subjects,
            np.array(dates, dtype="datetime64[D]"),
            known,
            _library(frame),
        )

    def embeddings(self, embeddings: np.ndarray) -> Any:
        """(B, width) -> a frame with subject, date, e0, e1, ..."""
        columns = {"date": pa.array(self.dates)} | {
            f"e{i}": pa.array(column) for i, column in enumerate(embeddings.T)
        }
        return self._frame(columns, repeat=1)

    def samples(self, values: np.ndarray) -> Any:
        """The last samples of each day, (B, C, samples) -> a wide frame: subject, timestamp, every signal."""
        num_samples, count = self.values.shape[2], values.shape[2]
        minutes = np.arange(num_samples - count, num_samples) * (MINUTES_PER_DAY // num_samples)
        times = self.dates.astype("datetime64[s]")[:, None] + (minutes * 60).astype("timedelta64[s]")
        columns = {"timestamp": pa.array(times.ravel())}
        columns |= {name: pa.array(values[:, signal].ravel()) for signal, name in enumerate(self.signals)}
        return self._frame(columns, repeat=count)

    def _frame(self, columns: dict[str, pa.Array], repeat: int) -> Any:
        if self.subjects is not None:
            subjects = np.repeat(np.array(self.subjects, dtype=object), repeat)
            columns = {"subject": pa.array(subjects)} | columns
        table = pa.table(columns)
        return table.to_pandas() if self.library == "pandas" else sys.modules["polars"].from_arrow(table)


def _library(frame: object) -> str:
    return type(frame).__module__.split(".")[0]


def _is_lazy(values: object) -> bool:
    return type(values).__name__ == "LazyFrame" and _library(values) == "polars"


def _table(frame: Any) -> pa.Table:
    """The frame as an Arrow table; of a pandas index, times and people become columns."""
    if _library(frame) == "polars":
        return frame.to_arrow()
    if type(frame.index).__name__ == "DatetimeIndex" and "timestamp" not in frame.columns:
        frame = frame.rename_axis(index="timestamp")
    if levels := [name for name in frame.index.names if name in ("subject", "timestamp")]:
        frame = frame.reset_index(level=levels)
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise InputError(
            f"the frame cannot be read ({'; '.join(map(str, error.args))}); "
            "give each column one name and one type"
        ) from None


def _layout(table: pa.Table) -> TableLayout:
    names = table.column_names
    if "timestamp" not in names:
        raise InputError(f"the frame has no column timestamp, only {', '.join(names)}; name it so")
    subject = "subject" if "subject" in names else None
    if {"signal", "value"} <= set(names):
        return TableLayout("timestamp", subject, signal="signal", value="value")
    return TableLayout(
        "timestamp", subject, tuple(name for name in names if name not in ("subject", "timestamp"))
    )


def _check_known(names: Sequence[str], known: Sequence[str]) -> None:
    if unknown := sorted(set(names) - set(known)):
        raise InputError(
            f"the model knows no signal {unknown[0]!r}; its signals: {', '.join(known)}. Rename or drop it"
        )


def _batches(table: pa.Table) -> Iterator[tuple[int, pa.RecordBatch]]:
    row = 0
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        yield row, batch
        row += batch.num_rows


def _place_from(first_row: int) -> Callable[[int], str]:
    return lambda row: f"the frame, row {first_row + row} (from 0)"


def _warn_of_sparse(grid: DayGrid) -> None:
    """Warn if no signal of the frame comes as often as the model's samples."""
    clear, _ = clear_steps(grid.steps())
    finest = {signal: min(people.values()) for signal, people in clear.items()}
    if finest and min(finest.values()) > grid.sample_minutes:
        signal = min(finest, key=lambda name: finest[name])
        warnings.warn(
            f"the frame has a value of {signal!r} every {minutes_text(finest[signal])}, but the model was "
            f"trained on one every {minutes_text(grid.sample_minutes)}: most of its samples will be missing",
            stacklevel=6,
        )
