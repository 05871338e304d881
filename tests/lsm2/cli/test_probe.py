"""`lsm2 embed` and `lsm2 probe` on a tiny simulated cohort, up to the report, and their refusals."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest

from lsm2.cli import main
from lsm2.data.store import DayStore


@pytest.fixture(scope="module")
def probed(tmp_path_factory, tiny):
    """(store, run, another run) of 12 people."""
    folder = tmp_path_factory.mktemp("probe")
    store = folder / "store"
    assert main(["simulate", str(store), "--people", "12", "--days-per-person", "1", "--seed", "3"]) == 0
    for name, seed in (("run", "0"), ("other", "1")):
        data = ["--data", str(store), "--out", str(folder / name)]
        options = ["--steps", "2", "--heldout-fraction", "0.5", "--seed", seed]
        assert main(["pretrain", "tiny", *data, *options, *tiny]) == 0
    return store, folder / "run", folder / "other"


def probe(probed, target, *options, labels="labels.csv"):
    store, run, _ = probed
    words = ["probe", run, "--data", store, "--labels", store / labels, "--target", target, "--repeats", 1]
    assert main([str(word) for word in [*words, *options]]) == 0
    return json.loads((run / "probe.json").read_text())


@pytest.mark.parametrize(("level", "rows"), [("day", 12), ("person", 12), ("interval", 3)])
def test_embeddings_are_parquet_that_pandas_and_polars_read(probed, tmp_path, level, rows):
    store, run, _ = probed
    out = tmp_path / "new" / "embeddings.parquet"
    options = ["--level", level]
    if level == "interval":
        head = (store / "activities.csv").read_text().splitlines()[: rows + 1]
        (tmp_path / "some.csv").write_text("\n".join(head) + "\n")
        options = ["--labels", str(tmp_path / "some.csv")]
    assert main(["embed", str(run), "--data", str(store), "--out", str(out), *options]) == 0
    frames = pd.read_parquet(out), pl.read_parquet(out)
    assert [len(frame) for frame in frames] == [rows, rows]
    keys = {
        "day": ["day_id", "subject", "date"],
        "person": ["subject"],
        "interval": ["subject", "start", "end"],
    }
    assert list(frames[0]) == [*keys[level], "embedding"] == frames[1].columns
    values = np.stack(frames[0]["embedding"].tolist())
    assert values.dtype == np.float32 and values.shape == (rows, 2 * 26 * 32)
    np.testing.assert_array_equal(values, np.array(frames[1]["embedding"].to_list(), np.float32))


@pytest.mark.slow
def test_from_labels_to_the_report(probed, capsys):
    store, run, other = probed
    found = probe(probed, "age", "--covariates", "sex", "--against", other)
    assert (found["kind"], found["level"], found["num_people"]) == ("regression", "person", 12)
    assert {"aim", "other", "random_init", "covariates", "aim_covariates"} <= found["methods"].keys()
    printed = capsys.readouterr().out
    assert "AIM minus it" in printed and "*" in printed and "next: lsm2 report" in printed

    found = probe(probed, "sex", "--where", "age > 1")
    assert found["kind"] == "binary" and found["settings"]["where"] == "age > 1"
    rows = [
        f"{person},2024-03-01T{start},2024-03-01T{end},{activity}"
        for person in DayStore.open(store).subjects
        for start, end, activity in (("00:00", "06:00", "sleep"), ("10:00", "16:00", "work"))
    ]
    (store / "times.csv").write_text("\n".join(["subject,start,end,activity", *rows]) + "\n")
    found = probe(probed, "activity", "--every-minutes", 60, labels="times.csv")
    assert found["level"] == "interval" and found["num_labelled"] > 12

    assert sorted(file.name for file in (run / "probes").iterdir()) == [
        "activity.json",
        "age.json",
        "sex.json",
    ]
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "What the embeddings know" in page
    assert all(f"<h2>Probe: {target}</h2>" in page for target in ("activity", "age", "sex"))
    assert all((run / f"probe-{number}.png").stat().st_size > 1000 for number in range(3))


def test_too_few_people(probed, tmp_path, blame):
    store, run, _ = probed
    rows = (store / "labels.csv").read_text().splitlines()
    file = tmp_path / "few.csv"
    file.write_text("\n".join(rows[:6]) + "\n")
    said = blame("probe", run, "--data", store, "--labels", file, "--target", "age")
    assert f"{file} labels 5 people" in said and "at least 10" in said


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--target", "height"), "height"),
        (("--target", "age", "--repeats", "0"), "--repeats is 0"),
        (("--target", "age", "--pca", "-1"), "--pca is -1"),
        (("--target", "age", "--covariates", "age"), "--covariates names the target"),
        (("--target", "age", "--every-minutes", "10"), "--every-minutes"),
        (("--target", "age", "--where", "height > 3"), "height"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_settings_that_cannot_be_are_named(probed, blame, options, named):
    store, run, _ = probed
    assert named in blame("probe", run, "--data", store, "--labels", store / "labels.csv", *options)


def test_a_folder_that_is_no_run(probed, tmp_path, blame):
    store, _, _ = probed
    for verb in (
        ("embed", "--out", tmp_path / "out"),
        ("probe", "--labels", store / "labels.csv", "--target", "age"),
    ):
        assert "is not a run" in blame(verb[0], tmp_path, "--data", store, *verb[1:])


def test_a_damaged_cache_is_a_warning_and_not_an_end(probed, tmp_path, capsys):
    store, run, _ = probed
    command = ["embed", str(run), "--data", str(store), "--out", str(tmp_path / "out"), "--pooling", "mean"]
    assert main(command) == 0
    whole = (tmp_path / "out").read_bytes()
    (file,) = (run / "embeddings").glob("trained-mean-*.parquet")
    file.write_bytes(b"PAR1")
    assert main(command) == 0
    assert f"lsm2: warning: {file} is damaged" in capsys.readouterr().err
    assert (tmp_path / "out").read_bytes() == whole
