"""Writing a DayStore: days stream into a temporary folder, which takes the store's place only when everything
is on disk.
"""

from __future__ import annotations

import contextlib
import datetime
import glob
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lsm2.data.normalize import day_moments, merge_moments
from lsm2.data.signals import Signal
from lsm2.data.store.layout import (
    DAYS_FILE,
    DAYS_SCHEMA,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    MOMENTS,
    MOMENTS_FILE,
    OBSERVED_FILE,
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
LEFTOVER_SECONDS = 24 * 3600
"""What a writer that was killed left beside a store is removed when nothing in it has changed for so long."""


def write_store(
    path: Path,
    signals: Sequence[Signal],
    days: Iterable[Day],
    *,
    sample_minutes: int,
    replace: bool,
    progress: bool,
    attachments: Mapping[str, Callable[[], bytes | Iterable[bytes]]],
) -> Path:
    """Write a store at `path` and return it; `DayStore.write` says what is promised."""
    _check_signals(signals)
    if sample_minutes < 1 or 60 % sample_minutes:
        raise InputError(f"sample_minutes is {sample_minutes}; it must divide 60")
    check_replaceable(path, replace)
    _sweep_leftovers(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.writing-", dir=path.parent))
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error}); choose another place") from None
    try:
        temporary.chmod(0o755)
        with contextlib.closing(_StoreWriter(temporary, tuple(signals))) as writer:
            for day in counted(days, "writing days", progress):
                writer.add(day)
        for name, content in attachments.items():
            with (temporary / name).open("wb") as file:
                made = content()
                file.writelines([made] if isinstance(made, bytes) else made)
        manifest = writer.manifest() | {"sample_minutes": sample_minutes}
        manifest["sha256"] = manifest_sha256(manifest)
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        for file in [*temporary.iterdir(), temporary]:
            fsync(file)
        check_replaceable(path, replace)
        _take_place(temporary, path)
    except OSError as error:
        raise InputError(
            f"{path} could not be written ({error}); make room or choose another place"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def check_replaceable(path: Path, replace: bool = False) -> None:
    """Raise InputError unless `path` is free or an empty folder, or a DayStore that may be replaced."""
    if is_store(path) and not path.is_symlink():
        if not replace:
            raise InputError(
                f"{path} holds a store already; choose another place, or replace it: --replace on the "
                "command "
                "line, replace=True in Python"
            )
    elif path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise InputError(f"{path} exists and is not a DayStore; choose another place, or move it away")


class _StoreWriter:
    """Puts days into shards, and what a start needs beside them: the table of days, moments, observed
    samples.
    """

    def __init__(self, folder: Path, signals: tuple[Signal, ...]) -> None:
        self._folder = folder
        self._signals = signals
        self._num_samples = 0
        self._num_days = 0
        self._seen: set[str] = set()
        self._moments = _MomentsByPerson(len(signals))
        self._days = pa.ipc.new_file(str(folder / DAYS_FILE), DAYS_SCHEMA)
        self._observed = (folder / OBSERVED_FILE).open("wb")
        self._shards: list[dict[str, Any]] = []
        self._shard: pa.RecordBatchFileWriter | None = None
        self._shard_days: list[tuple[str, str, str]] = []
        self._shard_observed = hashlib.sha256()

    def add(self, day: Day) -> None:
        """Append one day; raises InputError naming it if it does not fit."""
        values = self._checked(day)
        try:
            self._moments.add(day.subject, day_moments(values, self._signals))
        except InputError as error:
            raise InputError(f"day {day.day_id!r}: {error}") from None
        cells = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=values_type(values.size))
        row = pa.RecordBatch.from_arrays([pa.array([day.day_id]), cells], names=["day_id", "values"])
        if self._shard is None:
            self._shard = pa.ipc.new_file(str(self._shard_file()), row.schema)
        self._shard.write_batch(row)
        bits = np.packbits(~np.isnan(values)).tobytes()
        self._observed.write(bits)
        self._shard_observed.update(bits)
        self._shard_days.append((day.day_id, day.subject, day.date))
        self._seen.add(day.day_id)
        if len(self._shard_days) * values.nbytes >= SHARD_BYTES:
            self._close_shard()

    def close(self) -> None:
        """Finish the shard in progress, if there is one, and the files beside the shards."""
        self._close_shard()
        self._days.close()
        self._observed.close()

    def manifest(self) -> dict[str, Any]:
        """Write the moments and describe all that was written; raises InputError if that is nothing."""
        if not self._shards:
            raise InputError(
                "there is no day to write: the source is empty, or everything in it was left out"
            )
        moments = self._moments.table()
        with pa.ipc.new_file(str(self._folder / MOMENTS_FILE), moments.schema) as file:
            file.write_table(moments)
        observed = self._folder / OBSERVED_FILE
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "num_days": self._num_days,
            "num_samples": self._num_samples,
            "signals": [signal.to_dict() for signal in self._signals],
            "days": _entry(self._folder / DAYS_FILE),
            "moments": _entry(self._folder / MOMENTS_FILE),
            "observed": {"file": OBSERVED_FILE, "bytes": observed.stat().st_size},
            "shards": self._shards,
        }

    def _close_shard(self) -> None:
        if self._shard is None:
            return
        self._shard.close()
        columns = [pa.array(column, pa.string()) for column in zip(*self._shard_days, strict=True)]
        self._days.write_batch(pa.RecordBatch.from_arrays(columns, schema=DAYS_SCHEMA))
        self._shards.append(
            _entry(self._shard_file())
            | {"rows": len(self._shard_days), "observed_sha256": self._shard_observed.hexdigest()}
        )
        self._num_days += len(self._shard_days)
        self._shard = None
        self._shard_days = []
        self._shard_observed = hashlib.sha256()

    def _shard_file(self) -> Path:
        return self._folder / f"shard-{len(self._shards):05d}.arrow"

    def _checked(self, day: Day) -> np.ndarray:
        """The day's values as contiguous float32; raises InputError naming the day if its name or shape does
        not fit.
        """
        if not day.subject or not isinstance(day.subject, str):
            raise InputError(
                f"a day of {day.date!r} has the subject {day.subject!r}; give every person a name (a "
                "non-empty string)"
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
                f"day {day.day_id!r} has values of shape {values.shape}; expected {expected}: one row per "
                "signal, "
                "as many samples as day 1"
            )
        return values


class _MomentsByPerson:
    """Moments of each person's days, gathered in one array that doubles when it is full."""

    def __init__(self, num_signals: int) -> None:
        self._row_of: dict[str, int] = {}
        self._moments = np.zeros((16, len(MOMENTS), num_signals))

    def add(self, person: str, moments: np.ndarray) -> None:
        """Take in the moments (3, C) of one more day of a person."""
        row = self._row_of.setdefault(person, len(self._row_of))
        if row == len(self._moments):
            self._moments = np.concatenate([self._moments, np.zeros_like(self._moments)])
        self._moments[row] = merge_moments(np.stack([self._moments[row], moments]))

    def table(self) -> pa.Table:
        """One row per person, as in `MOMENTS_FILE`."""
        columns: dict[str, pa.Array] = {"subject": pa.array(self._row_of, pa.string())}
        for number, name in enumerate(MOMENTS):
            numbers = self._moments[: len(self._row_of), number]
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), numbers.shape[1])
        return pa.table(columns)


def _check_signals(signals: Sequence[Signal]) -> None:
    names = [signal.name for signal in signals]
    if not names:
        raise InputError("signals is empty; a store needs at least one signal")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"signal {twice[0]!r} occurs twice; give every signal another name")


def _entry(file: Path) -> dict[str, Any]:
    return {"file": file.name, "bytes": file.stat().st_size, "sha256": file_sha256(file)}


def _take_place(temporary: Path, path: Path) -> None:
    """Rename the finished folder to `path`; a store that lies there is kept beside it until that has
    succeeded.
    """
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


def _sweep_leftovers(path: Path) -> None:
    """Remove what killed writers of this store left: unfinished stores after a day, and stores that were
    replaced.
    """
    name = glob.escape(path.name)
    for folder in path.parent.glob(f".{name}.writing-*"):
        # The folder of a writer that has just finished is gone by now.
        with contextlib.suppress(OSError):
            changed = max(part.stat().st_mtime for part in (folder, *folder.iterdir()))
            if time.time() - changed > LEFTOVER_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
    if is_store(path):
        for folder in path.parent.glob(f".{name}.replaced-*"):
            shutil.rmtree(folder, ignore_errors=True)
