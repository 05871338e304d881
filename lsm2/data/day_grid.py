"""The door from rows to days, for files and DataFrames: values by person, day and signal, in any order."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lsm2.data.sampling import LONGEST_STEP, commonest_step, minutes_text
from lsm2.data.signals import Signal
from lsm2.errors import InputError

MINUTES_PER_DAY = 1440
_FIRST_CAPACITY = 64
_LARGEST_GROWTH = 2**26
"""The scratch file doubles, but grows by at most this many values at once."""


@dataclass(frozen=True)
class Advice:
    """What a user does about faulty rows: flags of a command, or calls on a DataFrame."""

    duplicate: str
    """About two values in one sample."""
    finer: str
    """About values that come more often than samples; `{minutes}` stands for the minutes of a sample."""
    unit: str
    """About a signal that lies outside its plausible range; `{signal}` stands for its name."""
    zone: str
    """About times in UTC or with an offset."""
    choice: str
    """About a column that holds no numbers."""


class Coded(NamedTuple):
    """A column of names: the name of row i is names[codes[i]]."""

    codes: np.ndarray
    """(n,) int64."""
    names: Sequence[str]


@dataclass(frozen=True, eq=False)
class Rows:
    """A batch of n rows of a source."""

    place: Callable[[int], str]
    """What errors call row i."""
    subjects: Coded
    seconds: np.ndarray
    """(n,) int64: wall clock, in seconds since 1970-01-01 00:00."""
    series: Sequence[tuple[Coded, np.ndarray]]
    """Signal and value (n,) float64 of each row, NaN = missing; a wide table has one pair for each signal."""
    available: Sequence[str] = ()
    """All signals that the source is known to have, asked for or not."""
    source: str = ""
    """Name of the file, for the report."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many rows were left out, by reason."""


class PlausibleRanges:
    """Values outside a signal's plausible range are missing; if most of a signal are, that is an error."""

    def __init__(self, signals: Sequence[Signal]) -> None:
        self._signals = signals
        self._bounded = [
            index
            for index, signal in enumerate(signals)
            if math.isfinite(signal.low) or math.isfinite(signal.high)
        ]
        self.outside = np.zeros(len(signals), dtype=np.int64)
        """(C,) how many values were outside."""
        self._observed = np.zeros(len(signals), dtype=np.int64)

    def clear(self, values: np.ndarray) -> None:
        """Make the values of one day (C, L) that are outside missing, in place."""
        for index in self._bounded:
            signal, samples = self._signals[index], values[index]
            outside = (samples < signal.low) | (samples > signal.high)
            self._observed[index] += np.count_nonzero(~np.isnan(samples))
            self.outside[index] += np.count_nonzero(outside)
            samples[outside] = np.nan

    def check(self, source: str, advice: Advice) -> None:
        """Raise InputError if more than half of a signal's values were outside."""
        for signal, observed, count in zip(self._signals, self._observed, self.outside, strict=True):
            if 2 * count > observed:
                bounds = f"{signal.low:g} to {signal.high:g} {signal.unit}".rstrip()
                raise InputError(
                    f"{source}: {count} of {observed} values of {signal.name!r} are outside {bounds}; "
                    f"is the unit another one? {advice.unit.format(signal=signal.name)}"
                )


class DayGrid:
    """Samples of `sample_minutes` by person, day and signal, NaN = missing.

    average: several values of one sample are averaged; otherwise they are an error.
    folder: where a scratch file may grow, so that no source is too large; None: memory.
    """

    def __init__(
        self, sample_minutes: int, advice: Advice, *, average: bool = False, folder: Path | None = None
    ) -> None:
        self.sample_minutes = sample_minutes
        self.num_samples = MINUTES_PER_DAY // sample_minutes
        self._advice = advice
        self._rows: dict[tuple[str, int, str], int] = {}
        self._values = _GrowingRows(self.num_samples, np.nan, folder)
        self._counts = _GrowingRows(self.num_samples, 0.0, folder) if average else None

    def add(self, rows: Rows) -> None:
        """Take in rows.

        Raises InputError naming the first one whose sample already has a value, unless values are averaged.
        """
        minutes = rows.seconds // 60
        dates = minutes // MINUTES_PER_DAY
        samples = minutes % MINUTES_PER_DAY // self.sample_minutes
        first_date = int(dates.min()) if len(dates) else 0
        span = int(dates.max()) - first_date + 1 if len(dates) else 1
        days, day_of = np.unique(rows.subjects.codes * span + dates - first_date, return_inverse=True)
        for signals, values in rows.series:
            present = np.flatnonzero(~np.isnan(values))
            keys = day_of[present] * len(signals.names) + signals.codes[present]
            row_of_key = np.zeros(len(days) * len(signals.names), dtype=np.int64)
            for key in np.flatnonzero(np.bincount(keys, minlength=len(row_of_key))).tolist():
                day, signal = divmod(key, len(signals.names))
                subject, date = divmod(int(days[day]), span)
                name = (rows.subjects.names[subject], first_date + date, signals.names[signal])
                row_of_key[key] = self._rows.setdefault(name, len(self._rows))
            repeated = self._store(row_of_key[keys] * self.num_samples + samples[present], values[present])
            if repeated is not None:
                raise self._duplicate(rows, signals, values, int(present[repeated]))

    def steps(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """(subject, signal, counts) for everyone and every signal.

        counts[m] is how often successive values of a day are m minutes apart; counts[0]: more than 60.
        """
        rows_of: dict[tuple[str, str], list[int]] = {}
        for (subject, _, signal), row in self._rows.items():
            rows_of.setdefault((subject, signal), []).append(row)
        table = self._values.flat.reshape(-1, self.num_samples)
        for (subject, signal), rows in rows_of.items():
            row, slot = np.nonzero(~np.isnan(table[rows]))
            steps = np.diff(slot)[np.diff(row) == 0] * self.sample_minutes
            steps[steps > LONGEST_STEP] = 0
            yield subject, signal, np.bincount(steps, minlength=LONGEST_STEP + 1)

    def days(
        self, ranges: PlausibleRanges, signals: Sequence[str], sample_minutes: int
    ) -> Iterator[tuple[str, int, np.ndarray]]:
        """(subject, days since 1970, values (C, L) float32) of every day with a value, by subject and date.

        ranges: values outside them are missing; a day may be left without any.
        sample_minutes: a multiple of the grid's.

        Raises InputError for two values in one such sample, unless values are averaged.
        """
        for subject, date in sorted({(subject, date) for subject, date, _ in self._rows}):
            rows = [self._rows.get((subject, date, signal)) for signal in signals]
            values = self._gather(self._values, rows, np.nan)
            if sample_minutes != self.sample_minutes:
                values = self._coarsened(values, rows, sample_minutes, subject, date, signals)
            ranges.clear(values)
            yield subject, date, values

    def _store(self, cells: np.ndarray, values: np.ndarray) -> int | None:
        """Put values into cells.

        Without averaging, returns the first place whose cell already has a value, and stores nothing then.
        """
        self._values.reserve(len(self._rows))
        ascending = bool((cells[1:] > cells[:-1]).all())
        order = np.arange(len(cells)) if ascending else np.argsort(cells, kind="stable")
        again = np.zeros(len(cells), dtype=bool)
        again[order[1:]] = cells[order[1:]] == cells[order[:-1]]
        if self._counts is None:
            again |= ~np.isnan(self._values.flat[cells])
            if again.any():
                return int(np.argmax(again))
            self._values.flat[cells] = values
            return None
        self._counts.reserve(len(self._rows))
        starts = np.flatnonzero(~again[order])
        if len(starts):
            once = cells[order[starts]]
            sums = np.add.reduceat(values[order], starts)
            counts = np.diff(np.append(starts, len(order)))
            before = self._counts.flat[once]
            self._counts.flat[once] = before + counts
            self._values.flat[once] = (np.nan_to_num(self._values.flat[once]) * before + sums) / (
                before + counts
            )
        return None

    def _gather(self, source: _GrowingRows, rows: Sequence[int | None], fill: float) -> np.ndarray:
        values = np.full((len(rows), self.num_samples), fill, dtype=np.float32)
        for index, row in enumerate(rows):
            if row is not None:
                values[index] = source.flat[row * self.num_samples : (row + 1) * self.num_samples]
        return values

    def _coarsened(
        self,
        values: np.ndarray,
        rows: Sequence[int | None],
        sample_minutes: int,
        subject: str,
        date: int,
        signals: Sequence[str],
    ) -> np.ndarray:
        """(C, L) in samples of `sample_minutes`."""
        fine = values.reshape(len(rows), -1, sample_minutes // self.sample_minutes)
        observed = ~np.isnan(fine)
        if self._counts is not None:
            weights = self._gather(self._counts, rows, 0.0).reshape(fine.shape).astype(np.float64)
            with np.errstate(invalid="ignore"):
                return ((np.nan_to_num(fine) * weights).sum(2) / weights.sum(2)).astype(np.float32)
        several = observed.sum(2) > 1
        if several.any():
            signal, slot = np.argwhere(several)[0]
            minutes = slot * sample_minutes + np.flatnonzero(observed[signal, slot]) * self.sample_minutes
            first, second = (_time_text(date * MINUTES_PER_DAY + minute) for minute in minutes[:2])
            raise InputError(
                f"{_person_text(subject)} has values of {signals[signal]!r} at {first} and at {second}, "
                f"which is one sample of {minutes_text(sample_minutes)}; {self._advice.duplicate}"
            )
        return np.take_along_axis(fine, observed.argmax(2)[..., None], axis=2)[..., 0]

    def _duplicate(self, rows: Rows, signals: Coded, values: np.ndarray, at: int) -> InputError:
        """The error about row `at`, whose sample already has a value."""
        same = (rows.subjects.codes == rows.subjects.codes[at]) & (signals.codes == signals.codes[at])
        step = commonest_step(np.diff(np.unique(rows.seconds[same & ~np.isnan(values)])))
        person = _person_text(rows.subjects.names[int(rows.subjects.codes[at])])
        signal = signals.names[int(signals.codes[at])]
        sample = f"{self.sample_minutes} min"
        if step is not None and step < 60 * self.sample_minutes:
            often = f"{step} s" if step % 60 else f"{step // 60} min"
            return InputError(
                f"{rows.place(at)}: {person} has a value of {signal!r} every {often}, "
                f"but a sample lasts {sample}; " + self._advice.finer.format(minutes=self.sample_minutes)
            )
        return InputError(
            f"{rows.place(at)}: {person} already has a value of {signal!r} in the {sample} "
            f"from {_time_text(int(rows.seconds[at]) // 60)}; {self._advice.duplicate}"
        )


def _person_text(subject: str) -> str:
    return f"subject {subject!r}" if subject else "the person"


def _time_text(minutes: int) -> str:
    return str(np.datetime64(int(minutes), "m")).replace("T", " ")


class _GrowingRows:
    """Rows of float32 in a temporary file that has no name and vanishes with this object, or in memory."""

    def __init__(self, width: int, fill: float, folder: Path | None) -> None:
        self._width, self._fill, self._used, self._folder = width, fill, 0, folder
        # The file is open as long as this object lives.
        self._file = None if folder is None else tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self.flat = np.empty(0, dtype=np.float32)
        self._resize(_FIRST_CAPACITY)

    def reserve(self, rows: int) -> None:
        """Make `rows` rows usable; new ones hold the fill."""
        if rows * self._width > len(self.flat):
            self._resize(max(rows, (len(self.flat) + min(len(self.flat), _LARGEST_GROWTH)) // self._width))
        self.flat[self._used * self._width : rows * self._width] = self._fill
        self._used = max(self._used, rows)

    def _resize(self, capacity: int) -> None:
        size = self._width * capacity
        if self._file is None:
            self.flat = np.concatenate([self.flat, np.empty(size - len(self.flat), dtype=np.float32)])
            return
        try:
            # A mapped file without room would end the process at its first use; allocated, it raises here.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), 0, 4 * size)
            else:
                self._file.truncate(4 * size)
        except OSError as error:
            raise InputError(
                f"{self._folder} has no room for the {4 * size / 2**20:.0f} MiB that sorting rows into days "
                f"takes ({error.strerror}); make room there, or choose another place for the store"
            ) from None
        self.flat = np.memmap(self._file, dtype=np.float32, mode="r+", shape=(size,))
