"""Optimizer and learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

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
