"""Which days a training step sees: a pure function of (seed, step), whatever the number of workers or ranks, so resuming needs no state."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np

from lsm2.data.keyed_rng import keyed_rng, random_choice

Item = TypeVar("Item")


def step_days(num_days: int, batch_days: int, step: int, seed: int) -> list[tuple[int, int]]:
    """The (epoch, index) of the days of one step: places [step * batch_days, (step + 1) * batch_days) of endless shuffled epochs."""
    if num_days < 1:
        raise ValueError("num_days is 0; training needs at least one day")
    places = range(step * batch_days, (step + 1) * batch_days)
    return [(place // num_days, int(_epoch_order(num_days, place // num_days, seed)[place % num_days])) for place in places]


def rank_share(items: Sequence[Item], rank: int, world_size: int) -> list[Item]:
    """The items of one rank: every `world_size`-th from `rank` on; over all ranks each item occurs exactly once."""
    return list(items[rank::world_size])


@lru_cache(maxsize=4)
def _epoch_order(num_days: int, epoch: int, seed: int) -> np.ndarray:
    return random_choice(np.arange(num_days), num_days, keyed_rng("order", seed, epoch))
