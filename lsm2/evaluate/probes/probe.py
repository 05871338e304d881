"""Frozen features against labels: every method on the same people and folds, with intervals over people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lsm2.data.labels import Labels
from lsm2.evaluate.probes.folds import Fold, person_folds
from lsm2.evaluate.probes.heads import fit_predict
from lsm2.evaluate.probes.methods import AIM, ProbeMethod
from lsm2.evaluate.probes.metrics import METRICS, SMALLER_IS_BETTER, mean_of_defined, scores
from lsm2.evaluate.probes.results import Score
from lsm2.progress import counted
from lsm2.rng import keyed_rng

BOOTSTRAP_DRAWS = 1000
LABEL_FRACTIONS = (10, 25, 50)
"""Percent of the training people whose labels a thorough probe keeps."""
FEWEST_LABELLED_PEOPLE = 4
"""Of the training people that a fraction keeps; smaller fractions of small cohorts are left out."""


@dataclass(frozen=True)
class Compared:
    """Scores of every method, and the model's minus each other's."""

    methods: dict[str, dict[str, Score]]
    aim_minus: dict[str, dict[str, Score]]


def compare_methods(
    labels: Labels,
    methods: Mapping[str, ProbeMethod],
    features: Mapping[str, np.ndarray],
    *,
    repeats: int = 3,
    seed: int = 0,
    pca: int = 50,
    label_percent: int = 100,
    num_cells: Mapping[str, int] | None = None,
    progress: bool = False,
) -> Compared:
    """Score methods on labels: metrics of each fold, averaged over folds and repeats, never pooled.

    features: by name, (examples, F) each, NaN where undefined. The interval draws people with replacement
    1000 times, the same draws for all methods; the fitted probes stay as they are. label_percent: of the
    training people of each fold, so many keep their labels. num_cells: features that are pooled
    attentively, and their number of cells.
    """
    from threadpoolctl import threadpool_limits

    folds = person_folds(labels, repeats, seed)
    if label_percent < 100:
        folds = [
            Fold(_some_people(labels, fold.train, label_percent, seed, number), fold.test)
            for number, fold in enumerate(folds)
        ]
    people, person = np.unique(labels.subjects, return_inverse=True)
    draws = _draws(len(people), seed)
    work = [(name, fold) for name in methods for fold in range(len(folds))]
    found: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in methods}
    for name, number in counted(work, f"probing {labels.target}", progress):
        method, fold = methods[name], folds[number]
        # On matrices this small threads wait for each other longer than they work: 2 to 6 times, as measured.
        with threadpool_limits(1):
            predicted = fit_predict(
                method.head,
                labels.kind,
                [features[block] for block in method.features],
                labels.values,
                len(labels.classes),
                person,
                fold.train,
                fold.test,
                pca,
                seed,
                [(num_cells or {}).get(block, 0) for block in method.features],
            )
        weights = draws[:, person[fold.test]]
        found[name].append(scores(labels.kind, labels.values[fold.test], predicted, weights))
    averaged = {name: _average(list_of, METRICS[labels.kind]) for name, list_of in found.items()}
    return Compared(
        {name: {metric: _score(drawn) for metric, drawn in by.items()} for name, by in averaged.items()},
        {
            name: {metric: _score(averaged[AIM][metric] - drawn) for metric, drawn in by.items()}
            for name, by in averaged.items()
            if name != AIM and AIM in averaged
        },
    )


def fractions_of(labels: Labels) -> list[int]:
    """Percent of labels for which a curve has points, in this cohort."""
    training_people = len(set(labels.subjects)) * 4 // 5
    needed = max(FEWEST_LABELLED_PEOPLE, 2 * len(labels.classes))
    return [percent for percent in LABEL_FRACTIONS if training_people * percent // 100 >= needed]


def best(methods: Mapping[str, Mapping[str, Score]], metric: str) -> set[str]:
    """The methods with the best mean; several where they are equal."""
    means = {name: found[metric].mean for name, found in methods.items()}
    defined = {name: mean for name, mean in means.items() if mean is not None}
    if not defined:
        return set()
    top = min(defined.values()) if metric in SMALLER_IS_BETTER else max(defined.values())
    return {name for name, mean in defined.items() if mean == top}


def _draws(num_people: int, seed: int) -> np.ndarray:
    """(1 + draws, people) how often each person counts: once each in row 0, then as drawn."""
    drawn = keyed_rng("probe bootstrap", seed).multinomial(
        num_people, np.full(num_people, 1 / num_people), size=BOOTSTRAP_DRAWS
    )
    return np.concatenate([np.ones((1, num_people)), drawn])


def _average(folds: Sequence[Mapping[str, np.ndarray]], metrics: Sequence[str]) -> dict[str, np.ndarray]:
    """Mean over the folds in which a metric is defined, for every draw; NaN where none is."""
    return {metric: mean_of_defined(np.stack([fold[metric] for fold in folds])) for metric in metrics}


def _score(drawn: np.ndarray) -> Score:
    if np.isnan(drawn[0]):
        return Score(None, None, None)
    low, high = np.nanquantile(drawn[1:], (0.025, 0.975))
    return Score(float(drawn[0]), float(low), float(high))


def _some_people(labels: Labels, train: np.ndarray, percent: int, seed: int, fold: int) -> np.ndarray:
    """The training examples of so many percent of the training people, each class kept with at least two
    people where it has them.
    """
    people = np.asarray(labels.subjects)[train]
    order = np.unique(people)
    rng = keyed_rng("label fraction", seed, fold)
    order = order[np.argsort(rng.random(len(order)), kind="stable")]
    wanted = max(FEWEST_LABELLED_PEOPLE, round(len(order) * percent / 100))
    kept = set(order[:wanted].tolist())
    for number in range(len(labels.classes)):
        of_class = [person for person in order if (labels.values[train][people == person] == number).any()]
        missing = 2 - len(kept.intersection(of_class))
        kept.update([person for person in of_class if person not in kept][: max(0, missing)])
    return train[np.isin(people, list(kept))]
