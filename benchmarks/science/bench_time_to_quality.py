"""How fast does the reference recipe learn? Half a minute of training; what it reached is in extra_info."""

import pytest

from benchmarks.measure.suite import name_dtype, native_dtype
from benchmarks.science.time_to_quality import Training, masks
from benchmarks.science.time_to_quality_report import REFERENCE, SUITE
from lsm2 import presets
from lsm2.simulate.cohort import write_cohort


@pytest.mark.benchmark(group=SUITE)
def bench_time_to_quality(benchmark, device, tmp_path):
    store = write_cohort(tmp_path / "cohort", people=12, days_per_person=4, seed=0)
    training = Training(REFERENCE, store, masks(presets.tiny(), max_visible=128, query_share=1 / 4), 0, 60)
    benchmark.pedantic(lambda: training.advance(20), rounds=3)
    reached = training.validate()
    benchmark.extra_info.update(error_over_mean_fill=reached, dtype=name_dtype(native_dtype(device)))
    print(f"  {training.steps_done} steps: {reached}")
