"""Where an importer gathers values by person, day and signal, in whatever order they come; on disk, so that no source is too large."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

_FIRST_CAPACITY = 64


class DayGrid:
    """One row of `num_samples` float32 per (subject, day, signal), NaN = missing; `average`: several values of one cell are averaged."""

    def __init__(self, num_samples: int, average: bool, folder: Path) -> None:
        self.num_samples = num_samples
        self._rows: dict[tuple[str, int, str], int] = {}
        self._values = _GrowingRows(num_samples, np.nan, folder)
        self._counts = _GrowingRows(num_samples, 0.0, folder) if average else None

    def add(
        self, keys: Sequence[tuple[str, int, str]], key_of: np.ndarray, slots: np.ndarray, values: np.ndarray
    ) -> int | None:
        """Store finite values (n,) at `slots` (n,) of the rows keys[key_of] (subject, days since 1970, signal).

        Without averaging, the first place whose cell already has a value is returned, and nothing is stored.
        """
        rows = np.array([self._rows.setdefault(key, len(self._rows)) for key in keys], dtype=np.int64)
        self._values.reserve(len(self._rows))
        cells = rows[key_of] * self.num_samples + slots
        order = np.argsort(cells, kind="stable")
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
            sums, counts = np.add.reduceat(values[order], starts), np.diff(np.append(starts, len(order)))
            before = self._counts.flat[once]
            self._counts.flat[once] = before + counts
            self._values.flat[once] = (np.nan_to_num(self._values.flat[once]) * before + sums) / (
                before + counts
            )
        return None

    def days(self, signals: Sequence[str]) -> Iterator[tuple[str, int, np.ndarray]]:
        """(subject, days since 1970, values (C, L) float32) of every day, by subject and date."""
        for subject, date in sorted({(subject, date) for subject, date, _ in self._rows}):
            values = np.full((len(signals), self.num_samples), np.nan, dtype=np.float32)
            for index, signal in enumerate(signals):
                if (row := self._rows.get((subject, date, signal))) is not None:
                    values[index] = self._values.flat[row * self.num_samples : (row + 1) * self.num_samples]
            yield subject, date, values


class _GrowingRows:
    """Rows of float32 in a temporary file that has no name and vanishes with this object."""

    def __init__(self, width: int, fill: float, folder: Path) -> None:
        self._width, self._fill, self._used = width, fill, 0
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (open as long as this object lives)
        self._map(_FIRST_CAPACITY)

    def reserve(self, rows: int) -> None:
        """Make `rows` rows usable; new ones hold the fill."""
        if rows * self._width > len(self.flat):
            self._map(max(rows, 2 * len(self.flat) // self._width))
        self.flat[self._used * self._width : rows * self._width] = self._fill
        self._used = max(self._used, rows)

    def _map(self, capacity: int) -> None:
        self._file.truncate(4 * self._width * capacity)
        self.flat = np.memmap(self._file, dtype=np.float32, mode="r+", shape=(self._width * capacity,))
