"""Which tokens are observed, and which of them pre-training hides: pure functions of what is observed and a
random stream.

`observed` (really measured), `artificial` (hidden on purpose) and `visible` (observed and not artificial) are
boolean; True means what the name says. The three kinds of artificial mask and their ratios are those of AIM
(arXiv 2506.05321); that counts are exact and taken over observed tokens is our choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch

from lsm2.config import LSM2Config
from lsm2.rng import keyed_rng, random_choice

BoolArray = TypeVar("BoolArray", np.ndarray, torch.Tensor)


def day_rng(seed: int, epoch: int, day_id: str) -> np.random.Generator:
    """The random stream of one day in one epoch: independent of workers, ranks, batches and the order of
    days.
    """
    return keyed_rng("mask", seed, epoch, day_id)


def token_observed(observed: BoolArray, patch: int, token_min_observed: float) -> BoolArray:
    """True (..., N) where at least this fraction of a token's `patch` samples, and one, is `observed`.

    observed (..., C, L) bool, numpy or torch.
    """
    # 0.7 * 10 is a hair above 7 in binary; 7 of 10 samples still satisfy 0.7.
    needed = max(1, math.ceil(token_min_observed * patch - 1e-9))
    *days, signals, samples = observed.shape
    tokens = observed.reshape(*days, signals * (samples // patch), patch)
    if isinstance(tokens, np.ndarray):
        # Three times as fast as sum(-1) on an axis this short.
        return np.einsum("...p->...", tokens, dtype=np.uint16) >= needed
    return tokens.sum(-1) >= needed


def hide_random(token_observed: np.ndarray, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Hide exactly round(ratio * observed tokens) of the observed tokens (N,), each choice equally likely ->
    (N,) bool.
    """
    observed_ids = np.flatnonzero(token_observed)
    artificial = np.zeros_like(token_observed)
    artificial[random_choice(observed_ids, round(ratio * len(observed_ids)), rng)] = True
    return artificial


def hide_slots(
    token_observed: np.ndarray, num_signals: int, ratio: float, contiguous: bool, rng: np.random.Generator
) -> np.ndarray:
    """Hide all observed tokens (N,) at exactly round(ratio * slots) of the slots that have one -> (N,) bool.

    `contiguous`: the hidden slots are neighbours among the slots that have an observed token.
    """
    grid = token_observed.reshape(num_signals, -1)
    slots = np.flatnonzero(grid.any(0))
    count = round(ratio * len(slots))
    if contiguous:
        start = int(rng.random() * (len(slots) - count + 1))
        chosen = slots[start : start + count]
    else:
        chosen = random_choice(slots, count, rng)
    artificial = np.zeros_like(grid)
    artificial[:, chosen] = grid[:, chosen]
    return artificial.reshape(-1)


def hide_signals(
    token_observed: np.ndarray, num_signals: int, ratio: float, rng: np.random.Generator
) -> np.ndarray:
    """Hide all observed tokens (N,) of exactly round(ratio * signals) of the signals that have one -> (N,)
    bool.
    """
    grid = token_observed.reshape(num_signals, -1)
    signals = np.flatnonzero(grid.any(1))
    chosen = random_choice(signals, round(ratio * len(signals)), rng)
    artificial = np.zeros_like(grid)
    artificial[chosen] = grid[chosen]
    return artificial.reshape(-1)


def applicable_shares(token_observed: np.ndarray, config: LSM2Config) -> np.ndarray:
    """The shares of random, time and signal masks on days with observed tokens (..., N) -> (..., 3) float64.

    A kind that would hide no token of a day has share 0 there, so that the others take its place.
    """
    masking = config.masking
    grid = token_observed.reshape(*token_observed.shape[:-1], config.num_signals, -1)
    units = np.stack([token_observed.sum(-1), grid.any(-2).sum(-1), grid.any(-1).sum(-1)], axis=-1)
    ratios = (masking.random_ratio, masking.time_ratio, masking.signal_ratio)
    shares = (masking.random_share, masking.time_share, masking.signal_share)
    return np.where(np.rint(ratios * units) > 0, shares, 0.0)


def sample_artificial(token_observed: np.ndarray, config: LSM2Config, rng: np.random.Generator) -> np.ndarray:
    """The artificial mask (N,) of one day with observed tokens (N,): random tokens, slots or signals, by
    their shares.

    A kind that would hide nothing leaves its share to the others; nothing is hidden where none can apply.
    """
    masking = config.masking
    shares = np.cumsum(applicable_shares(token_observed, config))
    draw = rng.random()
    if shares[-1] == 0:
        return np.zeros_like(token_observed)
    kind = int(np.searchsorted(shares / shares[-1], draw, side="right"))
    if kind == 0:
        return hide_random(token_observed, masking.random_ratio, rng)
    if kind == 1:
        return hide_slots(
            token_observed, config.num_signals, masking.time_ratio, masking.time_slices == "contiguous", rng
        )
    return hide_signals(token_observed, config.num_signals, masking.signal_ratio, rng)


def keep_at_most(tokens: np.ndarray, count: int | None, rng: np.random.Generator) -> np.ndarray:
    """All of the tokens (N,) bool, or a random choice of `count` where there are more."""
    ids = np.flatnonzero(tokens)
    if count is None or len(ids) <= count:
        return tokens
    kept = np.zeros_like(tokens)
    kept[random_choice(ids, count, rng)] = True
    return kept


def sample_masks(
    token_observed: np.ndarray, config: LSM2Config, seed: int, epochs: Sequence[int], day_ids: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Visible and artificially hidden tokens of days with observed tokens (B, N), (B, N) bool each.

    `max_visible`, `query_share` and `max_queries` have been applied to them.
    """
    visible = np.zeros_like(token_observed)
    hidden = np.zeros_like(token_observed)
    for day, (epoch, day_id) in enumerate(zip(epochs, day_ids, strict=True)):
        rng = day_rng(seed, epoch, day_id)
        artificial = sample_artificial(token_observed[day], config, rng)
        visible[day] = keep_at_most(token_observed[day] & ~artificial, config.masking.max_visible, rng)
        wanted = max(1, round(config.masking.query_share * artificial.sum()))
        hidden[day] = keep_at_most(artificial, min(wanted, config.masking.max_queries or wanted), rng)
    return visible, hidden


def count_tokens(
    token_observed: np.ndarray, config: LSM2Config, seed: int, epochs: Sequence[int], day_ids: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """How many visible and query tokens (B,) `collate` gives each day, from its observed tokens (B, N)."""
    visible, hidden = sample_masks(token_observed, config, seed, epochs, day_ids)
    num_visible = visible.sum(1)
    num_queries = config.num_tokens - num_visible if config.decoder == "full" else hidden.sum(1)
    return num_visible, num_queries
