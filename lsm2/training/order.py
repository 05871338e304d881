"""Which days a training step sees, and who computes them: pure functions of (seed, step) and of each day's tokens.

The number of workers or ranks changes neither, so resuming needs no state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np

from lsm2.config import LSM2Config
from lsm2.data.batch import count_tokens
from lsm2.data.masking import token_observed
from lsm2.data.store import DayStore
from lsm2.rng import keyed_rng, random_choice

Item = TypeVar("Item")


def step_days(num_days: int, batch_days: int, step: int, seed: int) -> list[tuple[int, int]]:
    """The (epoch, index) of the days of one step: places [step * batch_days, (step + 1) * batch_days) of endless shuffled epochs."""
    return _days_at(range(step * batch_days, (step + 1) * batch_days), num_days, seed)


class TokenBudget:
    """Steps of consecutive places of the same endless shuffled epochs, each step as long as its days' tokens stay within a budget.

    A day counts `day_tokens` (days,), at least 1; one that exceeds the budget is a step of its own. Where a step begins follows from the
    steps before it: they are worked out once per process, in less than a second for a million days.
    """

    def __init__(self, day_tokens: np.ndarray, budget: int, seed: int) -> None:
        if not len(day_tokens):
            raise ValueError("num_days is 0; training needs at least one day")
        self.seed, self.budget = seed, budget
        self._day_tokens = np.maximum(day_tokens, 1)
        self._starts: list[int] = []
        self._epochs, self._room = 0, 0

    def days(self, step: int) -> list[tuple[int, int]]:
        """The (epoch, index) of the days of one step."""
        # A step ends where the next begins.
        while len(self._starts) < step + 2:
            self._take_epoch()
        return _days_at(range(self._starts[step], self._starts[step + 1]), len(self._day_tokens), self.seed)

    def _take_epoch(self) -> None:
        num_days = len(self._day_tokens)
        tokens = self._day_tokens[_epoch_order(num_days, self._epochs, self.seed)].tolist()
        for place, needed in enumerate(tokens, start=self._epochs * num_days):
            if needed > self._room:
                self._starts.append(place)
                self._room = self.budget
            self._room -= needed
        self._epochs += 1


class Workload:
    """Which tokens of each day are observed, a bit each: 468 bytes a day of 3,744 tokens, from one pass over days `indices` of a store."""

    def __init__(self, store: DayStore, indices: Sequence[int], config: LSM2Config) -> None:
        self.config = config
        patch, enough = config.patch_samples, config.masking.token_min_observed
        self._observed = np.zeros((len(indices), -(-config.num_tokens // 8)), np.uint8)
        self._num_observed = np.zeros(len(indices), np.int64)
        for row, index in enumerate(indices):
            observed = token_observed(~np.isnan(store.values(index)), patch, enough)
            self._observed[row], self._num_observed[row] = np.packbits(observed), observed.sum()

    def most_tokens(self) -> np.ndarray:
        """Visible and query tokens (days,) of every day, whatever its mask; with both max_visible and max_queries, at most that many."""
        config, masking = self.config, self.config.masking
        if config.decoder == "full":
            return np.full(len(self._observed), config.num_tokens)
        if masking.max_visible is None or masking.max_queries is None:
            return self._num_observed
        return np.minimum(self._num_observed, masking.max_visible + masking.max_queries)

    def multiply_adds(
        self, days: Sequence[int], seed: int, epochs: Sequence[int], day_ids: Sequence[str]
    ) -> list[int]:
        """Multiply-adds of a forward pass over each of these days, places in `indices`, with the masks that they will get."""
        config = self.config
        observed = np.unpackbits(self._observed[list(days)], axis=1, count=config.num_tokens).view(bool)
        visible, queries = count_tokens(observed, config, seed, epochs, day_ids)

        def block_stack(rows: np.ndarray, keys: np.ndarray, depth: int, width: int) -> np.ndarray:
            return rows * depth * width * ((4 + 2 * config.mlp_ratio) * width + 2 * keys)

        rows, keys = (
            (queries, visible) if config.decoder == "cross" else (visible + queries, visible + queries)
        )
        encoder = block_stack(visible, visible, config.encoder_depth, config.encoder_width)
        return (encoder + block_stack(rows, keys, config.decoder_depth, config.decoder_width)).tolist()


def balance(items: Sequence[tuple[int, Item]], num_parts: int) -> list[list[tuple[int, Item]]]:
    """Divide (work, item) pairs into parts of about equal work: the largest first, each to the part with the least so far.

    Equals go by position, the first part first; with fewer items than parts some parts stay empty. The largest part has at most 4/3 of the
    work that the best division would give it (Graham 1969).
    """
    parts: list[list[tuple[int, Item]]] = [[] for _ in range(num_parts)]
    work = [0] * num_parts
    for item in sorted(items, key=lambda item: -item[0]):
        least = min(range(num_parts), key=lambda part: (work[part], len(parts[part])))
        parts[least].append(item)
        work[least] += item[0]
    return parts


def _days_at(places: Iterable[int], num_days: int, seed: int) -> list[tuple[int, int]]:
    if num_days < 1:
        raise ValueError("num_days is 0; training needs at least one day")
    return [
        (place // num_days, int(_epoch_order(num_days, place // num_days, seed)[place % num_days]))
        for place in places
    ]


@lru_cache(maxsize=4)
def _epoch_order(num_days: int, epoch: int, seed: int) -> np.ndarray:
    return random_choice(np.arange(num_days), num_days, keyed_rng("order", seed, epoch))
