"""Times of any source as local wall clock, at whose midnight days are cut."""

from __future__ import annotations

import datetime
import re
import zoneinfo
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lsm2.errors import InputError

LOCAL = "local"
_NAIVE, _AWARE = pa.timestamp("ns"), pa.timestamp("ns", tz="UTC")
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EARLIEST, _LATEST = (np.datetime64(year, "s").astype(np.int64) for year in ("1678", "2262"))
_NO_PLACE = re.compile(r"(Etc/.*|UTC|UCT|GMT[+-]?0?|Z|Zulu|Universal|Greenwich|(UTC|GMT)?[+-]\d.*)", re.I)
"""Names of zones in which nobody lives: offsets, which tell the instant and not the clock on the wall."""


class WallClock:
    """Reads the times of one source.

    timezone: "local" or an IANA name. With a name, times with a zone are converted to that zone, and times
        without one are its wall clock. With "local", times without a zone are wall clock, and those of a
        named zone (Europe/Berlin) are the wall clock of that zone; UTC and offsets are refused, as they do
        not tell where the person lived.
    column: what errors call the column.
    zone_advice: what a user does about times in UTC or with an offset.

    Raises InputError for a name that is not a time zone.
    """

    def __init__(self, timezone: str, column: str, zone_advice: str) -> None:
        self._zone = None if timezone == LOCAL else _zone(timezone)
        self._column, self._zone_advice = column, zone_advice
        self._text_kind: pa.DataType | None = None

    def seconds(self, cells: pa.Array, place: Callable[[int], str]) -> tuple[np.ndarray, np.ndarray]:
        """(seconds of wall clock since 1970-01-01 00:00, rows to keep) of a column of times or ISO 8601 text.

        When clocks go back, an hour of wall clock happens twice: of times with a zone the first is kept.
        When they go forward, an hour stays missing. `place` names a row in errors. Raises InputError naming
        the row of a cell that is empty, no time or outside the years 1678 to 2261, and of one that has a zone
        where the rows before have none, or none where they have one.
        """
        if cells.null_count:
            row = int(np.flatnonzero(cells.is_null().to_numpy(zero_copy_only=False))[0])
            raise InputError(f"{place(row)}, column {self._column!r} is empty; every row needs a time")
        times = self._parsed(cells, place)
        seconds = times.view(pa.int64()).to_numpy() // _TICKS[times.type.unit]
        outside = (seconds < _EARLIEST) | (seconds >= _LATEST)
        if outside.any():
            row = int(np.argmax(outside))
            raise self._not_a_date(place(row), str(np.datetime64(int(seconds[row]), "s")))
        if times.type.tz is None:
            return seconds, np.ones(len(seconds), dtype=bool)
        zone = self._zone or self._lived_in(times.type.tz, cells, place)
        offsets, repeated = _offsets(seconds, zone)
        return seconds + offsets, ~repeated

    def _lived_in(self, name: str, cells: pa.Array, place: Callable[[int], str]) -> zoneinfo.ZoneInfo:
        if _NO_PLACE.fullmatch(name):
            raise InputError(
                f"{place(0)}, column {self._column!r}: {cells[0].as_py()} has a time zone that names no "
                f"place (UTC or an offset), and days are cut at local midnight; {self._zone_advice}"
            )
        return _zone(name)

    def _parsed(self, cells: pa.Array, place: Callable[[int], str]) -> pa.Array:
        """The cells as Arrow timestamps; those of text with a zone are in UTC."""
        if pa.types.is_timestamp(cells.type):
            return cells
        if not (
            pa.types.is_string(cells.type)
            or pa.types.is_large_string(cells.type)
            or pa.types.is_string_view(cells.type)
        ):
            raise InputError(
                f"{place(0)}, column {self._column!r} holds {cells.type}, not times; "
                "write times as ISO 8601 text or as timestamps"
            )
        cells = pc.call_function("utf8_trim_whitespace", [cells.cast(pa.large_string())])
        if self._text_kind is None:
            self._text_kind = _AWARE if _casts(cells[:1], _AWARE) else _NAIVE
        try:
            return cells.cast(self._text_kind)
        except pa.ArrowException:
            at = first_failing(cells, lambda part: part.cast(self._text_kind))
        cell, text = cells[at : at + 1], cells[at].as_py()
        where = f"{place(at)}, column {self._column!r}: {text!r}"
        if _casts(cell, _NAIVE):
            raise InputError(
                f"{where} has no time zone, but the rows before it have one; give every row a zone, or none"
            )
        if _casts(cell, _AWARE):
            raise InputError(
                f"{where} has a time zone, but the rows before it have none; give every row a zone, or none"
            )
        if _casts(cell, pa.timestamp("s")) or _casts(cell, pa.timestamp("s", tz="UTC")):
            raise self._not_a_date(place(at), text)
        raise InputError(
            f"{where} is not a time; write ISO 8601, 2024-03-01 13:45 or 2024-03-01T13:45:00+01:00"
        )

    def _not_a_date(self, place: str, time: str) -> InputError:
        return InputError(
            f"{place}, column {self._column!r}: {time} is outside the years 1678 to 2261, a placeholder "
            "perhaps; correct it, or leave the row out"
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


def _offsets(seconds: np.ndarray, zone: zoneinfo.ZoneInfo) -> tuple[np.ndarray, np.ndarray]:
    """(seconds to add to UTC, whether the wall clock showed this time before) at each of these UTC times."""
    minutes = seconds // 60
    quarters, of_row = np.unique(minutes // 15, return_inverse=True)
    first, last = (_offsets_at(quarters * 15 + minute, zone) for minute in (0, 14))
    result = first[of_row]
    # Some zones change their clocks within a quarter of an hour: St John's did so at 00:01.
    changing = (first != last).any(1)[of_row]
    if changing.any():
        single, of_changing = np.unique(minutes[changing], return_inverse=True)
        result[changing] = _offsets_at(single, zone)[of_changing]
    return result[:, 0], result[:, 1].astype(bool)


def _offsets_at(minutes: np.ndarray, zone: zoneinfo.ZoneInfo) -> np.ndarray:
    """(n, 2) int64: offset in seconds and fold, at the start of these UTC minutes since 1970."""
    times = [datetime.datetime.fromtimestamp(minute * 60, zone) for minute in minutes.tolist()]
    pairs = [((time.utcoffset() or datetime.timedelta()).total_seconds(), time.fold) for time in times]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(
            f"timezone {name!r} is not known here; use 'local' or an IANA name such as Europe/Berlin "
            "(if that fails: pip install tzdata)"
        ) from None
