"""What each step trains on: a pure function of (seed, step), so resuming needs no state, and workers and ranks cannot change it."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lsm2.config import LSM2Config, TrainConfig
from lsm2.data.batch import PackedBatch, collate
from lsm2.data.normalize import Normalization
from lsm2.data.sampler import rank_share, step_days
from lsm2.data.store import DayStore
from lsm2.errors import InputError
from lsm2.training.ranks import Ranks


class StepBatches(Dataset):
    """Item `step` is this rank's micro-batches of that step."""

    def __init__(
        self, store: DayStore, indices: Sequence[int], normalization: Normalization, model: LSM2Config, train: TrainConfig, ranks: Ranks
    ) -> None:
        self.store, self.indices, self.normalization, self.model, self.train = store, list(indices), normalization, model, train
        self.rank, self.world_size = ranks.rank, ranks.world_size
        self.day_ids = store.days["day_id"].to_pylist()

    def days(self, step: int) -> list[str]:
        """Day ids of a step over all ranks."""
        return [self.day_ids[self.indices[place]] for _, place in self._places(step)]

    def __getitem__(self, step: int) -> list[PackedBatch] | InputError:
        share = rank_share(self._places(step), self.rank, self.world_size)
        parts = [share[part :: self.train.micro_batches] for part in range(self.train.micro_batches)]
        try:
            return [self._batch(part) for part in parts if part]
        except InputError as error:
            # Raised in a worker it would reach the user wrapped in that worker's traceback.
            return error

    def _places(self, step: int) -> list[tuple[int, int]]:
        return step_days(len(self.indices), self.train.batch_days, step, self.train.seed)

    def _batch(self, places: Sequence[tuple[int, int]]) -> PackedBatch:
        days = [self.indices[place] for _, place in places]
        values = np.stack([self.normalization.apply(self.store.values(day)) for day in days])
        epochs = [epoch for epoch, _ in places]
        return collate(torch.from_numpy(values), self.model, self.train.seed, epochs, [self.day_ids[day] for day in days])


def load_steps(batches: StepBatches, first: int, last: int, device: torch.device) -> Iterator[list[PackedBatch]]:
    """The micro-batches of the steps `first` to `last` - 1, prepared ahead by the loader's workers."""
    workers = batches.train.num_workers
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=device.type == "cuda",
        worker_init_fn=_leave_signals_to_the_parent,
    )
    for item in loader:
        if isinstance(item, InputError):
            raise item
        yield item


def _leave_signals_to_the_parent(worker: int) -> None:
    # Ctrl-C and batch systems signal the whole group: the parent still needs batches while it finishes its step.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
