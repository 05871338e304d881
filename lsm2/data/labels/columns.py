"""Columns of a label file: all rows at once, each column as numbers or as text."""

# pyarrow.compute makes its functions at import, where pyright does not see them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from lsm2.data.tables.file import CSV_SUFFIXES, MISSING_WORDS, PARQUET_SUFFIXES, TableFile
from lsm2.errors import InputError

pc: Any = pyarrow.compute
"""Its functions are made when it is imported; type checkers know none of them."""
MOST_TEXTS_OF_A_COVARIATE = 20


def open_table(path: Path) -> TableFile:
    """The label file at `path`; raises InputError where there is none that can be read."""
    suffixes = ", ".join(CSV_SUFFIXES + PARQUET_SUFFIXES)
    if not path.exists():
        raise InputError(f"{path} does not exist; give a file of labels whose name ends in {suffixes}")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give one file of labels whose name ends in {suffixes}")
    if not path.name.lower().endswith(CSV_SUFFIXES + PARQUET_SUFFIXES):
        raise InputError(f"{path} is not a table of labels: its name must end in {suffixes}")
    return TableFile(path)


class Columns:
    """Some columns of a label file, whole; labels are few compared with samples."""

    def __init__(self, file: TableFile, names: Sequence[str]) -> None:
        batches = list(file.batches(list(dict.fromkeys(names))))
        self.file = file
        self.place: Callable[[int], str] = file.place_from(batches[0][0])
        """What errors call row i."""
        self.num_rows = sum(batch.num_rows for _, batch in batches)
        self._cells = {
            name: pa.concat_arrays([_plain(batch.column(name)) for _, batch in batches]) for name in names
        }

    def cells(self, name: str) -> pa.Array:
        """A column as it is in the file."""
        return self._cells[name]

    def batch(self, name: str) -> pa.RecordBatch:
        """A column as a batch of rows."""
        return pa.RecordBatch.from_arrays([self._cells[name]], names=[name])

    def typed(self, name: str) -> pa.Array:
        """A column as float64 if all its cells are numbers or true and false (1 and 0), else as text.

        Null is missing. Raises InputError naming the row of an infinite number, or of the first text in a
        column of numbers, and naming the column that holds neither numbers nor text.
        """
        cells = self._cells[name]
        if pa.types.is_null(cells.type):
            return cells.cast(pa.float64())
        if pa.types.is_boolean(cells.type):
            return cells.cast(pa.uint8()).cast(pa.float64())
        if pa.types.is_large_string(cells.type):
            return self._from_text(name, cells)
        if pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type) or _is_decimal(cells.type):
            return self._finite(name, cells.cast(pa.float64(), safe=False))
        raise InputError(
            f"{self.file.path}, column {name!r} holds {cells.type}, which is neither numbers nor text; "
            "write it as one of them"
        )

    def _from_text(self, name: str, cells: pa.Array) -> pa.Array:
        cells = pc.utf8_trim_whitespace(cells)
        missing = pc.is_in(cells, value_set=pa.array(MISSING_WORDS, cells.type))
        cells = pc.if_else(missing, pa.scalar(None, cells.type), cells)
        if pc.all(
            pc.is_in(pc.utf8_lower(cells.drop_null()), value_set=pa.array(["true", "false"], cells.type))
        ).as_py():
            return pc.equal(pc.utf8_lower(cells), "true").cast(pa.uint8()).cast(pa.float64())
        try:
            return self._finite(name, cells.cast(pa.float64()))
        except pa.ArrowException:
            self._refuse_stray_text(name, cells)
            return cells

    def _refuse_stray_text(self, name: str, cells: pa.Array) -> None:
        """Raise InputError naming the first text of a column in which nine of ten cells are numbers."""
        is_number = np.array([_is_number(text) for text in cells.to_pylist()])
        is_text = ~is_number & cells.is_valid().to_numpy(zero_copy_only=False)
        if is_number.sum() >= 9 * is_text.sum():
            row = int(is_text.argmax())
            raise InputError(
                f"{self.place(row)}, column {name!r}: {cells[row].as_py()!r} is not a number, but "
                f"{is_number.sum()} cells of the column are; correct it, or leave the cell empty"
            )

    def _finite(self, name: str, cells: pa.Array) -> pa.Array:
        numbers = cells.to_numpy(zero_copy_only=False)
        infinite = np.isinf(numbers)
        if infinite.any():
            raise InputError(
                f"{self.place(int(infinite.argmax()))}, column {name!r} is infinite; "
                "correct it, or leave the cell empty"
            )
        return pa.array(numbers, mask=np.isnan(numbers))


def covariate_columns(
    columns: Columns, names: Sequence[str], rows: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Covariates (rows, K) float64 of these rows, NaN where missing, and their names.

    A column of numbers gives one of them. One of text gives an indicator a text, named column=text; of two
    texts only the second has one. Raises InputError naming a column that is empty in these rows, and one of
    more than 20 texts.
    """
    found: dict[str, np.ndarray] = {}
    for name in names:
        cells = columns.typed(name).take(pa.array(rows))
        if cells.null_count == len(cells):
            raise InputError(
                f"{columns.file.path}, column {name!r} is empty in all rows with a label; "
                "take it out of --covariates"
            )
        if pa.types.is_floating(cells.type):
            found[name] = cells.to_numpy(zero_copy_only=False)
            continue
        texts = sorted(cells.unique().drop_null().to_pylist())
        if len(texts) > MOST_TEXTS_OF_A_COVARIATE:
            raise InputError(
                f"{columns.file.path}, column {name!r} has {len(texts)} different texts; a covariate has at "
                f"most {MOST_TEXTS_OF_A_COVARIATE}: group them, or take it out of --covariates"
            )
        for text in texts[1:] if len(texts) == 2 else texts:
            equal = pc.equal(cells, text).cast(pa.uint8()).cast(pa.float64())
            found[f"{name}={text}"] = equal.to_numpy(zero_copy_only=False)
    values = np.column_stack(list(found.values())) if found else np.empty((len(rows), 0))
    return values, tuple(found)


def _plain(cells: pa.Array) -> pa.Array:
    """Cells without a dictionary; text of every width as one type."""
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if pa.types.is_string(cells.type) or pa.types.is_string_view(cells.type):
        return cells.cast(pa.large_string())
    return cells


def _is_decimal(kind: pa.DataType) -> bool:
    return pa.types.is_decimal(kind)


def _is_number(text: str | None) -> bool:
    try:
        return text is not None and np.isfinite(float(text))
    except ValueError:
        return False
