"""What a DayStore is made of: its files, their names, and the hashes that vouch for them.

manifest.json     format_version, signals, normalisation, window, row counts, sizes and sha256 of the files below, and its own sha256
days.arrow        one row per day: day_id, subject, date
shard-00000.arrow one record batch per day: day_id, values = C * L float32 in physical units, NaN = missing, signal after signal
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
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
DAYS_FILE = "days.arrow"
DAYS_SCHEMA = pa.schema([("day_id", pa.string()), ("subject", pa.string()), ("date", pa.string())])


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
