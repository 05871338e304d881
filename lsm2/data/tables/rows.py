"""From the columns of a table to rows for the day grid: one reading of cells for files and DataFrames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lsm2.data.day_grid import Coded, Rows
from lsm2.data.wall_clock import WallClock, first_failing
from lsm2.errors import InputError


@dataclass(frozen=True)
class TableLayout:
    """Which column of a table means what."""

    timestamp: str
    subject: str | None
    """None: all rows are of one person, without a name."""
    signals: tuple[str, ...] = ()
    """The columns of a wide table that are signals."""
    signal: str | None = None
    """In a long table: the column that names the signal."""
    value: str | None = None
    """In a long table: the column of the value."""
    where: str | None = None
    """A true/false column; rows where it is not true are left out."""
    wanted: tuple[str, ...] | None = None
    """The signals to take; None: all."""

    @property
    def columns(self) -> list[str]:
        """All columns to read."""
        named = (self.subject, self.timestamp, self.where, self.signal, self.value)
        return [name for name in named if name is not None] + self.wanted_signals

    @property
    def wanted_signals(self) -> list[str]:
        """The columns of a wide table to take."""
        return [name for name in self.signals if self.wanted is None or name in self.wanted]


class TableReader:
    """Turns batches of one table into rows.

    layout: which column means what.
    clock: reads the times.
    choice: what a user does about a column without numbers.
    """

    def __init__(self, layout: TableLayout, clock: WallClock, choice: str) -> None:
        self._layout, self._clock, self._choice = layout, clock, choice

    def rows(self, batch: pa.RecordBatch, place: Callable[[int], str], source: str = "") -> Rows:
        """The rows of a batch; raises InputError naming the place of a cell that cannot be read."""
        layout = self._layout
        if layout.subject is None:
            subjects = Coded(np.zeros(batch.num_rows, dtype=np.int64), [""])
        else:
            subjects = names(batch, layout.subject, place)
        seconds, keep = self._clock.seconds(batch.column(layout.timestamp), place)
        left_out = {"in the hour that happens twice when clocks go back": int((~keep).sum())}
        if layout.where is not None:
            chosen = flags(batch, layout.where, place)
            left_out[f"where {layout.where} is not true"] = int((~chosen).sum())
            keep = keep & chosen
        if layout.signal is not None and layout.value is not None:
            signals = names(batch, layout.signal, place)
            values = self._numbers(batch, layout.value, place)
            if layout.wanted is not None:
                values[~np.isin(signals.codes, _codes_of(signals, layout.wanted))] = np.nan
            series = [(signals, values)]
            available = signals.names
        else:
            same = np.zeros(batch.num_rows, dtype=np.int64)
            series = [
                (Coded(same, [name]), self._numbers(batch, name, place)) for name in layout.wanted_signals
            ]
            available = layout.signals
        if not keep.all():
            for _, values in series:
                values[~keep] = np.nan
        return Rows(place, subjects, seconds, series, available, source, left_out)

    def _numbers(self, batch: pa.RecordBatch, column: str, place: Callable[[int], str]) -> np.ndarray:
        """A column as float64, NaN where missing; raises InputError naming the row of what is no number."""
        cells = batch.column(column)
        if pa.types.is_boolean(cells.type):
            raise InputError(
                f"{place(0)}, column {column!r} holds true and false, not numbers; {self._choice}"
            )
        values = _cast(cells, pa.float64(), column, place, "a number", f"correct it, or {self._choice}")
        infinite = np.isinf(values)
        if infinite.any():
            raise InputError(
                f"{place(int(infinite.argmax()))}, column {column!r} is infinite, which no sensor measures; "
                "leave the cell empty"
            )
        return values


def flags(batch: pa.RecordBatch, column: str, place: Callable[[int], str]) -> np.ndarray:
    """A true/false column as bool, False where missing."""
    return _cast(batch.column(column), pa.bool_(), column, place, "true or false", "correct it")


def names(batch: pa.RecordBatch, column: str, place: Callable[[int], str]) -> Coded:
    """A column of names; raises InputError naming the row where it is empty."""
    cells = batch.column(column)
    if pa.types.is_dictionary(cells.type) or pa.types.is_string_view(cells.type):
        cells = pc.cast(cells, pa.string())
    encoded = cells.dictionary_encode()
    if encoded.null_count:
        row = int(np.flatnonzero(encoded.is_null().to_numpy(zero_copy_only=False))[0])
        raise InputError(f"{place(row)}, column {column!r} is empty; every row needs it")
    return Coded(
        encoded.indices.to_numpy().astype(np.int64), pc.cast(encoded.dictionary, pa.string()).to_pylist()
    )


def _codes_of(coded: Coded, wanted: Sequence[str]) -> list[int]:
    return [code for code, name in enumerate(coded.names) if name in wanted]


def _cast(
    cells: pa.Array,
    target: pa.DataType,
    column: str,
    place: Callable[[int], str],
    wanted: str,
    remedy: str,
) -> np.ndarray:
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if pa.types.is_string_view(cells.type):
        cells = cells.cast(pa.large_string())
    if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
        cells = pc.call_function("utf8_trim_whitespace", [cells])
    try:
        converted = pc.cast(cells, target)
    except pa.ArrowException:
        at = first_failing(cells, lambda part: pc.cast(part, target))
        raise InputError(
            f"{place(at)}, column {column!r}: {cells[at].as_py()!r} is not {wanted}; {remedy}"
        ) from None
    filled = converted.fill_null(False if pa.types.is_boolean(target) else np.nan)
    return np.array(filled.to_numpy(zero_copy_only=False))
