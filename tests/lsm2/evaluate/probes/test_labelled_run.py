"""Probes of a run: what is undefined is left out and counted; results come back from JSON as they were."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from lsm2.config import LSM2Config
from lsm2.data import Day, DayStore, Signal
from lsm2.data.labels import read_labels
from lsm2.data.normalize import Normalization
from lsm2.errors import InputError
from lsm2.evaluate.probes.labelled_run import NO_DATA, probe_run, read_probes, write_probe
from lsm2.evaluate.probes.results import ProbeResult
from lsm2.model.lsm2 import LSM2
from lsm2.run_folder import RunFolder

CONFIG = LSM2Config(
    num_signals=2,
    window_minutes=120,
    encoder_width=16,
    encoder_depth=1,
    encoder_heads=1,
    decoder_width=16,
    decoder_depth=1,
    decoder_heads=1,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """13 people x 2 days of 2 hours; the first signal's mean grows with the person, the last has no data."""
    rng = np.random.default_rng(0)

    def days():
        for person in range(13):
            for date in ("2024-01-01", "2024-01-02"):
                values = rng.normal(person, 1, (2, 120)).astype(np.float32)
                if person == 12:
                    values[:] = np.nan
                yield Day(f"p{person:02}", date, values)

    return DayStore.write(
        tmp_path_factory.mktemp("probed") / "store", [Signal("a", "bpm"), Signal("b", "ms")], days()
    )


def make_run(path, store, seed=7):
    torch.manual_seed(seed)
    model = LSM2(CONFIG, Normalization.from_moments(store.signals, store.moments_of(store.subjects)))
    model.save_pretrained(path / "model")
    config = {"format_version": 2, "model": CONFIG.to_dict(), "train_subjects": ["p00", "p01", "p12"]}
    (path / "config.json").write_text(json.dumps(config))
    return RunFolder(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory, store):
    return make_run(tmp_path_factory.mktemp("probed") / "run", store)


@pytest.fixture(scope="module")
def labels_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("probed") / "labels.csv"
    file.write_text("subject,y,age\n" + "".join(f"p{n:02},{n}.5,{20 + n}\n" for n in range(13)))
    return file


@pytest.fixture(scope="module")
def result(run, store, labels_file):
    labels = read_labels(labels_file, "y", store, covariates=("age",))
    return probe_run(run, store, labels, labels_file, repeats=1)


def test_people_without_data_are_left_out_and_counted(result):
    assert (result.num_people, result.num_labelled, result.left_out) == (12, 12, {NO_DATA: 1})
    assert result.num_people_seen == 2


def test_every_method_has_scores_and_differences(result):
    names = [
        "aim", "random_init", "summary_features", "summary_boosting", "wear_only", "covariates",
        "aim_summary", "aim_covariates", "summary_covariates",
    ]  # fmt: skip
    assert list(result.methods) == names == list(result.shown_as)
    assert list(result.aim_minus) == names[1:]
    assert result.methods["covariates"]["mae"].mean < 2


def test_results_come_back_from_json_as_they_were(tmp_path, run, result):
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert ProbeResult.from_dict(json.loads(text)) == result
    file = write_probe(run, result)
    assert file == run.path / "probes" / "y.json"
    assert file.read_bytes() == (run.path / "probe.json").read_bytes()
    assert read_probes(run) == [result]


def test_probe_json_has_the_keys_that_others_read(result):
    found = result.to_dict()
    assert {"target", "kind", "level", "methods", "num_people", "num_labelled"} <= found.keys()
    assert (found["target"], found["kind"], found["level"]) == ("y", "regression", "person")
    assert found["methods"]["aim"]["r"].keys() == {"mean", "low", "high"}


def test_odd_targets_have_files_that_do_not_collide(tmp_path, result):
    run = RunFolder(tmp_path)
    targets = ["a b", "a/b", "a_b", "../up", "x" * 300, "x" * 301, "心" * 200]
    files = [write_probe(run, dataclasses.replace(result, target=target)) for target in targets]
    assert len(set(files)) == len(targets)
    assert {file.parent for file in files} == {run.probes_folder}
    assert {found.target for found in read_probes(run)} == set(targets)


@pytest.mark.parametrize("damage", ["{", "[]", '{"format_version": 1}', '{"format_version": 99}'])
def test_a_damaged_probe_is_refused_with_what_to_do(tmp_path, damage):
    run = RunFolder(tmp_path)
    run.probes_folder.mkdir()
    (run.probes_folder / "y.json").write_text(damage)
    with pytest.raises(InputError, match=r"y\.json .*write it anew with `lsm2 probe`, or delete it"):
        read_probes(run)


@pytest.mark.parametrize("name", ["covariates", "summary_features", "wear"])
def test_another_run_with_the_name_of_a_method_is_refused(tmp_path, run, store, labels_file, name):
    labels = read_labels(labels_file, "y", store, covariates=("age",))
    runs = [make_run(tmp_path / name, store)]
    with pytest.raises(InputError, match=f"has the name of another method, '{name}'; rename the folder"):
        probe_run(run, store, labels, labels_file, against=runs)


@pytest.mark.parametrize("setting", [{"repeats": 0}, {"pca": -1}, {"seed": -1}])
def test_settings_that_cannot_be_are_named(run, store, labels_file, setting):
    ((name, value),) = setting.items()
    with pytest.raises(InputError, match=f"^{name} is {value}; it must be at least"):
        probe_run(run, store, read_labels(labels_file, "y", store), labels_file, **setting)


def test_too_few_people_are_refused_also_where_some_have_no_data(run, store, labels_file):
    labels = read_labels(labels_file, "y", store, where="y > 3")
    with pytest.raises(InputError, match=r"labels 9 people of .* with y; a probe needs at least 10"):
        probe_run(run, store, labels, labels_file)


def test_without_scikit_learn_it_says_what_to_install(run, store, labels_file, monkeypatch):
    monkeypatch.setattr("lsm2.evaluate.probes.labelled_run.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install scikit-learn"):
        probe_run(run, store, read_labels(labels_file, "y", store), labels_file)


def test_attentive_embeddings_are_attended_to(run, store, labels_file, monkeypatch):
    """Each embedding, and no other features, reaches the heads with its number of cells."""
    seen = {}

    def compare(labels, methods, features, *, num_cells, **options):
        seen.update(num_cells)
        raise InterruptedError

    monkeypatch.setattr("lsm2.evaluate.probes.labelled_run.compare_methods", compare)
    for pooling, expected in (("attentive", {"aim": 2, "random_init": 2}), ("mean", {})):
        seen.clear()
        with pytest.raises(InterruptedError):
            probe_run(run, store, read_labels(labels_file, "y", store), labels_file, pooling=pooling)
        assert seen == expected


def test_a_store_of_other_signals_is_refused(tmp_path, run):
    days = [Day(f"p{n}", "2024-01-01", np.ones((1, 120), np.float32)) for n in range(12)]
    other = DayStore.write(tmp_path / "other", [Signal("z", "bpm")], days)
    file = tmp_path / "labels.csv"
    file.write_text("subject,y\n" + "".join(f"p{n},{n}.5\n" for n in range(12)))
    with pytest.raises(InputError, match=r"the model was trained on the signals a, b; store .* has z"):
        probe_run(run, other, read_labels(file, "y", other), file)
