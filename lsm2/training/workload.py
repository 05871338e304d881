"""How many tokens and how much work a day is, known before its values are read: what batches are cut and shared out by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lsm2.config import LSM2Config
from lsm2.data.batch import count_tokens
from lsm2.data.masking import token_observed
from lsm2.data.store import DayStore


class Workload:
    """Which tokens of each day are observed, a bit each: 468 bytes a day of 3,744 tokens, from one pass over days `indices` of a store."""

    def __init__(self, store: DayStore, indices: Sequence[int], config: LSM2Config) -> None:
        self.config = config
        patch, enough = config.patch_minutes, config.masking.token_min_observed
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

    def of(self, days: Sequence[int], seed: int, epochs: Sequence[int], day_ids: Sequence[str]) -> list[int]:
        """Multiply-adds of a forward pass over each of these days, places in `indices`, with the masks that they will get."""
        config = self.config
        observed = np.unpackbits(self._observed[list(days)], axis=1, count=config.num_tokens).view(bool)
        visible, queries = count_tokens(observed, config, seed, epochs, day_ids)

        def multiply_adds(rows: np.ndarray, keys: np.ndarray, depth: int, width: int) -> np.ndarray:
            return rows * depth * width * ((4 + 2 * config.mlp_ratio) * width + 2 * keys)

        rows, keys = (queries, visible) if config.decoder == "cross" else (visible + queries, visible + queries)
        encoder = multiply_adds(visible, visible, config.encoder_depth, config.encoder_width)
        return (encoder + multiply_adds(rows, keys, config.decoder_depth, config.decoder_width)).tolist()
