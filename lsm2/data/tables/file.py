"""CSV and Parquet files as batches of rows, with errors that name file, row and column."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from lsm2.errors import InputError

CSV_SUFFIXES, PARQUET_SUFFIXES = (".csv", ".csv.gz"), (".parquet",)
MISSING_WORDS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""Cells of a CSV that mean: not measured."""
_CSV_BLOCK_BYTES = 8 * 2**20
_PARQUET_BATCH_ROWS = 2**17


class TableFile:
    """One file, with rows numbered as an editor shows them.

    In a CSV the header is row 1; in Parquet the first row of values is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_csv = path.name.lower().endswith(CSV_SUFFIXES)
        try:
            if path.stat().st_size == 0:
                raise InputError(f"{path} is empty; export it again, or leave it out")
            schema = self._open_csv().schema if self.is_csv else pyarrow.parquet.read_schema(path)
            self.columns: list[str] = schema.names
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise _unreadable(path, error) from None
        if twice := sorted({name for name in self.columns if self.columns.count(name) > 1}):
            raise InputError(f"{path} has two columns named {twice[0]!r}; rename one of them")

    def require(self, column: str, flag: str) -> None:
        """Raise InputError unless the file has this column, which the flag named."""
        if column not in self.columns:
            raise InputError(
                f"{self.path} has no column {column!r}; its columns are {', '.join(self.columns)}: "
                f"name the right one with {flag}"
            )

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(number of the first row, rows) of these columns, in order; a CSV gives text, null = missing."""
        row = 2 if self.is_csv else 1
        try:
            for batch in self._open_csv(columns) if self.is_csv else self._parquet_batches(columns):
                if batch.num_rows:
                    yield row, batch
                row += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(self.path, error) from None
        if row == (2 if self.is_csv else 1):
            raise InputError(f"{self.path} has no rows; export it again, or leave it out")

    def _open_csv(self, columns: Sequence[str] | None = None) -> pyarrow.csv.CSVStreamingReader:
        convert = None
        if columns is not None:
            convert = pyarrow.csv.ConvertOptions(
                include_columns=list(columns),
                column_types={name: pa.string() for name in columns},
                null_values=list(MISSING_WORDS),
                strings_can_be_null=True,
            )
        read = pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK_BYTES)
        return pyarrow.csv.open_csv(
            pa.input_stream(str(self.path), compression="detect"), read_options=read, convert_options=convert
        )

    def _parquet_batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with pyarrow.parquet.ParquetFile(self.path) as file:
            yield from file.iter_batches(batch_size=_PARQUET_BATCH_ROWS, columns=list(columns))

    def place_from(self, first_row: int) -> Callable[[int], str]:
        """What errors call row i of a batch whose first row is `first_row`."""
        return lambda row: f"{self.path}, row {first_row + row}"


def find_files(source: Path) -> list[Path]:
    """The source itself, or all CSV and Parquet files in it, by name; raises InputError if there is none."""
    if not source.exists():
        raise InputError(f"{source} does not exist; give a CSV or Parquet file, or a folder of them")
    suffixes = CSV_SUFFIXES + PARQUET_SUFFIXES
    if source.is_dir():
        files = sorted(
            file
            for file in source.iterdir()
            if file.name.lower().endswith(suffixes) and not file.name.startswith(".")
        )
        if not files:
            raise InputError(
                f"{source} holds no file ending in {', '.join(suffixes)}; give the folder that holds them"
            )
        return files
    if not source.name.lower().endswith(suffixes):
        raise InputError(f"{source} is not a table: its name must end in {', '.join(suffixes)}")
    return [source]


def _unreadable(path: Path, error: Exception) -> InputError:
    kind = "Parquet" if path.name.lower().endswith(PARQUET_SUFFIXES) else "CSV"
    return InputError(
        f"{path} cannot be read as {kind} ({str(error).strip()}); export it again, or leave it out"
    )
