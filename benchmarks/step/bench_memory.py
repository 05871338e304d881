"""How many bytes does a training step hold at its peak, per day, packed and as others do it?"""

import pytest

from benchmarks.measure.suite import name_dtype, native_dtype
from benchmarks.step.memory import measure_peak_bytes
from benchmarks.step.tables import OURS
from benchmarks.step.ways import Days, Step, small_config
from lsm2 import presets

PEERS = ("ours_joint", "ours_full", "padded", "paper", "dense")


@pytest.mark.benchmark(group="memory")
@pytest.mark.parametrize("missing", [0.2, 0.49, 0.8], ids="{:.0%}-missing".format)
def bench_memory(benchmark, device, dry_run, missing):
    preset, num_days = (presets.base(), 64) if device.type == "cuda" else (presets.tiny(), 2)
    days = Days.draw(small_config() if dry_run else preset, num_days, missing)
    peaks = {}
    for name in (OURS, *PEERS):
        step = Step.of(name, days, device, "auto")
        if device.type == "cuda":
            step()  # compiles kernels
        peaks[name] = measure_peak_bytes(step, device) / num_days
    ways = {
        name: {"peak_bytes_per_day": peak, "ratio_to_ours": peak / peaks[OURS]}
        for name, peak in peaks.items()
    }
    benchmark.extra_info.update(ways=ways, dtype=name_dtype(native_dtype(device)))
    benchmark.pedantic(Step.of(OURS, days, device, "auto"), rounds=1)
    megabytes = ", ".join(f"{name} {peak / 1e6:.1f} MB a day" for name, peak in peaks.items())
    print(f"\n  {missing:.0%} missing: {megabytes}")
