"""Attentive pooling: it finds the cell that tells a label, and learns from training people alone."""

import numpy as np
import pytest

from lsm2.evaluate.probes.attentive import attend
from lsm2.evaluate.probes.heads import fit_predict

NUM_CELLS, WIDTH = 16, 6
TRAIN, TEST = np.arange(120), np.arange(120, 180)


@pytest.fixture(scope="module")
def diluted():
    """(cells (180, 16, 6), values): one cell, marked by its second feature, holds the label in its first."""
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(180, NUM_CELLS, WIDTH))
    values = rng.normal(size=180)
    where = rng.integers(0, NUM_CELLS, 180)
    cells[:, :, 1] = 0
    cells[np.arange(180), where, 0] = values
    cells[np.arange(180), where, 1] = 6
    return cells, values


def predict(features, values, num_cells=0):
    people = np.arange(len(values))
    return fit_predict(
        "linear", "regression", [features], values, 0, people, TRAIN, TEST, num_cells=[num_cells]
    )


def test_attention_finds_the_cell_that_the_mean_dilutes(diluted):
    cells, values = diluted
    attentive = predict(cells.reshape(180, -1), values, NUM_CELLS)
    mean = predict(cells.mean(1), values)
    r_attentive, r_mean = (np.corrcoef(said, values[TEST])[0, 1] for said in (attentive, mean))
    assert r_attentive > 0.6
    assert r_attentive > r_mean + 0.2


def test_features_of_the_others_do_not_depend_on_test_people(diluted):
    cells, values = diluted
    people = np.arange(180)
    train, test = attend(cells, values, "regression", 0, people, TRAIN, TEST)
    changed = cells.copy()
    changed[TEST[-1]] = 1e6
    other_train, other_test = attend(changed, values, "regression", 0, people, TRAIN, TEST)
    np.testing.assert_array_equal(other_train, train)
    np.testing.assert_array_equal(other_test[:-1], test[:-1])


def test_a_missing_cell_has_no_part_and_its_place_does_not_matter(diluted):
    cells, values = diluted
    cells = cells.copy()
    cells[:, 3] = np.nan
    people = np.arange(180)
    train, test = attend(cells, values, "regression", 0, people, TRAIN, TEST)
    assert np.isfinite(train).all() and np.isfinite(test).all()
    moved = np.roll(cells, 1, axis=1)
    np.testing.assert_allclose(
        attend(moved, values, "regression", 0, people, TRAIN, TEST)[1], test, atol=0.05
    )


@pytest.mark.parametrize(("kind", "classes"), [("binary", 2), ("multiclass", 3), ("ordinal", 3)])
def test_classes_are_attended_to_too(diluted, kind, classes):
    cells, values = diluted
    labels = np.digitize(values, np.quantile(values, np.arange(1, classes) / classes)).astype(float)
    train, test = attend(cells, labels, kind, classes, np.arange(180), TRAIN, TEST, seed=1)
    assert train.shape[0] == len(TRAIN) and test.shape[0] == len(TEST)
    strongest = max(abs(np.corrcoef(test[:, k], labels[TEST])[0, 1]) for k in range(test.shape[1]))
    assert strongest > 0.4


def test_the_same_seed_gives_the_same_bits(diluted):
    cells, values = diluted
    once, again = (attend(cells, values, "regression", 0, np.arange(180), TRAIN, TEST)[1] for _ in range(2))
    np.testing.assert_array_equal(once, again)
