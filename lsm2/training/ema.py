"""The exponential moving average of the weights, which is what a run saves as its model."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EMA:
    """The average of a model's weights over the steps of its training."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {
            name: weight.detach().clone() for name, weight in model.named_parameters()
        }

    def update(self, step: int, model: nn.Module) -> None:
        """Take in the weights after a step, counted from 0."""
        now = [weight.detach() for weight in model.parameters()]
        share = 1 - decay_after(step, self.decay)
        torch._foreach_lerp_(list(self.weights.values()), now, share)  # pyright: ignore[reportPrivateImportUsage]


def decay_after(step: int, decay: float) -> float:
    """The decay after step 0, 1, ...: small at first, so that the average forgets the initial weights."""
    return min(decay, (1 + step) / (10 + step))
