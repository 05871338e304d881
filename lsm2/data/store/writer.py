"""Writing a DayStore: days stream into shards of a temporary folder, which takes the store's place only when everything is on disk."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lsm2.data.normalize import RunningMoments
from lsm2.data.signals import Signal
from lsm2.data.store.layout import (
    DAYS_FILE,
    DAYS_SCHEMA,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    Day,
    is_store,
    manifest_sha256,
    values_type,
)
from lsm2.errors import InputError
from lsm2.files import file_sha256, fsync
from lsm2.progress import counted

SHARD_BYTES = 64 * 2**20
"""A shard is closed when it holds this many bytes of values."""


def write_store(
    path: Path,
    signals: Sequence[Signal],
    days: Iterable[Day],
    *,
    sample_minutes: int,
    progress: bool,
    attachments: Mapping[str, Callable[[], bytes]],
    replace: bool,
) -> Path:
    """Write a store at `path` and return it; `DayStore.write` says what is promised."""
    _check_signals(signals)
    if sample_minutes < 1 or 60 % sample_minutes:
        raise InputError(f"sample_minutes is {sample_minutes}; it must divide 60")
    check_replaceable(path, replace)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.writing-", dir=path.parent))
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error}); choose another place") from None
    try:
        temporary.chmod(0o755)
        with contextlib.closing(_ShardWriter(temporary, tuple(signals))) as writer:
            for day in counted(days, "writing days", progress):
                writer.add(day)
        for name, content in attachments.items():
            (temporary / name).write_bytes(content())
        manifest = writer.manifest() | {"sample_minutes": sample_minutes}
        manifest["sha256"] = manifest_sha256(manifest)
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        for file in [*temporary.iterdir(), temporary]:
            fsync(file)
        _take_place(temporary, path)
    except OSError as error:
        raise InputError(
            f"{path} could not be written ({error}); make room or choose another place"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def check_replaceable(path: Path, replace: bool) -> None:
    """Raise InputError unless `path` is free, an empty folder, or a DayStore that may be replaced."""
    if is_store(path) and not replace and not path.is_symlink():
        raise InputError(f"{path} is a store already; --replace puts the new one in its place")
    if path.is_symlink() or (
        path.exists() and not is_store(path) and not (path.is_dir() and not any(path.iterdir()))
    ):
        raise InputError(f"{path} exists and is not a DayStore; choose another place, or move it away")


class _ShardWriter:
    """Gathers days into shards, their table and their moments."""

    def __init__(self, folder: Path, signals: tuple[Signal, ...]) -> None:
        self._folder, self._signals = folder, signals
        self._shards: list[dict[str, Any]] = []
        self._days: dict[str, list[str]] = {name: [] for name in DAYS_SCHEMA.names}
        self._seen: set[str] = set()
        self._num_samples = 0
        self._moments = RunningMoments(signals)
        self._writer: pa.RecordBatchFileWriter | None = None
        self._rows_in_shard = 0

    def add(self, day: Day) -> None:
        """Append one day; raises InputError naming it if it does not fit."""
        values = self._checked(day)
        cells = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=values_type(values.size))
        row = pa.RecordBatch.from_arrays([pa.array([day.day_id]), cells], names=["day_id", "values"])
        writer = self._writer = self._writer or pa.ipc.new_file(str(self._shard_file()), row.schema)
        writer.write_batch(row)
        self._rows_in_shard += 1
        for name, text in zip(DAYS_SCHEMA.names, (day.day_id, day.subject, day.date), strict=True):
            self._days[name].append(text)
        self._seen.add(day.day_id)
        if self._rows_in_shard * values.nbytes >= SHARD_BYTES:
            self.close()

    def close(self) -> None:
        """Finish the shard in progress, if there is one."""
        if self._writer is not None:
            self._writer.close()
            self._shards.append(_entry(self._shard_file()) | {"rows": self._rows_in_shard})
            self._writer, self._rows_in_shard = None, 0

    def manifest(self) -> dict[str, Any]:
        """Write the table of days and describe all that was written; raises InputError if that is nothing."""
        if not self._shards:
            raise InputError(
                "there is no day to write: the source is empty, or everything in it was left out"
            )
        file = self._folder / DAYS_FILE
        table = pa.table(self._days, schema=DAYS_SCHEMA)
        with pa.ipc.new_file(str(file), table.schema) as writer:
            writer.write_table(table)
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "num_days": table.num_rows,
            "num_samples": self._num_samples,
            "signals": [signal.to_dict() for signal in self._signals],
            "normalization": self._moments.normalization().to_dict(),
            "days": _entry(file),
            "shards": self._shards,
        }

    def _shard_file(self) -> Path:
        return self._folder / f"shard-{len(self._shards):05d}.arrow"

    def _checked(self, day: Day) -> np.ndarray:
        """The day's values as contiguous float32, taken into the moments."""
        if not day.subject or not isinstance(day.subject, str):
            raise InputError(
                f"a day of {day.date!r} has the subject {day.subject!r}; give every person a name (a non-empty string)"
            )
        try:
            datetime.date.fromisoformat(day.date)
        except (TypeError, ValueError):
            raise InputError(
                f"day {day.day_id!r} has the date {day.date!r}; write dates as ISO 8601, 2024-03-01"
            ) from None
        if day.day_id in self._seen:
            raise InputError(f"day {day.day_id!r} occurs twice; give each person each date once")
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(day.values, dtype=np.float32)
        self._num_samples = self._num_samples or values.shape[-1]
        expected = (len(self._signals), self._num_samples)
        if values.shape != expected or values.size == 0:
            raise InputError(
                f"day {day.day_id!r} has values of shape {values.shape}; expected {expected}: one row per signal, as many samples as day 1"
            )
        try:
            self._moments.add(values)
        except InputError as error:
            raise InputError(f"day {day.day_id!r}: {error}") from None
        return values


def _check_signals(signals: Sequence[Signal]) -> None:
    names = [signal.name for signal in signals]
    if not names:
        raise InputError("signals is empty; a store needs at least one signal")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"signal {twice[0]!r} occurs twice; give every signal a name of its own")


def _entry(file: Path) -> dict[str, Any]:
    return {"file": file.name, "bytes": file.stat().st_size, "sha256": file_sha256(file)}


def _take_place(temporary: Path, path: Path) -> None:
    """Rename the finished folder to `path`; a store that is there stays beside it until that has succeeded."""
    if is_store(path):
        old = path.with_name(f".{path.name}.replaced-{os.getpid()}")
        path.rename(old)
        try:
            temporary.rename(path)
        except OSError:
            old.rename(path)
            raise
        shutil.rmtree(old)
    else:
        temporary.rename(path)
    fsync(path.parent)
