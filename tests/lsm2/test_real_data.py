"""Import, pre-train and evaluate on real data with real gaps: the README's way with fewer steps; skipped
where the data is absent.
"""

import json
import math

import pytest

from lsm2.cli import main
from lsm2.data import DayStore
from lsm2.evaluate.methods import METHODS

NURSE = [
    "nurse_e4/nurse_e4_minute.parquet",
    "--columns",
    "hr",
    "rmssd",
    "ibi_n",
    "eda_mean",
    "eda_sd",
    "skin_temp",
    "acc_mean",
    "acc_sd",
]
COVID = [
    "covid_fitbit/covid_fitbit_minute.parquet",
    "--columns",
    "hr",
    "steps",
    "--where",
    "hr_file_available",
    "--log1p",
    "steps",
]


@pytest.mark.slow
@pytest.mark.parametrize(("source", "people"), [(NURSE, 11), (COVID, 9)], ids=["nurse_e4", "covid_fitbit"])
def test_a_model_of_real_days_beats_the_mean_on_people_it_never_saw(tmp_path, shared_data, source, people):
    file, *options = source
    store, run = tmp_path / "store", tmp_path / "run"
    assert (
        main(["import", "table", str(shared_data(file)), str(store), "--min-observed", "0.02", *options]) == 0
    )
    sizes = [
        "--encoder-width",
        "64",
        "--encoder-depth",
        "2",
        "--encoder-heads",
        "2",
        "--decoder-width",
        "64",
        "--decoder-heads",
        "2",
    ]
    training = [
        "--steps",
        "60",
        "--max-queries",
        "64",
        "--learning-rate",
        "3e-3",
        "--num-workers",
        "0",
        "--ema-decay",
        "0.9",
    ]
    assert main(["pretrain", "tiny", "--data", str(store), "--out", str(run), *sizes, *training]) == 0
    tasks = ["random_80", "temporal_interpolation_60"]
    assert main(["evaluate", str(run), "--data", str(store), "--max-days", "16", "--tasks", *tasks]) == 0

    config = json.loads((run / "config.json").read_text())
    assert set(config["train_subjects"]).isdisjoint(config["heldout_subjects"])
    assert sorted(config["train_subjects"] + config["heldout_subjects"]) == list(
        DayStore.open(store).subjects
    )
    assert len(DayStore.open(store).subjects) == people
    generative = json.loads((run / "evaluation.json").read_text())["generative"]
    for task in tasks:
        errors = {method: generative[task][method]["mse"] for method in METHODS}
        assert all(math.isfinite(error) and error > 0 for error in errors.values())
        assert len({generative[task][method]["num_minutes"] for method in errors}) == 1
    assert generative["random_80"]["aim"]["mse"] < generative["random_80"]["mean"]["mse"]
