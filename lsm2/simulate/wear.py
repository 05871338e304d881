"""Real wear patterns: when people wore a device, minute by minute, read from a Parquet file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from lsm2.errors import InputError
from lsm2.files import file_sha256
from lsm2.rng import keyed_rng
from lsm2.simulate.schedule import MINUTES, date_of

COLUMNS = ("subject", "weekday", "wear_bits")
LEAST_WORN = 0.2
"""Days worn for less are left out, as the paper leaves out days of which more than 80 % are missing."""


@dataclass(frozen=True)
class WearPatterns:
    """Days of wear of real people."""

    path: Path
    sha256: str
    bits: np.ndarray
    """(days, 180) uint8: a bit a minute, the first in the highest bit, 1 = worn."""
    weekdays: np.ndarray
    """(days,) 1 = Sunday."""
    first_days: np.ndarray
    """(people + 1,) row of each person's first day; the days of a person stand together."""

    @classmethod
    def read(cls, path: Path) -> WearPatterns:
        """Read columns subject, weekday (1 = Sunday to 7), wear_bits (180 bytes, most significant bit first).

        Raises InputError that names the file, and the row where one is wrong.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path} is no file; give --wear a Parquet file of wear bits")
        try:
            table = pyarrow.parquet.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{path} cannot be read as Parquet ({str(error).strip()}); give --wear a file of wear bits"
            ) from None
        for column in COLUMNS:
            if column not in table.column_names:
                raise InputError(
                    f"{path} has no column {column!r}; --wear needs {', '.join(COLUMNS)}, "
                    f"and it has {', '.join(table.column_names)}"
                )
        return cls._from_rows(path, *(table[column].to_pylist() for column in COLUMNS))

    @classmethod
    def _from_rows(cls, path: Path, subjects: list, weekdays: list, wear_bits: list) -> WearPatterns:
        for row, (subject, weekday, bits) in enumerate(
            zip(subjects, weekdays, wear_bits, strict=True), start=1
        ):
            if subject is None:
                raise InputError(f"{path}, row {row}: subject is empty; name the person")
            if weekday not in range(1, 8):
                raise InputError(f"{path}, row {row}: weekday is {weekday!r}; write 1 for Sunday to 7")
            if not isinstance(bits, bytes) or len(bits) != MINUTES // 8:
                came = f"{len(bits)} bytes" if isinstance(bits, bytes) else repr(bits)
                raise InputError(
                    f"{path}, row {row}: wear_bits is {came}; write {MINUTES // 8} bytes, a bit a minute"
                )
        all_bits = np.frombuffer(b"".join(wear_bits), np.uint8).reshape(-1, MINUTES // 8)
        worn = np.bitwise_count(all_bits).sum(1) / MINUTES
        kept = np.flatnonzero(worn >= LEAST_WORN)
        if not len(kept):
            raise InputError(
                f"{path} has no day that was worn for {LEAST_WORN:.0%} of its minutes or more; "
                "give --wear another file"
            )
        codes = np.unique(np.array([str(subject) for subject in subjects])[kept], return_inverse=True)[1]
        order = np.argsort(codes, kind="stable")
        first_days = np.flatnonzero(np.diff(codes[order], prepend=-1, append=-1))
        kept = kept[order]
        return cls(path, file_sha256(path), all_bits[kept], np.array(weekdays)[kept], first_days)

    def of_day(self, seed: int, person: int, day: int) -> np.ndarray:
        """(1440,) bool, True where the simulated person wears the device: a day of one real person, of
        the same weekday if that person has one.
        """
        chosen = int(keyed_rng("wearer", seed, person).integers(len(self.first_days) - 1))
        days = np.arange(self.first_days[chosen], self.first_days[chosen + 1])
        same = days[self.weekdays[days] == date_of(day).isoweekday() % 7 + 1]
        pool = same if len(same) else days
        row = pool[day // 7 % len(pool)] if len(same) else pool[day % len(pool)]
        return np.unpackbits(self.bits[row]).astype(bool)
