"""Which days a training step sees, and who computes them: pure functions of (seed, step) and of each day's
tokens.

The number of workers or ranks changes neither, so resuming needs no state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np

from lsm2.config import LSM2Config
from lsm2.data.masking import applicable_shares, count_tokens, token_observed
from lsm2.data.store import DayStore
from lsm2.progress import counted
from lsm2.rng import keyed_rng, random_choice

Item = TypeVar("Item")
DAYS_AT_A_TIME = 256
"""Days whose observed samples are unpacked together, 10 MB of them."""
LONG_COUNT = 100_000
"""Counting the tokens of more days than this takes more than a few seconds and is shown in a bar."""


class Draw(NamedTuple):
    """One day of a step."""

    epoch: int
    index: int
    """Index among the training days."""


def step_days(num_days: int, batch_days: int, step: int, seed: int) -> list[Draw]:
    """The days of one step: positions [step * batch_days, (step + 1) * batch_days) of endless shuffled
    epochs.
    """
    return _draws_at(range(step * batch_days, (step + 1) * batch_days), num_days, seed)


class TokenBudget:
    """Steps cut from the same endless shuffled epochs, each as long as its days' tokens stay within a budget.

    A day counts `day_tokens` (days,), at least 1; one that exceeds the budget is a step alone. Where a step
    begins follows from the steps before it: they are worked out once per process, in less than a second for a
    million days.
    """

    def __init__(self, day_tokens: np.ndarray, budget: int, seed: int) -> None:
        if not len(day_tokens):
            raise ValueError("num_days is 0; training needs at least one day")
        self.seed = seed
        self.budget = budget
        self._day_tokens = np.maximum(day_tokens, 1)
        self._starts: list[int] = []
        self._epochs = 0
        self._room = 0

    def days(self, step: int) -> list[Draw]:
        """The days of one step."""
        # A step ends where the next begins.
        while len(self._starts) < step + 2:
            self._take_epoch()
        return _draws_at(range(self._starts[step], self._starts[step + 1]), len(self._day_tokens), self.seed)

    def _take_epoch(self) -> None:
        num_days = len(self._day_tokens)
        tokens = self._day_tokens[_epoch_order(num_days, self._epochs, self.seed)].tolist()
        for position, needed in enumerate(tokens, start=self._epochs * num_days):
            if needed > self._room:
                self._starts.append(position)
                self._room = self.budget
            self._room -= needed
        self._epochs += 1


class Workload:
    """How many tokens and how much work the days `indices` of a store are, from the store's bits of observed
    samples.

    No values are read, and bits only of the days that are asked for.
    """

    def __init__(self, store: DayStore, indices: Sequence[int], config: LSM2Config) -> None:
        self.config = config
        self._store = store
        self._indices = np.asarray(indices, dtype=np.int64)

    def most_tokens(self, progress: bool = False) -> np.ndarray:
        """Visible and query tokens (days,) of every day, whatever its mask; at most max_visible +
        max_queries.
        """
        masking = self.config.masking
        num_days = len(self._indices)
        if self.config.decoder == "full":
            return np.full(num_days, self.config.num_tokens)
        tokens = np.zeros(num_days, np.int64)
        starts = range(0, num_days, DAYS_AT_A_TIME)
        for start in counted(starts, "counting tokens", progress and num_days > LONG_COUNT):
            days = slice(start, start + DAYS_AT_A_TIME)
            tokens[days] = self._token_observed(self._indices[days]).sum(1)
        if masking.max_visible is None or masking.max_queries is None:
            return tokens
        return np.minimum(tokens, masking.max_visible + masking.max_queries)

    def count_unmaskable(self) -> tuple[int, int]:
        """How many days have too little data for every kind of mask, and how many were looked at.

        Training learns nothing from such days. Of more days than `LONG_COUNT` so many are looked at, spread
        evenly.
        """
        every = -(-len(self._indices) // LONG_COUNT)
        indices = self._indices[::every]
        found = 0
        for start in range(0, len(indices), DAYS_AT_A_TIME):
            observed = self._token_observed(indices[start : start + DAYS_AT_A_TIME])
            found += int((applicable_shares(observed, self.config).sum(-1) == 0).sum())
        return found, len(indices)

    def multiply_adds(self, draws: Sequence[Draw], seed: int, day_ids: Sequence[str]) -> list[int]:
        """Multiply-adds of a forward pass over each of these days, with the masks that they will get."""
        config = self.config
        observed = self._token_observed(self._indices[[draw.index for draw in draws]])
        visible, queries = count_tokens(observed, config, seed, [draw.epoch for draw in draws], day_ids)

        def block_stack(rows: np.ndarray, keys: np.ndarray, depth: int, width: int) -> np.ndarray:
            return rows * depth * width * ((4 + 2 * config.mlp_ratio) * width + 2 * keys)

        encoder = block_stack(visible, visible, config.encoder_depth, config.encoder_width)
        rows = queries if config.decoder == "cross" else visible + queries
        keys = visible if config.decoder == "cross" else visible + queries
        return (encoder + block_stack(rows, keys, config.decoder_depth, config.decoder_width)).tolist()

    def _token_observed(self, indices: np.ndarray) -> np.ndarray:
        """Observed tokens (days, N) bool of these days of the store."""
        observed = self._store.observed(indices)
        if self.config.fill_gaps != "none":
            # A day with anything measured is filled to its last sample.
            observed = np.broadcast_to(observed.any((1, 2), keepdims=True), observed.shape)
        return token_observed(observed, self.config.patch_samples, self.config.masking.token_min_observed)


def balance(items: Sequence[tuple[int, Item]], num_parts: int) -> list[list[tuple[int, Item]]]:
    """Divide (work, item) pairs into parts of about equal work: the largest first, each to the part with the
    least so far.

    Equals go by position, the first part first; with fewer items than parts some parts stay empty. The
    largest part has at most 4/3 of the work that the best division would give it (Graham 1969).
    """
    parts: list[list[tuple[int, Item]]] = [[] for _ in range(num_parts)]
    work = [0] * num_parts
    for item in sorted(items, key=lambda item: -item[0]):
        least = min(range(num_parts), key=lambda part: (work[part], len(parts[part])))
        parts[least].append(item)
        work[least] += item[0]
    return parts


def _draws_at(positions: Iterable[int], num_days: int, seed: int) -> list[Draw]:
    if num_days < 1:
        raise ValueError("num_days is 0; training needs at least one day")
    draws = []
    for position in positions:
        epoch, number = divmod(position, num_days)
        draws.append(Draw(epoch, int(_epoch_order(num_days, epoch, seed)[number])))
    return draws


@lru_cache(maxsize=4)
def _epoch_order(num_days: int, epoch: int, seed: int) -> np.ndarray:
    return random_choice(np.arange(num_days), num_days, keyed_rng("order", seed, epoch))
