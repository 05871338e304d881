"""A model, a store and settings small enough that a training run takes a second."""

import numpy as np
import pytest

from lsm2.config import LSM2Config, TrainConfig
from lsm2.data.signals import Signal
from lsm2.data.store import Day, DayStore


@pytest.fixture(scope="session")
def tiny_config() -> LSM2Config:
    """3 signals x 12 tokens of 10 minutes, one block of each kind."""
    return LSM2Config(
        num_signals=3,
        window_minutes=120,
        encoder_width=32,
        encoder_depth=1,
        encoder_heads=2,
        decoder_width=16,
        decoder_depth=1,
        decoder_heads=1,
    )


@pytest.fixture(scope="session")
def small_train_config() -> TrainConfig:
    """8 steps of 4 days in this process."""
    return TrainConfig(
        steps=8,
        batch_days=4,
        checkpoint_every=4,
        warmup_fraction=0.2,
        num_workers=0,
        precision="fp32",
        device="cpu",
        heldout_fraction=0.25,
    )


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> DayStore:
    """4 people x 5 days of random walks, 30 % of the minutes missing."""
    rng = np.random.default_rng(0)

    def days():
        for person in range(4):
            for date in range(1, 6):
                values = rng.normal(size=(3, 120)).cumsum(1).astype(np.float32)
                values[rng.random(values.shape) < 0.3] = np.nan
                yield Day(f"p{person}", f"2024-01-{date:02}", values)

    signals = [Signal("a", "bpm"), Signal("b", "ms"), Signal("c", "degC")]
    return DayStore.write(tmp_path_factory.mktemp("data") / "store", signals, days())
