"""How long does it take to draw the masks of one batch of days and pack it, and how many bytes does a day
ship to the device?

`dense_only` is the least that a loader of dense days does to them: a copy without NaN, and where they were.
"""

import dataclasses

import pytest
import torch

from benchmarks.measure.suite import race
from benchmarks.step.memory import count_bytes
from lsm2 import presets
from lsm2.data import PackedBatch, collate


@pytest.mark.benchmark(group="loader")
@pytest.mark.parametrize("decoder", ["cross", "joint", "full"])
def bench_collate(benchmark, decoder):
    config = dataclasses.replace(presets.base(), decoder=decoder)
    num_days = 8
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(num_days, config.num_signals, config.window_samples, generator=generator)
    missing = (
        torch.rand(num_days, config.num_signals, config.window_samples // 60, generator=generator) < 0.49
    )
    values = values.masked_fill(missing.repeat_interleave(60, dim=2), float("nan"))
    ids = [f"person/day {i}" for i in range(num_days)]

    def pack_batch() -> PackedBatch:
        return collate(values, config, seed=0, epoch=0, day_ids=ids)

    shipped = count_bytes(pack_batch()) / num_days
    dense = config.num_signals * config.window_samples * 4
    race(
        benchmark,
        pack_batch,
        {"dense_only": lambda: (values.nan_to_num(), values.isnan())},
        rounds=30,
        on_host=True,
        bytes_per_day=shipped,
    )
    print(
        f"  {num_days} days, {shipped / 1e3:.0f} kB a day; dense float32 values alone: {dense / 1e3:.0f} kB"
    )
