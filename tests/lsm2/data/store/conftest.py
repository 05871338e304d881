"""A small store of a few shards."""

from collections.abc import Callable

import numpy as np
import pytest

from lsm2.data import Day, DayStore, Signal
from lsm2.data.store import writer

SAMPLES = 24


@pytest.fixture(scope="session")
def signals() -> tuple[Signal, ...]:
    """Three signals, one of them with a transform."""
    return (
        Signal("hr", "bpm", 25, 240, sensor="ppg"),
        Signal("steps", "steps", 0, 300, "log1p", "accelerometer"),
        Signal("mood"),
    )


@pytest.fixture(scope="session")
def make_days() -> Callable[..., list[Day]]:
    """Days of `people` people, `number` each, (3, 24) with 40 % missing; in no order of name or date."""

    def make(people: int = 3, number: int = 4, seed: int = 0) -> list[Day]:
        rng = np.random.default_rng(seed)
        days = []
        for person in range(people):
            for day in range(number):
                values = np.exp(rng.standard_normal((3, SAMPLES), dtype=np.float32))
                values[rng.random(values.shape) < 0.4] = np.nan
                days.append(Day(f"person {people - 1 - person}", f"2024-02-{28 - day}", values))
        return days

    return make


@pytest.fixture
def small_shards(monkeypatch) -> None:
    """Three days fill a shard."""
    monkeypatch.setattr(writer, "SHARD_BYTES", 3 * 3 * SAMPLES * 4)


@pytest.fixture
def store(tmp_path, small_shards, signals, make_days) -> DayStore:
    """12 days of 3 people in 4 shards."""
    return DayStore.write(tmp_path / "store", signals, make_days(), sample_minutes=60)
