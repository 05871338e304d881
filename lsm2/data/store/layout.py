"""What a DayStore is made of: its files, their names, and the hashes that vouch for them.

manifest.json      format_version, signals, sampling, number of days and samples, size and sha256 of every file below, and
                   its own sha256
days.arrow         one row per day: day_id, subject, date
moments.arrow      one row per person: subject; count, mean and squares (sum of squared deviations from the mean) of the
                   observed samples of each signal after its transform, C float64 each
observed.bits      one row per day of ceil(C * L / 8) bytes: a bit per sample, signal after signal, 1 = observed, the first
                   sample in the highest bit; the manifest holds the sha256 of the rows that belong to each shard
shard-00000.arrow  one record batch per day: day_id, values = C * L float32 in physical units, NaN = missing, signal after
                   signal
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

FORMAT = "lsm2-day-store"
FORMAT_VERSION = 2
MANIFEST = "manifest.json"
DAYS_FILE = "days.arrow"
DAYS_SCHEMA = pa.schema([("day_id", pa.string()), ("subject", pa.string()), ("date", pa.string())])
MOMENTS_FILE = "moments.arrow"
MOMENTS = ("count", "mean", "squares")
OBSERVED_FILE = "observed.bits"


@dataclass(frozen=True, eq=False)
class Day:
    """One day of one person."""

    subject: str
    date: str
    """Local date, ISO 8601 (2024-03-01)."""
    values: np.ndarray
    """(C, L) float32 in physical units, NaN = missing."""

    @property
    def day_id(self) -> str:
        """subject/date: the name of this day in a store."""
        return f"{self.subject}/{self.date}"


def values_type(num_cells: int) -> pa.FixedSizeListType:
    """The Arrow type of one day's C * L values."""
    return pa.list_(pa.field("item", pa.float32(), nullable=False), num_cells)


def is_store(path: Path) -> bool:
    """Whether a folder says of itself that it is a DayStore, in whatever version and state."""
    try:
        return json.loads((path / MANIFEST).read_bytes()).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        return False


def manifest_sha256(manifest: Mapping[str, Any]) -> str:
    """The hash of a manifest without its own entry `sha256`."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
