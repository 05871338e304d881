"""Days as pandas or polars DataFrames: wide (timestamp, a column per signal) or long (timestamp, signal, value), subject optional."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lsm2.errors import InputError

MINUTES_PER_DAY = 1440


def is_frame(values: object) -> bool:
    """Whether this is a DataFrame of pandas or polars; imports neither."""
    return type(values).__name__ == "DataFrame" and _library(values) in ("pandas", "polars")


@dataclass(frozen=True)
class FrameDays:
    """One day per subject and date of a DataFrame, and the way back to a DataFrame of the same library."""

    values: np.ndarray
    """(B, C, L) float32 as given, NaN = missing."""
    subjects: tuple[str, ...] | None
    """Of each day; None where the frame has no column subject."""
    dates: np.ndarray
    """(B,) datetime64[D]."""
    signals: tuple[str, ...]
    library: str

    @classmethod
    def from_frame(cls, frame: Any, signals: Sequence[str], num_samples: int) -> FrameDays:
        """Cut a frame into days of `num_samples`; a signal without a column is missing all day, times with a zone count as its wall clock.

        Raises InputError naming the column and row for anything that cannot be read.
        """
        if MINUTES_PER_DAY % num_samples:
            raise InputError(
                f"this model reads windows of {num_samples} samples, which is no day of whole minutes; give arrays instead of a frame"
            )
        table = (
            pa.Table.from_pandas(frame, preserve_index=False)
            if _library(frame) == "pandas"
            else frame.to_arrow()
        )
        if not table.num_rows:
            raise InputError("the frame has no rows")
        times = _times(table)
        dates = times.astype("datetime64[D]")
        sample = (times - dates).astype(np.int64) * num_samples // MINUTES_PER_DAY
        subjects, subject_of_row = _subjects(table)
        keys, day = np.unique(
            np.stack([subject_of_row, dates.astype(np.int64)], 1), axis=0, return_inverse=True
        )
        values = np.full((len(keys), len(signals), num_samples), np.nan, dtype=np.float32)
        if {"signal", "value"} <= set(table.column_names):
            signal = _known([str(name) for name in table["signal"].to_pylist()], signals)
            _place(values, day.ravel(), signal, sample, _numbers(table, "value"), times)
        else:
            columns = [name for name in table.column_names if name not in ("subject", "timestamp")]
            for name, signal in zip(columns, _known(columns, signals), strict=True):
                _place(values, day.ravel(), np.full(len(times), signal), sample, _numbers(table, name), times)
        of_day = tuple(subjects[code] for code in keys[:, 0]) if subjects else None
        return cls(values, of_day, keys[:, 1].astype("datetime64[D]"), tuple(signals), _library(frame))

    def embeddings(self, embeddings: np.ndarray) -> Any:
        """(B, width) -> a frame with subject, date, e0, e1, ..."""
        columns = {"date": pa.array(self.dates)} | {
            f"e{i}": pa.array(column) for i, column in enumerate(embeddings.T)
        }
        return self._frame(columns, repeat=1)

    def samples(self, values: np.ndarray) -> Any:
        """The last samples of each day, (B, C, samples) -> a wide frame with subject, timestamp and every signal."""
        num_samples, count = self.values.shape[2], values.shape[2]
        minutes = np.arange(num_samples - count, num_samples) * (MINUTES_PER_DAY // num_samples)
        times = self.dates.astype("datetime64[s]")[:, None] + (minutes * 60).astype("timedelta64[s]")
        columns = {"timestamp": pa.array(times.ravel())}
        columns |= {name: pa.array(values[:, signal].ravel()) for signal, name in enumerate(self.signals)}
        return self._frame(columns, repeat=count)

    def _frame(self, columns: dict[str, pa.Array], repeat: int) -> Any:
        if self.subjects is not None:
            columns = {
                "subject": pa.array(np.repeat(np.array(self.subjects, dtype=object), repeat))
            } | columns
        table = pa.table(columns)
        return table.to_pandas() if self.library == "pandas" else sys.modules["polars"].from_arrow(table)


def _library(frame: object) -> str:
    return type(frame).__module__.split(".")[0]


def _times(table: pa.Table) -> np.ndarray:
    """(rows,) datetime64[m] on the wall clock."""
    if "timestamp" not in table.column_names:
        raise InputError(
            f"the frame has no column timestamp, only {', '.join(table.column_names)}; name it so (pandas: reset_index())"
        )
    times = table["timestamp"]
    if not pa.types.is_timestamp(times.type):
        raise InputError(
            f"column timestamp holds {times.type}, not times; convert it, in pandas with to_datetime"
        )
    if times.null_count:
        raise InputError(
            f"column timestamp is empty in row {times.is_null().index(True).as_py()}; fill it or drop the row"
        )
    if times.type.tz:
        import pyarrow.compute  # takes long to import

        times = pyarrow.compute.call_function("local_timestamp", [times])
    return times.to_numpy().astype("datetime64[m]")


def _subjects(table: pa.Table) -> tuple[list[str] | None, np.ndarray]:
    """Names of the people if there is a column, and who each row is of."""
    if "subject" not in table.column_names:
        return None, np.zeros(table.num_rows, dtype=np.int64)
    names, codes = np.unique(
        np.array([str(name) for name in table["subject"].to_pylist()]), return_inverse=True
    )
    return names.tolist(), codes


def _known(names: Sequence[str], signals: Sequence[str]) -> np.ndarray:
    """Place of each name among the model's signals."""
    place = {name: index for index, name in enumerate(signals)}
    if unknown := sorted(set(names) - set(signals)):
        raise InputError(
            f"the model knows no signal {unknown[0]!r}; its signals: {', '.join(signals)}. Rename or drop it"
        )
    return np.array([place[name] for name in names], dtype=np.int64)


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    try:
        return table[name].cast(pa.float32(), safe=False).to_numpy()
    except pa.ArrowException as error:
        raise InputError(f"column {name} cannot be read as numbers ({error}); convert it first") from None


def _place(
    values: np.ndarray,
    day: np.ndarray,
    signal: np.ndarray,
    sample: np.ndarray,
    numbers: np.ndarray,
    times: np.ndarray,
) -> None:
    """Put numbers where they belong; two of one signal in one sample are one too many."""
    there = ~np.isnan(numbers)
    day, signal, sample, numbers, times = (
        day[there],
        signal[there],
        sample[there],
        numbers[there],
        times[there],
    )
    place = np.ravel_multi_index((day, signal, sample), values.shape)
    first = np.unique(place, return_index=True)[1]
    if len(first) < len(place):
        extra = np.setdiff1d(np.arange(len(place)), first)[0]
        raise InputError(
            f"a signal has two values at {times[extra]} (samples last {MINUTES_PER_DAY // values.shape[2]} min); average or drop them"
        )
    values.reshape(-1)[place] = numbers
