"""Evaluations of models become rows."""

from __future__ import annotations

import json

import pytest

from benchmarks.measure.results import read_csv
from benchmarks.science import evaluations


def errors(mse, signal_mse):
    of_signal = {"mse": signal_mse, "mae": 0.5, "unit": "bpm", "num_minutes": 3, "rmse_in_unit": 7.5}
    return {
        "mse": mse,
        "mae": 0.4,
        "mse_interval": [0.9 * mse, 1.1 * mse],
        "num_minutes": 6,
        "per_signal": {"hr": of_signal},
    }


def test_every_task_and_signal_has_a_row_a_method(tmp_path):
    report = {"generative": {"random_80": {"aim": errors(0.5, 0.3), "mean": errors(1.0, 0.9)}}}
    (tmp_path / "evaluation.json").write_text(json.dumps(report))
    file = tmp_path / "day.csv"
    evaluations.main([f"demo={tmp_path / 'evaluation.json'}", "--csv", str(file)])
    (run,) = read_csv(file)
    whole, hr = run.races
    assert (run.run, whole.suite, whole.case, hr.case) == (
        "evaluation_demo",
        "evaluation",
        "demo, random_80",
        "demo, random_80, hr",
    )
    assert whole.ways["aim"] == {"mse": 0.5, "mae": 0.4, "num_minutes": 6, "mse_low": 0.45, "mse_high": 0.55}
    assert (
        hr.params == {"model": "demo", "task": "random_80", "signal": "hr"} and hr.ways["mean"]["mse"] == 0.9
    )
    with pytest.raises(SystemExit):
        evaluations.main(["demo", "--csv", str(file)])
