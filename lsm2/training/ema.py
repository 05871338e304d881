"""The exponential moving average of the weights, which is what a run saves as its model."""

from __future__ import annotations

from lsm2.config import TrainConfig


def ema_decay(step: int, config: TrainConfig) -> float:
    """Decay after step 0, 1, ...: small at first, so that the average forgets the initial weights."""
    return min(config.ema_decay, (1 + step) / (10 + step))
