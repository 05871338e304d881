"""Times as people lived them: whatever a file's times are, as minutes of local wall clock, because days are cut at local midnight."""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lsm2.errors import InputError

LOCAL = "local"
_NAIVE, _AWARE = pa.timestamp("ns"), pa.timestamp("ns", tz="UTC")


class WallClock:
    """Reads one file's times. `timezone` is "local" (times are wall clock, and carry no zone) or an IANA name: times with a zone are
    converted to it, times without one are its wall clock. Raises InputError for a name that is not a time zone."""

    def __init__(self, timezone: str, file: Path, column: str) -> None:
        self._zone = None if timezone == LOCAL else _zone(timezone)
        self._file, self._column = file, column
        self._kind: pa.DataType | None = None

    def minutes(self, cells: pa.Array, first_row: int) -> tuple[np.ndarray, np.ndarray]:
        """(minutes of wall clock since 1970-01-01 00:00, rows to keep) of a column of times or ISO 8601 text.

        When clocks go back an hour of wall clock happens twice: of times with a zone the first is kept. When they go forward an hour stays
        missing. Raises InputError naming the row of a cell that is no time, or that has no zone where other rows have one, or one where
        they have none.
        """
        if cells.null_count:
            row = first_row + int(np.flatnonzero(cells.is_null().to_numpy(zero_copy_only=False))[0])
            raise InputError(
                f"{self._file}, row {row}, column {self._column!r} is empty; every row needs a time"
            )
        times = self._parsed(cells, first_row)
        minutes = pc.cast(times, pa.int64()).to_numpy() // 60_000_000_000
        if self._kind != _AWARE:
            return minutes, np.ones(len(minutes), dtype=bool)
        if self._zone is None:
            raise InputError(
                f"{self._file}, row {first_row}, column {self._column!r}: {cells[0].as_py()} has a time zone, and days are cut at "
                "local midnight; name the zone the person lived in with timezone, for instance Europe/Berlin"
            )
        # Every zone's offset has been constant within quarters of an hour since clocks were standardised.
        quarters, inverse = np.unique(minutes // 15, return_inverse=True)
        local = [datetime.datetime.fromtimestamp(int(quarter) * 900, self._zone) for quarter in quarters]
        offsets = np.array(
            [(time.utcoffset() or datetime.timedelta()).total_seconds() // 60 for time in local],
            dtype=np.int64,
        )
        repeated = np.array([bool(time.fold) for time in local])
        return minutes + offsets[inverse], ~repeated[inverse]

    def _parsed(self, cells: pa.Array, first_row: int) -> pa.Array:
        if pa.types.is_timestamp(cells.type):
            self._kind = _NAIVE if cells.type.tz is None else _AWARE
            return cells.cast(self._kind, safe=False)
        if not (pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type)):
            raise InputError(
                f"{self._file}, column {self._column!r} holds {cells.type}, not times; write times as ISO 8601 text or as timestamps"
            )
        cells = pc.call_function("utf8_trim_whitespace", [cells])
        if self._kind is None:
            self._kind = _AWARE if _casts(cells[:1], _AWARE) else _NAIVE
        try:
            return cells.cast(self._kind)
        except pa.ArrowException:
            at = first_failing(cells, lambda part: part.cast(self._kind))
        place = f"{self._file}, row {first_row + at}, column {self._column!r}: {cells[at].as_py()!r}"
        if _casts(cells[at : at + 1], _NAIVE):
            raise InputError(
                f"{place} has no time zone, but the rows before it have one; give every row of a file a zone, or none"
            )
        if _casts(cells[at : at + 1], _AWARE):
            raise InputError(
                f"{place} has a time zone, but the rows before it have none; give every row of a file a zone, or none"
            )
        raise InputError(
            f"{place} is not a time; write ISO 8601, 2024-03-01 13:45 or 2024-03-01T13:45:00+01:00"
        )


def first_failing(cells: pa.Array, convert: Callable[[pa.Array], object]) -> int:
    """The first place at which `convert` of the cells raises; it must raise for all of them."""
    low, high = 0, len(cells)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            convert(cells[low:middle])
            low = middle
        except pa.ArrowException:
            high = middle
    return low


def _casts(cells: pa.Array, kind: pa.DataType) -> bool:
    try:
        cells.cast(kind)
    except pa.ArrowException:
        return False
    return True


def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(
            f"timezone {name!r} is not known here; use 'local' or an IANA name such as Europe/Berlin (if that fails: pip install tzdata)"
        ) from None
