"""From a cohort to a report through the real command line, each command in a process of its own."""

import json

import pytest


@pytest.mark.slow
@pytest.mark.subprocess
def test_the_whole_way_from_cohort_to_report(tmp_path, tiny, lsm2):
    store = tmp_path / "store"
    run = tmp_path / "run"

    def said(*arguments: object) -> str:
        done = lsm2(*arguments)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    assert "12 days of 6 people" in said(
        "simulate", store, "--people", 6, "--days-per-person", 2, "--seed", 3
    )
    assert "6 people, 12 days, 26 signals" in said("info", store)
    said("pretrain", "tiny", "--data", store, "--out", run, "--steps", 4, "--heldout-fraction", 0.5, *tiny)

    said("report", run)
    assert "Not evaluated yet" in (run / "report.html").read_text()

    tasks = ["random_80", "temporal_interpolation_60", "signal_imputation_2"]
    scores = said("evaluate", run, "--data", store, "--max-days", 2, "--tasks", *tasks)
    assert all(task in scores for task in tasks) and "*" in scores
    assert "simple fill" in scores.splitlines()[-1]
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert set(evaluation["generative"]) == set(tasks)
    assert evaluation["settings"]["num_people"] == 2
    heldout = json.loads((run / "config.json").read_text())["heldout_subjects"]
    assert len(heldout) == 3

    said("plot", run, "--data", store, "--day", f"{heldout[0]}/2024-03-01", "--task", "random_50")
    said("report", run)
    page = (run / "report.html").read_text()
    assert "Not evaluated yet" not in page
    assert page.count("data:image/png;base64,") == 3 + 3 + 1 + 1
    assert "26 signals every 1 min" in page
