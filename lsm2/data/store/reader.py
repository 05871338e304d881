"""DayStore: days of wearable data in a folder of memory-mapped files; `lsm2.data.store.layout` describes
them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lsm2.data.normalize import merge_moments
from lsm2.data.signals import Signal
from lsm2.data.store.layout import MANIFEST, MOMENTS, Day
from lsm2.data.store.manifest import check_size, damaged, entries, read_manifest
from lsm2.data.store.writer import write_store
from lsm2.errors import InputError
from lsm2.files import file_sha256

VERIFY_AT_OPEN_BYTES = 512 * 2**20
"""Stores up to this size are hashed when opened, in about a second; in larger ones each file is hashed before
its first use.
"""
OPEN_SHARDS = 64
"""So many shards stay open at a time, those used last: every open shard holds a file handle."""


class DayStore:
    """A store of days, read from memory-mapped files: a day costs memory only while it is used.

    Use `DayStore.open` or `DayStore.write`.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], days: pa.Table) -> None:
        self.path = path
        self.days = days
        """Table of day_id, subject, date; row i names the day of `values(i)`."""
        self.manifest = manifest
        self.signals: tuple[Signal, ...] = tuple(Signal.from_dict(signal) for signal in manifest["signals"])
        self.num_samples: int = manifest["num_samples"]
        """L, samples per signal and day."""
        self.sample_minutes: int = manifest["sample_minutes"]
        """Minutes per sample."""
        self._shards: list[dict[str, Any]] = manifest["shards"]
        self._first_rows = np.cumsum([0] + [shard["rows"] for shard in self._shards])
        self._observed = np.memmap(path / manifest["observed"]["file"], np.uint8, "r").reshape(len(days), -1)
        self._verified: dict[str, tuple[int, ...]] = {}
        self._verified_observed: set[int] = set()
        self._reader = lru_cache(maxsize=OPEN_SHARDS)(lambda shard: self._open(self._shards[shard]))

    @classmethod
    def open(cls, path: Path | str) -> DayStore:
        """Open a store; raises InputError naming the file that is missing, cut short, changed or of another
        format.
        """
        path = Path(path)
        manifest = read_manifest(path)
        for entry in entries(manifest):
            check_size(path / entry["file"], entry["bytes"])
        if file_sha256(path / manifest["days"]["file"]) != manifest["days"]["sha256"]:
            raise InputError(damaged(path / manifest["days"]["file"]))
        with pa.memory_map(str(path / manifest["days"]["file"])) as source:
            days = pa.ipc.open_file(source).read_all()
        store = cls(path, manifest, days)
        if sum(entry["bytes"] for entry in manifest["shards"]) <= VERIFY_AT_OPEN_BYTES:
            store.verify()
        return store

    @classmethod
    def write(
        cls,
        path: Path | str,
        signals: Sequence[Signal],
        days: Iterable[Day],
        *,
        sample_minutes: int = 1,
        replace: bool = False,
        progress: bool = False,
        attachments: Mapping[str, Callable[[], bytes | Iterable[bytes]]] | None = None,
    ) -> DayStore:
        """Write days as they come, one in memory at a time, to a new store at `path`, and open it.

        Nothing appears at `path` before all is written and on disk. A store at `path` is replaced with
        `replace` and refused without; anything else there is refused. `attachments` become further files of
        the folder: name, and what makes the bytes, or pieces of them, after the last day. Raises InputError
        for a `path` that is refused, naming the day for a wrong shape, an infinite value, a date that is not
        ISO 8601 or a day that occurs twice, and where there is no day at all.
        """
        return cls.open(
            write_store(
                Path(path),
                signals,
                days,
                sample_minutes=sample_minutes,
                replace=replace,
                progress=progress,
                attachments=attachments or {},
            )
        )

    def __len__(self) -> int:
        return self.days.num_rows

    def __repr__(self) -> str:
        size = (
            f"{len(self)} days of {len(self.subjects)} people, "
            f"{len(self.signals)} signals x {self.num_samples}"
        )
        return f"DayStore({str(self.path)!r}: {size})"

    def __reduce__(self):
        # Memory maps cannot travel to another process; the path can.
        return (_open_same, (self.path, self.manifest["sha256"]))

    @property
    def subjects(self) -> tuple[str, ...]:
        """The people, sorted."""
        return tuple(sorted(self.days["subject"].unique().to_pylist()))

    def indices_of(self, subjects: Collection[str]) -> list[int]:
        """Rows of all days of these people, ascending."""
        return _rows_of(self.days["subject"], subjects).tolist()

    @cached_property
    def row_of_day(self) -> dict[tuple[str, int], int]:
        """Row of each day, by person and days since 1970-01-01."""
        days = np.array(self.days["date"].to_pylist(), dtype="datetime64[D]").astype(np.int64).tolist()
        keys = zip(self.days["subject"].to_pylist(), days, strict=True)
        return {key: row for row, key in enumerate(keys)}

    def index(self, day_id: str) -> int:
        """The row of a day; raises InputError for one that is not in the store."""
        index = pc.index(self.days["day_id"], day_id).as_py()
        if index < 0:
            example = self.days["day_id"][0].as_py()
            raise InputError(f"store {self.path} has no day {day_id!r}; its days are named like {example!r}")
        return index

    def values(self, index: int) -> np.ndarray:
        """Day `index` as a fresh (C, L) float32 array in physical units, NaN = missing.

        Raises InputError if its shard was damaged, or replaced since the store was opened.
        """
        (shard,) = self._shards_of(np.array([index]))
        batch = self._reader(int(shard)).get_batch(int(index - self._first_rows[shard]))
        flat = batch.column("values").flatten().to_numpy(zero_copy_only=True)
        return flat.reshape(len(self.signals), self.num_samples).copy()

    def observed(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Which samples of these days are observed, (days, C, L) bool, without reading their values.

        Raises InputError if the file of them was damaged.
        """
        indices = np.asarray(indices, dtype=np.int64)
        for shard in np.unique(self._shards_of(indices)).tolist():
            self._verify_observed(shard)
        cells = len(self.signals) * self.num_samples
        bits = np.unpackbits(self._observed[indices], axis=1, count=cells).view(bool)
        return bits.reshape(-1, len(self.signals), self.num_samples)

    def moments_of(self, subjects: Collection[str]) -> np.ndarray:
        """Moments (3, C) of all days of these people together, without reading any day.

        They are, after each signal's transform, the float64 count of observed samples, their mean, and their
        sum of squared deviations from it: what `Normalization.from_moments` takes. Raises InputError if their
        file was damaged.
        """
        table = self._open(self.manifest["moments"]).read_all()
        rows = _rows_of(table["subject"], subjects)
        columns = [
            table[name].combine_chunks().flatten().to_numpy().reshape(-1, len(self.signals))[rows]
            for name in MOMENTS
        ]
        return merge_moments(np.stack(columns, axis=1))

    def verify(self) -> None:
        """Hash every file that was not hashed yet; raises InputError naming one that differs from what was
        written.
        """
        self._verify(self.manifest["moments"])
        for shard, entry in enumerate(self._shards):
            self._verify(entry)
            self._verify_observed(shard)

    def _shards_of(self, indices: np.ndarray) -> np.ndarray:
        outside = (indices < 0) | (indices >= len(self))
        if outside.any():
            raise IndexError(f"day {indices[outside][0]} of a store with {len(self)} days")
        return np.searchsorted(self._first_rows, indices, side="right") - 1

    def _open(self, entry: Mapping[str, Any]) -> pa.RecordBatchFileReader:
        """Map an Arrow file of the store; raises InputError if it is not what was written."""
        file = self.path / entry["file"]
        try:
            source = pa.memory_map(str(file))
        except FileNotFoundError:
            raise InputError(self._changed(file)) from None
        # Verified after it was opened: what is read is what was hashed, also where another store has taken
        # the place.
        self._verify(entry)
        # Loader workers are forked: reading may not lean on threads of the parent.
        return pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(use_threads=False))

    def _verify(self, entry: Mapping[str, Any]) -> None:
        """Hash a file unless it is the one that was hashed before; raises InputError if it is not what was
        written.
        """
        file = self.path / entry["file"]
        try:
            status = file.stat()
            identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if self._verified.get(file.name) == identity:
                return
            if file_sha256(file) != entry["sha256"]:
                raise InputError(self._changed(file))
        except FileNotFoundError:
            raise InputError(self._changed(file)) from None
        self._verified[file.name] = identity

    def _verify_observed(self, shard: int) -> None:
        if shard not in self._verified_observed:
            rows = self._observed[self._first_rows[shard] : self._first_rows[shard + 1]]
            if hashlib.sha256(rows.tobytes()).hexdigest() != self._shards[shard]["observed_sha256"]:
                raise InputError(damaged(self.path / self.manifest["observed"]["file"]))
            self._verified_observed.add(shard)

    def _changed(self, file: Path) -> str:
        """What to say of a file that is not the one that was written."""
        try:
            now = json.loads((self.path / MANIFEST).read_bytes()).get("sha256")
        except (OSError, ValueError, AttributeError):
            now = None
        if now == self.manifest["sha256"]:
            return damaged(file)
        remedy = f"({file.name} differs); start again"
        return f"store {self.path} was replaced or removed after it was opened {remedy}"


def _open_same(path: Path, sha256: str) -> DayStore:
    """The store at `path` in another process; raises InputError if it is not the one that was sent there."""
    store = DayStore.open(path)
    if store.manifest["sha256"] != sha256:
        raise InputError(f"store {path} was replaced after it was opened; start again")
    return store


def _rows_of(column: pa.ChunkedArray, subjects: Collection[str]) -> np.ndarray:
    """Where a column of names holds one of `subjects`, ascending."""
    wanted = pa.array(sorted(set(subjects)), pa.string())
    return np.flatnonzero(pc.call_function("is_in", [column], pc.SetLookupOptions(wanted)).to_numpy())
