"""Every metric agrees with scikit-learn's under any weights of the examples."""

import numpy as np
import pytest
from sklearn import metrics as sk

from lsm2.evaluate.probes.metrics import auprc, auroc, correlation, scores


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def weightings(rng, n, draws=20):
    return np.concatenate([np.ones((1, n)), rng.multinomial(n, np.full(n, 1 / n), size=draws)])


@pytest.mark.parametrize("levels", [3, 1000])
def test_ranking_metrics_are_those_of_scikit_learn_with_ties_too(rng, levels):
    truth = rng.random(60) < 0.4
    score = np.round(rng.random(60) * levels) / levels
    weights = weightings(rng, 60)
    for ours, theirs in ((auroc, sk.roc_auc_score), (auprc, sk.average_precision_score)):
        expected = [theirs(truth, score, sample_weight=w) for w in weights]
        np.testing.assert_allclose(ours(truth, score, weights), expected, atol=1e-12)


def test_binary_scores_are_those_of_scikit_learn(rng):
    truth = (rng.random(50) < 0.3).astype(float)
    chance = rng.random(50)
    predictions = np.stack([1 - chance, chance], 1)
    weights = weightings(rng, 50)
    found = scores("binary", truth, predictions, weights)
    chosen = (chance > 0.5).astype(float)
    for draw, w in enumerate(weights):
        assert found["f1"][draw] == pytest.approx(sk.f1_score(truth, chosen, sample_weight=w))
        assert found["balanced_accuracy"][draw] == pytest.approx(
            sk.balanced_accuracy_score(truth, chosen, sample_weight=w)
        )


def test_multiclass_scores_are_those_of_scikit_learn(rng):
    truth = rng.integers(0, 4, 80).astype(float)
    predictions = rng.dirichlet(np.ones(4), 80)
    weights = weightings(rng, 80)
    found = scores("multiclass", truth, predictions, weights)
    chosen = predictions.argmax(1)
    for draw, w in enumerate(weights):
        assert found["f1"][draw] == pytest.approx(
            sk.f1_score(truth, chosen, average="macro", sample_weight=w)
        )
        assert found["balanced_accuracy"][draw] == pytest.approx(
            sk.balanced_accuracy_score(truth, chosen, sample_weight=w)
        )
        one_against_all = [sk.roc_auc_score(truth == k, predictions[:, k], sample_weight=w) for k in range(4)]
        assert found["auroc"][draw] == pytest.approx(np.mean(one_against_all))


def test_regression_scores_are_those_of_numpy_and_scikit_learn(rng):
    truth, predicted = rng.normal(size=40), rng.normal(size=40)
    weights = weightings(rng, 40)
    found = scores("regression", truth, predicted, weights)
    for draw, w in enumerate(weights):
        times = np.repeat(np.arange(40), w.astype(int))
        assert found["r"][draw] == pytest.approx(np.corrcoef(truth[times], predicted[times])[0, 1])
        assert found["mae"][draw] == pytest.approx(sk.mean_absolute_error(truth, predicted, sample_weight=w))


def test_ordinal_scores_are_taken_on_the_expected_class_without_rounding():
    truth = np.array([0.0, 1, 2])
    predicted = np.array([0.4, 1.4, 1.6])
    found = scores("ordinal", truth, predicted, np.ones((1, 3)))
    assert found["mae"][0] == pytest.approx(0.4)
    assert found["r"][0] == pytest.approx(np.corrcoef(truth, predicted)[0, 1])
    assert found["balanced_accuracy"][0] == 1


def test_a_score_that_is_undefined_is_nan_and_never_zero():
    weights = np.array([[1.0, 1, 0, 0], [1, 1, 1, 1]])
    truth = np.array([1.0, 1, 0, 0])
    assert np.isnan(auroc(truth == 1, np.array([0.1, 0.2, 0.3, 0.4]), weights)).tolist() == [True, False]
    assert np.isnan(correlation(np.ones(4), np.arange(4.0), weights)).all()


def test_predictions_that_are_all_equal_have_no_correlation():
    assert correlation(np.arange(4.0), np.full(4, 0.7), np.ones((1, 4))).tolist() == [0]
