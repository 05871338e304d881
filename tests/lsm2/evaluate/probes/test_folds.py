"""Folds: nobody on both sides, everybody tested once, and cohorts of ten people have some too."""

import warnings
from dataclasses import dataclass

import numpy as np
import pytest

from lsm2.evaluate.probes.folds import NUM_FOLDS, person_folds, split_by_person

KINDS = [("regression", 0), ("binary", 2), ("multiclass", 3), ("multiclass", 6), ("ordinal", 4)]


@dataclass
class FewLabels:
    values: np.ndarray
    kind: str
    subjects: tuple[str, ...]


def drawn(kind, classes, num_people, intervals, seed):
    """Labels of people with 1 to `intervals` examples each."""
    rng = np.random.default_rng(seed)
    people = np.repeat(np.arange(num_people), rng.integers(1, intervals + 1, num_people))
    values = rng.integers(0, classes, len(people)).astype(float) if classes else rng.normal(size=len(people))
    return values, people


@pytest.mark.parametrize(("kind", "classes"), KINDS)
@pytest.mark.parametrize("intervals", [1, 30], ids=["people", "intervals"])
def test_nobody_is_in_both_parts_and_everybody_is_tested_once(kind, classes, intervals):
    for num_people in (10, 12, 17, 25, 60):
        values, people = drawn(kind, classes, num_people, intervals, num_people)
        labels = FewLabels(values, kind, tuple(f"p{person}" for person in people))
        folds = person_folds(labels, 2, 0)
        for fold in folds:
            assert not set(people[fold.train]) & set(people[fold.test])
            assert len(fold.train) + len(fold.test) == len(people)
        tested = np.concatenate([fold.test for fold in folds])
        np.testing.assert_array_equal(np.bincount(tested), np.full(len(people), 2))


@pytest.mark.parametrize(("kind", "classes"), KINDS)
def test_small_cohorts_are_divided_without_a_warning_and_so_are_their_training_people(kind, classes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for num_people in (10, 11, 14, 22, 29):
            values, people = drawn(kind, classes, num_people, 1, num_people)
            for fold in split_by_person(values, kind, people, NUM_FOLDS, 0):
                inner = list(split_by_person(values[fold.train], kind, people[fold.train], NUM_FOLDS, 0))
                assert len(inner) > 1
                assert all(len(part.train) and len(part.test) for part in inner)


def test_every_fold_holds_small_and_large_numbers():
    values = np.arange(50.0)
    for fold in split_by_person(values, "regression", np.arange(50), NUM_FOLDS, 0):
        assert (values[fold.test] < 20).sum() == 4
        assert len(fold.test) == 10


def test_every_fold_holds_a_class_that_has_enough_people():
    values = (np.arange(40) < 5).astype(float)
    for fold in split_by_person(values, "binary", np.arange(40), NUM_FOLDS, 0):
        assert values[fold.test].sum() == 1


def test_a_seed_gives_the_same_folds_and_repeats_differ():
    values, people = drawn("binary", 2, 30, 1, 0)
    labels = FewLabels(values, "binary", tuple(map(str, people)))
    once, again = (person_folds(labels, 2, 3) for _ in range(2))
    assert all((a.test == b.test).all() for a, b in zip(once, again, strict=True))
    first, second = ({tuple(fold.test) for fold in once[part]} for part in (slice(5), slice(5, 10)))
    assert first != second
