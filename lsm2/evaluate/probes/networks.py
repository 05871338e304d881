"""What the networks that learn from labels share: their targets, their loss, and the people who say when to
stop.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lsm2.evaluate.probes.folds import Fold, split_by_person


def fit_and_watch(values: np.ndarray, kind: str, people: np.ndarray, train: np.ndarray, seed: int) -> Fold:
    """The examples `train` without those of a fifth of their people, and those."""
    inner = next(iter(split_by_person(values[train], kind, people[train], 5, seed)))
    return Fold(train[inner.train], train[inner.test])


def is_class(kind: str) -> bool:
    """Whether a network answers with a logit per class; else with a number."""
    return kind in ("binary", "multiclass")


def standardisation(values: np.ndarray) -> tuple[float, float]:
    """Mean and deviation; 1 where all values are equal."""
    return float(values.mean()), float(values.std()) or 1.0


def targets(values: np.ndarray, kind: str, centre: float, spread: float) -> Tensor:
    """Classes as int64, or standardised numbers as float32."""
    if is_class(kind):
        return torch.from_numpy(values.astype(np.int64))
    return torch.from_numpy(((values - centre) / spread).astype(np.float32))


def loss(said: Tensor, wanted: Tensor, class_weight: Tensor | None = None) -> Tensor:
    """Cross-entropy of logits (n, classes), or squared error of numbers (n, 1)."""
    if wanted.dtype == torch.int64:
        return F.cross_entropy(said, wanted, weight=class_weight)
    return F.mse_loss(said[:, 0], wanted)
