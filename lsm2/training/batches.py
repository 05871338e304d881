"""What each step trains on: a pure function of (seed, step), so resuming needs no state, and workers and
ranks cannot change it.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lsm2.config import LSM2Config, TrainConfig
from lsm2.data.batch import PackedBatch, collate
from lsm2.data.fills.gaps import GapFill
from lsm2.data.normalize import Normalization
from lsm2.data.store import DayStore
from lsm2.errors import InputError
from lsm2.training.order import Draw, TokenBudget, Workload, balance, step_days
from lsm2.training.parallel import Ranks

LOADER_TIMEOUT = 600
"""Seconds after which a step's batches are given up: a worker that lost them would be waited for without end.
"""


class StepBatches(Dataset):
    """Item `step` is this rank's micro-batches of that step."""

    def __init__(
        self,
        store: DayStore,
        indices: Sequence[int],
        normalization: Normalization,
        model_config: LSM2Config,
        train_config: TrainConfig,
        ranks: Ranks,
        gap_fill: GapFill | None = None,
    ) -> None:
        self.store = store
        self.indices = list(indices)
        self.normalization = normalization
        self.gap_fill = gap_fill
        self.model_config = model_config
        self.train_config = train_config
        self.rank = ranks.rank
        self.world_size = ranks.world_size
        self.day_ids = store.days["day_id"].to_pylist()
        self._workload = Workload(store, self.indices, model_config)
        self._shared = ranks.world_size * train_config.micro_batches > 1
        self._budget = None
        if train_config.tokens_per_batch:
            tokens = self._workload.most_tokens(progress=ranks.writes)
            self._budget = TokenBudget(tokens, train_config.tokens_per_batch, train_config.seed)

    def days(self, step: int) -> list[str]:
        """Day ids of a step over all ranks."""
        return self._names(self._draws(step))

    def __getitem__(self, step: int) -> list[PackedBatch] | InputError:
        try:
            return [self._batch(part) for part in self._micro_batches(step)]
        except InputError as error:
            # Raised in a worker it would reach the user wrapped in that worker's traceback.
            return error

    def _draws(self, step: int) -> list[Draw]:
        if self._budget is not None:
            return self._budget.days(step)
        assert self.train_config.batch_days is not None
        return step_days(len(self.indices), self.train_config.batch_days, step, self.train_config.seed)

    def _names(self, draws: Sequence[Draw]) -> list[str]:
        return [self.day_ids[self.indices[draw.index]] for draw in draws]

    def _micro_batches(self, step: int) -> list[list[Draw]]:
        """This rank's days of a step, part by part, with about equal work for all.

        Every rank works out the shares of all ranks for itself.
        """
        draws = self._draws(step)
        if not self._shared:
            return [draws]
        work = self._workload.multiply_adds(draws, self.train_config.seed, self._names(draws))
        share = balance(list(zip(work, draws, strict=True)), self.world_size)[self.rank]
        parts = balance(share, self.train_config.micro_batches)
        return [[draw for _, draw in part] for part in parts if part]

    def _batch(self, draws: Sequence[Draw]) -> PackedBatch:
        days = [self.normalization.apply(self.store.values(self.indices[draw.index])) for draw in draws]
        if self.gap_fill is not None:
            days = [self.gap_fill(day) for day in days]
        epochs = [draw.epoch for draw in draws]
        batch = collate(
            torch.from_numpy(np.stack(days)),
            self.model_config,
            self.train_config.seed,
            epochs,
            self._names(draws),
        )
        return batch.longest_first()


def load_steps(
    batches: StepBatches, first: int, last: int, device: torch.device
) -> Generator[list[PackedBatch], None, None]:
    """The micro-batches of the steps `first` to `last` - 1, prepared ahead by the loader's workers."""
    workers = batches.train_config.num_workers
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=device.type == "cuda",
        worker_init_fn=_leave_signals_to_the_parent,
        timeout=LOADER_TIMEOUT if workers else 0,
    )
    items = iter(loader)
    try:
        for item in items:
            if isinstance(item, InputError):
                raise item
            yield item
    finally:
        if workers:
            _end_workers(items)


@contextlib.contextmanager
def loader_failures_in_words() -> Iterator[None]:
    """Raise InputError for a loader process that died or gave nothing in time, which PyTorch may report at
    any line.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader" not in str(error):
            raise
        raise InputError(
            f"a loader process gave nothing more ({str(error).splitlines()[0]}): did the system end it for "
            "want of "
            "memory? Lower --num-workers if so, and continue with --resume"
        ) from error


def _end_workers(items: Any) -> None:
    """End the loader's processes now: a traceback keeps `items` alive, and at its exit Python waits for them
    without end.
    """
    items._shutdown_workers()
    for worker in items._workers:
        worker.kill()


class Waited:
    """Passes on what an iterator gives, and adds up how long it let its user wait."""

    def __init__(self, items: Iterator[list[PackedBatch]]) -> None:
        self._items = items
        self.seconds = 0.0

    def __iter__(self) -> Waited:
        return self

    def __next__(self) -> list[PackedBatch]:
        began = time.perf_counter()
        try:
            return next(self._items)
        finally:
            self.seconds += time.perf_counter() - began


def _leave_signals_to_the_parent(worker: int) -> None:
    # Ctrl-C and batch systems signal the whole group: the parent still needs batches while it finishes its
    # step.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
