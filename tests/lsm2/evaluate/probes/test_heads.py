"""Heads: nothing is learned from test people, what is useless scores at chance, what is planted is found."""

import warnings

import numpy as np
import pytest

from lsm2.data.labels import Labels, read_labels
from lsm2.evaluate.probes.features import wear_features
from lsm2.evaluate.probes.folds import split_by_person
from lsm2.evaluate.probes.heads import fit_predict
from lsm2.evaluate.probes.methods import WEAR, ProbeMethod
from lsm2.evaluate.probes.metrics import auroc, correlation
from lsm2.evaluate.probes.probe import compare_methods
from lsm2.importers.table import TableOptions, import_table

NUM_PEOPLE, NUM_CELLS = 26, 3
KINDS = [
    ("regression", 0),
    ("binary", 2),
    pytest.param("multiclass", 3, marks=pytest.mark.slow),
    pytest.param("ordinal", 3, marks=pytest.mark.slow),
]
HEADS = [("linear", 0), ("linear", NUM_CELLS), ("boosting", 0)]


def cohort(kind, classes, seed=0, width=12):
    """(features with gaps, values) of people, of whom the first feature tells the label."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(NUM_PEOPLE, width))
    hidden = features[:, 0] + 0.3 * rng.normal(size=NUM_PEOPLE)
    values = np.digitize(hidden, np.quantile(hidden, np.arange(1, classes) / classes)) if classes else hidden
    cells = features.reshape(NUM_PEOPLE, NUM_CELLS, -1)
    cells[rng.random(cells.shape[:2]) < 0.1] = np.nan
    features[0] = rng.normal(size=width)
    return features, values.astype(float)


def predicted(head, kind, classes, cells, features, values, train, test):
    people = np.arange(len(values))
    return fit_predict(head, kind, [features], values, classes, people, train, test, pca=4, num_cells=[cells])


@pytest.mark.parametrize(("head", "cells"), HEADS, ids=["linear", "attentive", "boosting"])
@pytest.mark.parametrize(("kind", "classes"), KINDS)
def test_test_people_change_no_prediction_but_their_own(kind, classes, head, cells):
    features, values = cohort(kind, classes)
    train, test = np.arange(20), np.arange(20, NUM_PEOPLE)
    expected = predicted(head, kind, classes, cells, features, values, train, test)

    other, relabelled = features.copy(), values.copy()
    other[-1] = 1e6
    relabelled[20:] = values[20:][::-1]
    changed = predicted(head, kind, classes, cells, other, relabelled, train, test)
    np.testing.assert_array_equal(changed[:-1], expected[:-1])

    without = predicted(head, kind, classes, cells, features, values, train, test[:-1])
    np.testing.assert_array_equal(without, expected[:-1])


def score(kind, features, values, head="linear", seed=0):
    """Mean over folds of AUROC or r."""
    found = []
    for fold in split_by_person(values, kind, np.arange(len(values)), 5, seed):
        said = fit_predict(
            head, kind, [features], values, 2, np.arange(len(values)), fold.train, fold.test, 50, seed
        )
        ones, truth = np.ones((1, len(fold.test))), values[fold.test]
        of_fold = auroc(truth == 1, said[:, 1], ones) if kind == "binary" else correlation(truth, said, ones)
        found.append(float(of_fold[0]))
    return np.nanmean(found)


@pytest.mark.parametrize(
    ("kind", "chance"), [pytest.param("binary", 0.5, marks=pytest.mark.slow), ("regression", 0.0)]
)
def test_shuffled_labels_score_at_chance_and_not_below(kind, chance):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(50, 6))
    values = np.arange(50) % 2.0 if kind == "binary" else rng.normal(size=50)
    found = [score(kind, features, rng.permutation(values), seed=shuffle) for shuffle in range(6)]
    assert abs(np.mean(found) - chance) < 0.08


@pytest.mark.parametrize("kind", ["binary", "regression"])
@pytest.mark.parametrize("head", ["linear", "boosting"])
def test_a_planted_signal_beats_noise(kind, head):
    rng = np.random.default_rng(2)
    features = rng.normal(size=(60, 6))
    hidden = features[:, 3] + 0.3 * rng.normal(size=60)
    values = (hidden > 0).astype(float) if kind == "binary" else hidden
    good, noise = (score(kind, x, values, head) for x in (features, rng.normal(size=(60, 6))))
    assert good > 0.8 > 0.65 > noise


def test_boosting_finds_an_interaction_that_ridge_cannot():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(300, 4))
    values = np.sign(features[:, 0] * features[:, 1]) + 0.1 * rng.normal(size=300)
    assert score("regression", features, values, "boosting") > 0.6
    assert score("regression", features, values) < 0.3


def test_ordinal_predictions_are_expected_classes_and_not_rounded():
    rng = np.random.default_rng(4)
    values = rng.integers(0, 4, 200).astype(float)
    features = values[:, None] + 0.5 * rng.normal(size=(200, 1))
    train, test = np.arange(150), np.arange(150, 200)
    said = predicted("linear", "ordinal", 4, 0, features, values, train, test)
    assert said.shape == (50,) and said.min() >= 0 and said.max() <= 3
    assert (np.abs(said - np.rint(said)) > 0.01).mean() > 0.5
    assert np.abs(said - values[test]).mean() < 0.5


def test_a_certain_ordinal_feature_gives_the_class():
    values = np.tile(np.arange(3.0), 40)
    features = np.eye(3)[values.astype(int)]
    said = predicted("linear", "ordinal", 3, 0, features, values, np.arange(90), np.arange(90, 120))
    np.testing.assert_allclose(said, values[90:], atol=0.3)


@pytest.mark.parametrize("head", ["linear", "boosting"])
@pytest.mark.parametrize(("kind", "classes"), KINDS)
def test_a_class_that_one_training_person_or_none_has_makes_no_noise(kind, classes, head):
    rng = np.random.default_rng(5)
    features = rng.normal(size=(12, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rare in (0, 1):
            values = np.zeros(12)
            values[:rare] = 1
            said = predicted(head, kind, classes, 0, features, values, np.arange(10), np.arange(10, 12))
            assert np.isfinite(said).all()
            if classes and kind != "ordinal":
                np.testing.assert_allclose(said.sum(1), 1, atol=1e-5)


def test_an_undefined_feature_is_filled_by_the_mean_of_training_people_and_not_by_zero():
    rng = np.random.default_rng(6)
    features = rng.normal(100, 1, (60, 1))
    values = features[:, 0].copy()
    features[[58, 59]] = np.nan
    said = predicted("linear", "regression", 0, 0, features, values, np.arange(50), np.arange(50, 60))
    np.testing.assert_allclose(said[[8, 9]], values[:50].mean(), atol=0.05)
    assert abs(said[0] - values[50]) < 0.2


def test_many_features_that_never_vary_give_the_mean_without_a_warning():
    values = np.arange(20.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = predicted(
            "linear", "regression", 0, 0, np.ones((20, 9)), values, np.arange(15), np.arange(15, 20)
        )
    np.testing.assert_allclose(said, values[:15].mean())


@pytest.mark.slow
def test_wear_tells_nothing_of_bmi_and_not_less(tmp_path, shared_data):
    source = shared_data("nhanes_2003/nhanes_minute.parquet")
    store = import_table(source, tmp_path / "nhanes", TableOptions(log1p=("activity",)))
    bmi: Labels = read_labels(shared_data("nhanes_2003/labels.csv"), "bmi", store)
    method = ProbeMethod(WEAR, WEAR, "", "", (WEAR,))
    found = compare_methods(bmi, {WEAR: method}, {WEAR: wear_features(store, bmi)})
    assert found.methods[WEAR]["r"].mean > -0.1
