"""Comparisons: intervals over people, paired differences, curves with fewer labels."""

import numpy as np
import pytest

from lsm2.data.labels import Labels
from lsm2.evaluate.probes.folds import person_folds
from lsm2.evaluate.probes.heads import fit_predict
from lsm2.evaluate.probes.methods import ProbeMethod
from lsm2.evaluate.probes.metrics import METRICS
from lsm2.evaluate.probes.probe import _some_people, best, compare_methods, fractions_of
from lsm2.evaluate.probes.results import Score


def labels_of(values, kind, classes=(), per_person=1):
    people = tuple(f"p{row // per_person:03}" for row in range(len(values)))
    return Labels(
        target="y",
        kind=kind,
        level="person",
        subjects=people,
        dates=None,
        spans=None,
        values=np.asarray(values, float),
        classes=classes,
        covariates=np.zeros((len(values), 0)),
        covariate_names=(),
        left_out={},
    )


def methods(*names):
    return {name: ProbeMethod(name, name, "", "", (name,)) for name in names}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 3))
    return features, features[:, 0] + 0.5 * rng.normal(size=40), rng.normal(size=(40, 3))


@pytest.fixture(scope="module")
def compared(data):
    features, values, noise = data
    names = methods("aim", "twin", "noise")
    return compare_methods(
        labels_of(values, "regression"), names, {"aim": features, "twin": features, "noise": noise}, repeats=1
    )


def test_intervals_contain_the_mean_and_are_not_points(compared):
    for found in compared.methods.values():
        for score in found.values():
            assert score.low < score.mean < score.high


def test_a_method_minus_itself_is_exactly_nothing(compared):
    assert compared.aim_minus.keys() == {"twin", "noise"}
    assert set(compared.aim_minus["twin"].values()) == {Score(0.0, 0.0, 0.0)}
    assert compared.aim_minus["noise"]["r"].low > 0
    assert best(compared.methods, "mae") == {"aim", "twin"} == best(compared.methods, "r")


def test_the_same_seed_gives_the_same_intervals(data, compared):
    features, values, noise = data
    labels = labels_of(values, "regression")
    given = {"aim": features, "twin": features, "noise": noise}
    assert compare_methods(labels, methods("aim", "twin", "noise"), given, repeats=1) == compared
    other = compare_methods(labels, methods("aim"), given, repeats=1, seed=1)
    assert other.methods["aim"] != compared.methods["aim"]


def test_the_mean_is_over_folds_and_never_pooled(data):
    """Predictions of each fold lie at another level: pooled, their correlation would be another."""
    features, values, _ = data
    labels = labels_of(values, "regression")
    found = compare_methods(labels, methods("aim"), {"aim": features}, repeats=1).methods["aim"]["r"].mean
    per_fold = []
    for fold in person_folds(labels, 1, 0):
        said = fit_predict(
            "linear", "regression", [features], labels.values, 0, np.arange(40), fold.train, fold.test
        )
        per_fold.append(np.corrcoef(said, values[fold.test])[0, 1])
    assert found == pytest.approx(np.mean(per_fold))


def test_people_are_drawn_and_not_their_intervals(data):
    """Thirty copies of each person's example tell no more of people than one."""
    features, values, _ = data
    once = compare_methods(labels_of(values, "regression"), methods("aim"), {"aim": features}, repeats=1)
    copies = compare_methods(
        labels_of(np.repeat(values, 30), "regression", per_person=30),
        methods("aim"),
        {"aim": np.repeat(features, 30, axis=0)},
        repeats=1,
    )
    wide, narrow = (found.methods["aim"]["mae"] for found in (once, copies))
    assert narrow.high - narrow.low > 0.6 * (wide.high - wide.low)


@pytest.mark.parametrize(
    ("kind", "classes"),
    [
        ("binary", ("no", "yes")),
        pytest.param("multiclass", ("a", "b", "c"), marks=pytest.mark.slow),
        pytest.param("ordinal", ("1", "2", "3"), marks=pytest.mark.slow),
    ],
)
def test_ten_people_have_scores_of_every_kind(kind, classes):
    rng = np.random.default_rng(0)
    values = np.arange(10) % len(classes)
    found = compare_methods(
        labels_of(values, kind, classes), methods("aim"), {"aim": rng.normal(size=(10, 3))}, repeats=1
    ).methods["aim"]
    assert tuple(found) == METRICS[kind]
    for score in found.values():
        assert score.mean is None or np.isfinite([score.mean, score.low, score.high]).all()


def test_a_metric_that_no_fold_defines_is_none():
    values = np.repeat([0.0, 1.0], [11, 1])
    found = compare_methods(
        labels_of(values, "binary", ("no", "yes")),
        methods("aim"),
        {"aim": np.arange(12.0)[:, None]},
        repeats=1,
    )
    score = found.methods["aim"]["auroc"]
    assert score.mean is None or 0 <= score.mean <= 1


def test_fewer_labels_keep_whole_people_and_two_of_each_class():
    values = np.repeat((np.arange(60) < 5).astype(float), 3)
    labels = labels_of(values, "binary", ("no", "yes"), per_person=3)
    people = np.asarray(labels.subjects)
    assert fractions_of(labels) == [10, 25, 50]
    for number, fold in enumerate(person_folds(labels, 1, 0)):
        kept = _some_people(labels, fold.train, 10, 0, number)
        assert set(kept) <= set(fold.train)
        np.testing.assert_array_equal(kept, fold.train[np.isin(people[fold.train], people[kept])])
        assert len(set(people[kept])) <= 5 + 2
        for number_of_class in (0, 1):
            assert len(set(people[kept][values[kept] == number_of_class])) >= 2


def test_small_cohorts_leave_small_fractions_out():
    assert fractions_of(labels_of(np.arange(12.0), "regression")) == [50]


def test_the_best_is_undefined_where_all_scores_are():
    assert best({"a": {"r": Score(None, None, None)}}, "r") == set()
