"""Folds by person: nobody is in the training and in the test part of one fold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lsm2.data.labels import Labels

NUM_FOLDS = 5
STRATA = 5
"""Groups of about equal size into which numbers are cut, so that every fold holds small and large ones."""


class Fold(NamedTuple):
    """One division of the examples."""

    train: np.ndarray
    """Positions of the examples that a probe is fitted on."""
    test: np.ndarray
    """Positions of the examples that it is scored on."""


def person_folds(labels: Labels, repeats: int, seed: int, num_folds: int = NUM_FOLDS) -> list[Fold]:
    """`num_folds` folds by person, drawn `repeats` times, each with about the same share of every class or
    range of numbers.
    """
    return [
        fold
        for repeat in range(repeats)
        for fold in split_by_person(labels.values, labels.kind, labels.subjects, num_folds, seed + repeat)
    ]


def split_by_person(
    values: np.ndarray, kind: str, people: Sequence[str] | np.ndarray, num_folds: int, seed: int
) -> Iterator[Fold]:
    """One round of folds; fewer than `num_folds` where there are fewer people."""
    from sklearn.model_selection import StratifiedGroupKFold

    strata = values
    if kind == "regression":
        edges = np.quantile(values, np.linspace(0, 1, STRATA + 1)[1:-1])
        strata = np.searchsorted(edges, values, side="right")
    number = np.unique(np.asarray(people), return_inverse=True)[1]
    folds = StratifiedGroupKFold(min(num_folds, int(number.max()) + 1), shuffle=True, random_state=seed)
    for train, test in folds.split(np.zeros(len(values)), strata, number):
        yield Fold(train, test)
