"""What does a training step cost, packed and as others do it? The short version of race.py."""

import pytest

from benchmarks.measure.suite import name_dtype, native_dtype, race
from benchmarks.step.tables import OURS, TARGET_CASE
from benchmarks.step.ways import Days, Step, check_agreement
from lsm2 import presets


@pytest.mark.benchmark(group="train_step")
@pytest.mark.parametrize("missing", [0.2, 0.49, 0.8])
@pytest.mark.parametrize("preset", ["tiny", "base"])
def bench_train_step(benchmark, device, preset, missing):
    on_gpu = device.type == "cuda"
    names = ["ours_joint", "ours_full", "padded", "paper", "dense"]
    if not on_gpu:
        names.remove("dense")  # it takes longer than all others together
        if preset == "base" and missing != TARGET_CASE["missing"]:
            pytest.skip("base is timed on a CPU at one missing fraction only: it takes a minute")
    check_agreement([OURS, *names], device)
    days = Days.draw(getattr(presets, preset)(), 64 if on_gpu else 1 if preset == "base" else 2, missing)
    ours, *steps = (Step.of(name, days, device, "auto") for name in (OURS, *names))
    print(
        f"\n  {preset}, {len(days.values)} days, {missing:.0%} missing, {len(ours.batch.visible_ids)} visible"
    )
    peers = dict(zip(names, steps, strict=True))
    work = {"useful_flops": ours.count_flops()[0], "dtype": name_dtype(native_dtype(device))}
    race(benchmark, ours, peers, rounds=10 if on_gpu else 3, **work)
