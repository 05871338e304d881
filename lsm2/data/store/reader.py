"""DayStore: days of wearable data in a folder of memory-mapped Arrow IPC shards and a JSON manifest; `store_layout` describes the files."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lsm2.data.normalize import Normalization
from lsm2.data.signals import Signal
from lsm2.data.store.layout import FORMAT, FORMAT_VERSION, MANIFEST, Day, manifest_sha256
from lsm2.data.store.writer import write_store
from lsm2.errors import InputError
from lsm2.files import file_sha256

VERIFY_AT_OPEN_BYTES = 512 * 2**20
"""Stores up to this size are hashed when opened (a second or so); in larger ones each shard is hashed before its first day is used."""


class DayStore:
    """A store of days, read from memory-mapped files: a day costs memory only while it is used. Use `DayStore.open` or `DayStore.write`."""

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
        self.normalization = Normalization.from_dict(manifest["normalization"])
        """Mean and standard deviation over all days of the store."""
        self._shards: list[dict[str, Any]] = manifest["shards"]
        self._first_rows = np.cumsum([0] + [shard["rows"] for shard in self._shards])
        self._readers: dict[int, pa.RecordBatchFileReader] = {}
        self._verified: set[int] = set()

    @classmethod
    def open(cls, path: Path | str) -> DayStore:
        """Open a store; raises InputError naming the file if the manifest cannot be read or a shard is missing, cut short or changed."""
        path = Path(path)
        manifest = _read_manifest(path)
        for entry in [manifest["days"], *manifest["shards"]]:
            _check_size(path / entry["file"], entry["bytes"])
        _check_sha256(path / manifest["days"]["file"], manifest["days"]["sha256"])
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
        progress: bool = False,
        attachments: Mapping[str, Callable[[], bytes]] | None = None,
        replace: bool = False,
    ) -> DayStore:
        """Write days as they come, one in memory at a time, to a new store at `path`, and open it.

        Nothing appears at `path` before all is written and on disk; with `replace`, a store that was there gives way then. Anything else there
        raises InputError beforehand. `attachments` become further files of the folder: name, and what makes the bytes after the last day.
        Raises InputError naming the day for a wrong shape, an infinite value, a date that is not ISO 8601 or a day that occurs twice, and
        if there is no day at all.
        """
        return cls.open(
            write_store(
                Path(path),
                signals,
                days,
                sample_minutes=sample_minutes,
                progress=progress,
                attachments=attachments or {},
                replace=replace,
            )
        )

    def __len__(self) -> int:
        return self.days.num_rows

    def __repr__(self) -> str:
        size = f"{len(self)} days of {len(self.subjects)} people, {len(self.signals)} signals x {self.num_samples}"
        return f"DayStore({str(self.path)!r}: {size})"

    def __reduce__(self):
        # Memory maps cannot travel to another process; the path can.
        return (DayStore.open, (self.path,))

    @property
    def subjects(self) -> tuple[str, ...]:
        """The people, sorted."""
        return tuple(sorted(self.days["subject"].unique().to_pylist()))

    def indices_of(self, subjects: Collection[str]) -> list[int]:
        """Rows of all days of these people, ascending."""
        wanted = set(subjects)
        return [row for row, subject in enumerate(self.days["subject"].to_pylist()) if subject in wanted]

    def index(self, day_id: str) -> int:
        """The row of a day; raises InputError for one that is not in the store."""
        ids = self.days["day_id"].to_pylist()
        if day_id not in ids:
            raise InputError(f"store {self.path} has no day {day_id!r}; its days are named like {ids[0]!r}")
        return ids.index(day_id)

    def values(self, index: int) -> np.ndarray:
        """Day `index` as a fresh (C, L) float32 array in physical units, NaN = missing; raises InputError if its shard was damaged."""
        if not 0 <= index < len(self):
            raise IndexError(f"day {index} of a store with {len(self)} days")
        shard = int(np.searchsorted(self._first_rows, index, side="right")) - 1
        batch = self._reader(shard).get_batch(int(index - self._first_rows[shard]))
        flat = batch.column("values").flatten().to_numpy(zero_copy_only=True)
        return flat.reshape(len(self.signals), self.num_samples).copy()

    def verify(self) -> None:
        """Hash every shard that was not hashed yet; raises InputError naming one that differs from what was written."""
        for shard in range(len(self._shards)):
            self._verify_shard(shard)

    def _verify_shard(self, shard: int) -> None:
        if shard not in self._verified:
            _check_sha256(self.path / self._shards[shard]["file"], self._shards[shard]["sha256"])
            self._verified.add(shard)

    def _reader(self, shard: int) -> pa.RecordBatchFileReader:
        if shard not in self._readers:
            self._verify_shard(shard)
            # Loader workers are forked: reading may not lean on threads of the parent.
            options = pa.ipc.IpcReadOptions(use_threads=False)
            self._readers[shard] = pa.ipc.open_file(
                pa.memory_map(str(self.path / self._shards[shard]["file"])), options=options
            )
        return self._readers[shard]


_RESTORE = "restore it from a copy, or write the store again"


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise InputError(f"store {path} does not exist; `lsm2 simulate` or `lsm2 import` writes one")
    file = path / MANIFEST
    if not file.is_file():
        raise InputError(
            f"{path} is not a DayStore: it has no {MANIFEST}; give the folder that `lsm2 simulate` or `lsm2 import` wrote"
        )
    try:
        manifest = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}); {_RESTORE}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(
            f"{file} does not describe a DayStore; give the folder that `lsm2 simulate` or `lsm2 import` wrote"
        )
    if manifest.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{file} has format_version {manifest.get('format_version')!r}, this lsm2 reads {FORMAT_VERSION}; "
            "use the lsm2 that wrote it, or a newer one"
        )
    if manifest.get("sha256") != manifest_sha256(manifest):
        raise InputError(f"{file} was changed after it was written (its sha256 differs); {_RESTORE}")
    for entry in [manifest["days"], *manifest["shards"]]:
        if Path(entry["file"]).name != entry["file"]:
            raise InputError(
                f"{file} names {entry['file']!r}, which is not a file of this folder; {_RESTORE}"
            )
    return manifest


def _check_size(file: Path, size: int) -> None:
    if not file.is_file():
        raise InputError(f"{file} is missing from the store; {_RESTORE}")
    if file.stat().st_size != size:
        raise InputError(f"{file} has {file.stat().st_size} bytes instead of {size}; {_RESTORE}")


def _check_sha256(file: Path, sha256: str) -> None:
    if file_sha256(file) != sha256:
        raise InputError(f"{file} is damaged (its sha256 differs from the manifest's); {_RESTORE}")
