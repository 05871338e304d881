"""Folds by person: nobody is in the training and in the test part of one fold."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lsm2.data.labels import Labels

NUM_FOLDS = 5
STRATA = 5
"""Groups of about equal size into which numbers are cut, so that every fold holds small and large ones; fewer
where a group would have fewer examples than there are folds.
"""


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

    number = np.unique(np.asarray(people), return_inverse=True)[1]
    num_folds = min(num_folds, int(number.max()) + 1)
    strata = values
    if kind == "regression":
        num_strata = max(1, min(STRATA, len(values) // num_folds))
        edges = np.quantile(values, np.linspace(0, 1, num_strata + 1)[1:-1])
        strata = np.searchsorted(edges, values, side="right")
    if np.unique(strata, return_counts=True)[1].max() < num_folds:
        # Every class has fewer examples than there are folds: scikit-learn refuses to spread them.
        strata = np.zeros(len(values))
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A rare class is missing from some folds, which the scores of a fold allow for.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        divided = list(folds.split(np.zeros(len(values)), strata, number))
    yield from (Fold(train, test) for train, test in divided if len(test))
