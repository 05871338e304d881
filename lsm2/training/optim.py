"""Optimizer, learning rate, and the moving average of the weights, which is what a run saves as its model."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lsm2.config import TrainConfig
from lsm2.model.positions import Positions


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW; biases, norms and the mask token, all one-dimensional, and learned codes have no weight
    decay.
    """
    codes = {p for module in model.modules() if isinstance(module, Positions) for p in module.parameters()}
    decayed = [p for p in model.parameters() if p.ndim > 1 and p not in codes]
    others = [p for p in model.parameters() if p.ndim <= 1 or p in codes]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of step 0, 1, ...: a linear rise, then a cosine from the peak to `final_learning_rate` at
    the last step.
    """
    warmup = max(1, round(config.warmup_fraction * config.steps))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = min(1.0, (step + 1 - warmup) / max(1, config.steps - warmup))
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * 0.5 * (
        1 + math.cos(math.pi * progress)
    )


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
