"""`python -m benchmarks.science.plan`: the model's arithmetic, and the command from a file of measurements to
its table.
"""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.measure.results import Race, write_results
from benchmarks.science import plan
from lsm2 import presets
from lsm2.simulate.cohort import write_cohort

COHORT = plan.Cohort(store_bytes=150e3, device_bytes=100e3, loader_seconds=0.004, slowest_share=1.1)
PLAN = plan.Plan(
    8,
    64,
    25_000_000,
    plan.Measured("a GPU", 1200.0, 170e6),
    COHORT,
    memory_rate=3e12,
    link_rate=50e9,
    workers=8,
)


def test_a_step_is_the_sum_of_its_parts_or_the_loader():
    parts = PLAN.parts
    assert parts["compute"] == pytest.approx(1.1 * 64 / 1200)
    assert parts["all-reduce"] == pytest.approx(2 * 7 / 8 * 100e6 / 50e9)
    assert parts["loader"] == pytest.approx(64 * 0.004 / 8)
    assert PLAN.step_seconds == pytest.approx(sum(parts.values()) - parts["loader"])
    starved = dataclasses.replace(PLAN, workers=1)
    assert starved.step_seconds == pytest.approx(64 * 0.004)
    assert starved.days_per_second == pytest.approx(8 / 0.004)


def test_one_gpu_reduces_nothing_and_an_epoch_of_the_paper_has_its_days():
    alone = dataclasses.replace(PLAN, gpus=1)
    assert alone.parts["all-reduce"] == 0
    assert any("1,601,660 days (38.4 million hours)" in name for name, _ in alone.lines(plan.PEOPLE))


def test_cohort_is_measured_on_real_batches(tmp_path):
    store = write_cohort(tmp_path / "cohort", people=4, days_per_person=2, seed=0)
    cohort = plan.Cohort.measure(store, presets.tiny(), 4, 3)
    assert 26 * 1440 * 4 <= cohort.store_bytes <= 1.1 * 26 * 1440 * 4
    assert 10e3 < cohort.device_bytes < 250e3
    assert 0 < cohort.loader_seconds < 1
    assert 1 <= cohort.slowest_share < 2
    assert plan.Cohort.measure(store, presets.tiny(), 1, 3).slowest_share == 1


def test_command_reads_measurements_and_prints_a_plan(tmp_path, capsys):
    params = {"preset": "tiny", "window": "day", "missing": 0.49, "num_windows": 6}
    ways = {"ours_cross": {"median_seconds": 0.06, "days_per_second": 100.0, "peak_bytes": 6_000_000}}
    file = tmp_path / "train_step.json"
    write_results(file, [Race("train_step", "tiny", params, ways)], machine={"machine": "a machine"})
    plan.main(["--preset", "tiny", "--gpus", "2", "--people", "1000", "--measured", str(file)])
    printed = capsys.readouterr().out
    assert "a machine" in printed and "epoch of 26,500 days" in printed
    with pytest.raises(SystemExit, match=r"train_step\.json has no time of ours_cross, base"):
        plan.main(["--measured", str(file)])
