"""Embeddings of days, people and intervals: the encoder's tokens, pooled; days are cached beside the run.

An example without any observed token has no embedding: its row is NaN.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from lsm2.config import LSM2Config, Pooling
from lsm2.data.day_grid import MINUTES_PER_DAY
from lsm2.data.labels import Labels, read_intervals
from lsm2.data.store import DayStore
from lsm2.evaluate.days import fitting_normalization
from lsm2.files import file_sha256, write_whole
from lsm2.model.lsm2 import LSM2
from lsm2.progress import counted
from lsm2.run_folder import RunFolder

POOLINGS: tuple[str, ...] = get_args(Pooling)
BLOCK_MINUTES = 360
CELL_MINUTES = 180
DAYS_AT_ONCE = 8


def num_cells(config: LSM2Config) -> int:
    """How many means the `attentive` pooling keeps of an example."""
    return config.num_signals * _cells_of_signal(config)


def untrained(model: LSM2, seed: int = 0) -> LSM2:
    """The same architecture and normalisation with weights as drawn at the start of training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = LSM2(model.config, model.normalization, model.gap_fill)
    return fresh.to(next(model.parameters()).device).eval()


class PooledTokens:
    """Running sums of tokens per item and group, from which means and deviations follow."""

    def __init__(self, num_items: int, config: LSM2Config, pooling: Pooling) -> None:
        signal, slot = np.divmod(np.arange(config.num_tokens), config.num_slots)
        minute = slot * config.patch_minutes
        groups = {
            "mean": np.zeros_like(signal),
            "mean_std": np.zeros_like(signal),
            "blocks": minute // BLOCK_MINUTES,
            "signals": signal,
            "attentive": signal * _cells_of_signal(config) + minute // CELL_MINUTES,
        }
        self.group = groups[pooling]
        """(N,) group of each token."""
        shape = (num_items, int(self.group.max()) + 1, config.encoder_width)
        self.sums = np.zeros(shape)
        self.squares = np.zeros(shape) if pooling in ("mean_std", "signals") else None
        self.counts = np.zeros(shape[:2])

    def add(self, item: int, tokens: np.ndarray, ids: np.ndarray) -> None:
        """Add tokens (n, width) float32 with these ids (n,) to one item."""
        groups, tokens = self.group[ids], tokens.astype(np.float64)
        order = np.argsort(groups, kind="stable")
        found, starts = np.unique(groups[order], return_index=True)
        if not len(found):
            return
        self.sums[item, found] += np.add.reduceat(tokens[order], starts)
        self.counts[item] += np.bincount(groups, minlength=self.counts.shape[1])
        if self.squares is not None:
            self.squares[item, found] += np.add.reduceat(tokens[order] ** 2, starts)

    def result(self) -> np.ndarray:
        """(items, features) float32; NaN where a group has no token."""
        with np.errstate(invalid="ignore", divide="ignore"):
            means = self.sums / self.counts[..., None]
            parts = [means]
            if self.squares is not None:
                variance = self.squares / self.counts[..., None] - means**2
                parts.append(np.sqrt(np.maximum(variance, 0)))
        return np.concatenate([part.reshape(len(part), -1) for part in parts], 1).astype(np.float32)


def embed_days(
    model: LSM2, store: DayStore, indices: Sequence[int], pooling: Pooling, *, progress: bool = False
) -> np.ndarray:
    """Embeddings (days, features) float32 of these days of a store; raises InputError where they do not
    fit.
    """
    rows = []
    for tokens in _encoded(model, store, indices, progress):
        pooled = PooledTokens(1, model.config, pooling)
        ids = _present(tokens)
        pooled.add(0, tokens[ids], ids)
        rows.append(pooled.result())
    return np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)


def embed_intervals(
    model: LSM2,
    store: DayStore,
    subjects: Sequence[str],
    spans: np.ndarray,
    pooling: Pooling,
    *,
    progress: bool = False,
) -> np.ndarray:
    """Embeddings (intervals, features) float32 of intervals of people, (n, 2) minutes since 1970-01-01: of
    the tokens whose middle lies in them.

    The encoder reads the whole day. An interval shorter than a token takes the token around its middle.
    """
    config = model.config
    pooled = PooledTokens(len(subjects), config, pooling)
    of_day: dict[int, list[tuple[int, int, int]]] = {}
    for item, (subject, (start, end)) in enumerate(zip(subjects, spans.tolist(), strict=True)):
        for day in range(start // MINUTES_PER_DAY, (end - 1) // MINUTES_PER_DAY + 1):
            if (index := store.row_of_day.get((subject, day))) is not None:
                first = day * MINUTES_PER_DAY
                of_day.setdefault(index, []).append((item, start - first, end - first))
    indices = sorted(of_day)
    middles = (np.arange(config.num_slots) + 0.5) * config.patch_minutes
    for index, tokens in zip(indices, _encoded(model, store, indices, progress), strict=True):
        ids = _present(tokens)
        middle = middles[ids % config.num_slots]
        for item, start, end in of_day[index]:
            inside = (middle >= start) & (middle < end)
            if end - start < config.patch_minutes and not inside.any():
                inside = np.abs(middle - (start + end) / 2) <= config.patch_minutes / 2
            pooled.add(item, tokens[ids[inside]], ids[inside])
    return pooled.result()


def cached_days(
    run: RunFolder, model: LSM2, store: DayStore, pooling: Pooling, name: str, *, progress: bool = False
) -> np.ndarray:
    """`embed_days` of all days of a store, in its order, read from the run's folder `embeddings/` or written
    there.

    The file is named by hashes of the model, the store and the pooling, so that it is never stale; name is
    `trained` or `untrained`. A damaged file is written anew, with a warning.
    """
    path = run.embeddings_folder / f"{name}-{pooling}-{_hash_of(run, name)}-{_hash_of_store(store)}.parquet"
    if path.is_file():
        cached = _read_cache(path, len(store))
        if cached is not None:
            return cached
        warnings.warn(f"{path} is damaged; its embeddings are computed anew", stacklevel=2)
    found = embed_days(model, store, range(len(store)), pooling, progress=progress)
    write_embeddings(path, day_table(store, found))
    return found


def _read_cache(path: Path, num_days: int) -> np.ndarray | None:
    """The embeddings in a file of `cached_days`, None where it is damaged."""
    try:
        found = matrix(pq.read_table(path)["embedding"])
    except (pa.ArrowException, OSError, KeyError, ValueError, AttributeError):
        return None
    return found if len(found) == num_days else None


def people_of_days(embeddings: np.ndarray, subjects: Sequence[str], people: Sequence[str]) -> np.ndarray:
    """Embeddings (people, features) float32: the mean over each person's days that have one."""
    number = {person: row for row, person in enumerate(people)}
    rows = np.array([number.get(subject, -1) for subject in subjects])
    kept = rows >= 0
    present = ~np.isnan(embeddings[kept])
    sums = np.zeros((len(people), embeddings.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, rows[kept], np.where(present, embeddings[kept], 0))
    np.add.at(counts, rows[kept], present)
    with np.errstate(invalid="ignore"):
        return (sums / counts).astype(np.float32)


def embed_labelled(
    run: RunFolder,
    model: LSM2,
    store: DayStore,
    labels: Labels,
    pooling: Pooling,
    name: str = "trained",
    *,
    progress: bool = False,
) -> np.ndarray:
    """Embeddings (examples, features) float32 of what is labelled: people, days or intervals."""
    if labels.level == "interval":
        assert labels.spans is not None
        return embed_intervals(model, store, labels.subjects, labels.spans, pooling, progress=progress)
    days = cached_days(run, model, store, pooling, name, progress=progress)
    if labels.level == "person":
        return people_of_days(days, store.days["subject"].to_pylist(), labels.subjects)
    assert labels.dates is not None
    dates = np.array(labels.dates, dtype="datetime64[D]").astype(np.int64).tolist()
    return days[[store.row_of_day[key] for key in zip(labels.subjects, dates, strict=True)]]


def embedding_table(
    run: RunFolder,
    model: LSM2,
    store: DayStore,
    level: Literal["day", "person"],
    intervals: Path | None,
    pooling: Pooling,
    *,
    progress: bool = False,
) -> pa.Table:
    """A row per day (day_id, subject, date), person (subject) or interval of a file (subject, start, end),
    with its embedding.
    """
    if intervals is not None:
        subjects, spans = read_intervals(intervals, store)
        found = embed_intervals(model, store, subjects, spans, pooling, progress=progress)
        times = [pa.array(spans[:, column] * 60, pa.timestamp("s")) for column in (0, 1)]
        return pa.table(
            {"subject": list(subjects), "start": times[0], "end": times[1], "embedding": vectors(found)}
        )
    days = cached_days(run, model, store, pooling, "trained", progress=progress)
    if level == "day":
        return day_table(store, days)
    found = people_of_days(days, store.days["subject"].to_pylist(), store.subjects)
    return pa.table({"subject": list(store.subjects), "embedding": vectors(found)})


def day_table(store: DayStore, embeddings: np.ndarray) -> pa.Table:
    """day_id, subject, date and embedding of all days of a store."""
    return store.days.select(["day_id", "subject", "date"]).append_column("embedding", vectors(embeddings))


def vectors(embeddings: np.ndarray) -> pa.Array:
    """Rows (n, features) as a column of lists."""
    flat = pa.array(np.ascontiguousarray(embeddings, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, embeddings.shape[1])


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """The inverse of `vectors`."""
    rows = column.combine_chunks()
    return rows.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)


def _cells_of_signal(config: LSM2Config) -> int:
    return -(-config.window_minutes // CELL_MINUTES)


def _encoded(model: LSM2, store: DayStore, indices: Sequence[int], progress: bool) -> Iterator[np.ndarray]:
    """Tokens (N, width) float32 of each day, NaN where a token is not observed."""
    fitting_normalization(model, store)
    starts = range(0, len(indices), DAYS_AT_ONCE)
    for start in counted(starts, "encoding days", progress):
        days = np.stack([store.values(index) for index in indices[start : start + DAYS_AT_ONCE]])
        yield from model.encode(days, level="token")


def _present(tokens: np.ndarray) -> np.ndarray:
    return np.flatnonzero(~np.isnan(tokens[:, 0]))


def _hash_of(run: RunFolder, name: str) -> str:
    """Of the files of the model; of its settings alone where its weights are not trained."""
    files = sorted(file for file in run.model_folder.iterdir() if file.is_file())
    if name != "trained":
        files = [file for file in files if file.suffix == ".json"]
    text = name + "".join(file_sha256(file) for file in files)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _hash_of_store(store: DayStore) -> str:
    return store.manifest["sha256"][:12]


def write_embeddings(path: Path, table: pa.Table) -> None:
    """Write a table of embeddings as Parquet, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda part: pq.write_table(table, part))
