"""What is fitted on frozen features: ridge, logistic or ordinal regression, or gradient boosting.

Filling undefined features, standardising, PCA and the choice of a head's strength all happen inside
`fit_predict`, on the training examples alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from lsm2.evaluate.probes.attentive import attend
from lsm2.evaluate.probes.folds import split_by_person
from lsm2.evaluate.probes.networks import is_class
from lsm2.evaluate.probes.resnet import predict_by_resnet

INNER_FOLDS = 5
RIDGE_STRENGTHS = (*(10.0**power for power in range(-1, 6)), 1e12)
LOGISTIC_STRENGTHS = (1e-12, *(10.0**power for power in range(-5, 1)))
"""Of scikit-learn's C, whose inverse is the penalty.

The weakest heads say the same of everyone, as is best for features that tell nothing: any other head repeats
the chance of its training people, which is the opposite of the test people's, and scores below chance.
"""
DIGITS = 6
"""Of predictions: what a head says of everyone is a tie."""
BOOSTING: dict[str, Any] = {
    "n_estimators": 300,
    "max_depth": 3,
    "learning_rate": 0.03,
    "subsample": 0.5,
    "max_features": "sqrt",
    "min_samples_leaf": 3,
}
MANY_EXAMPLES = 2000
MOST_DEVIATIONS = 3.0
"""Standardised features are kept within so many deviations of their mean."""


def fit_predict(
    head: str,
    kind: str,
    blocks: Sequence[np.ndarray],
    values: np.ndarray,
    num_classes: int,
    people: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    pca: int = 50,
    seed: int = 0,
    num_cells: Sequence[int] = (),
) -> np.ndarray:
    """Fit on the examples `train`, predict the examples `test`: numbers (n,) for regression and ordinal,
    probabilities (n, classes) else.

    head: "linear", "boosting", or "resnet", whose one block is `resnet_input`. blocks: features (examples, F)
    each, NaN where undefined; a linear head reduces each block of more than `pca` features to so many
    components (0: none is reduced). num_cells: of each block, into how many cells its features divide for
    attentive pooling, 0 for none; () for no block.
    """
    if is_class(kind) and len(np.unique(values[train])) == 1:
        return np.eye(num_classes)[np.full(len(test), int(values[train][0]))]
    if head == "resnet":
        said = predict_by_resnet(blocks[0], values, kind, num_classes, people, train, test, seed)
        return np.round(said, DIGITS)
    if head == "boosting":
        model = _boosting(kind, len(train), seed)
        features = np.concatenate(blocks, 1)
        prepared = [(features[train], features[test])]
    else:
        inner = split_by_person(values[train], kind, people[train], INNER_FOLDS, seed)
        model = _linear(kind, [(part.train, part.test) for part in inner])
        prepared = []
        for block, cells in zip(blocks, num_cells or [0] * len(blocks), strict=True):
            if cells:
                divided = block.reshape(len(block), cells, -1)
                parts = attend(divided, values, kind, num_classes, people, train, test, seed)
            else:
                parts = block[train], block[test]
            prepared.append(_prepared(*parts, pca, seed))
        prepared = _of_equal_weight(prepared)
    x_train, x_test = (np.concatenate(part, 1) for part in zip(*prepared, strict=True))
    if kind == "ordinal":
        return _expected_class(model, x_train, values[train], x_test, num_classes)
    if kind == "regression":
        return np.round(_fit(model, x_train, values[train]).predict(x_test), DIGITS)
    return _probabilities(_fit(model, x_train, values[train]), x_test, num_classes)


def _prepared(train: np.ndarray, test: np.ndarray, pca: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A block with undefined features filled by their mean, standardised and reduced, fitted on `train`."""
    from sklearn.decomposition import PCA
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    # Without bounds, one person with minutes of data decides what all others get.
    bounded = FunctionTransformer(np.clip, kw_args={"a_min": -MOST_DEVIATIONS, "a_max": MOST_DEVIATIONS})
    steps: list[Any] = [SimpleImputer(keep_empty_features=True), StandardScaler(), bounded]
    if pca and train.shape[1] > pca:
        # Components are scaled together, so that the first keep their greater weight.
        steps.append(PCA(min(pca, len(train) - 1), random_state=seed))
    pipeline = make_pipeline(*steps)
    # A block of features that are the same for everyone has no variance to explain.
    with np.errstate(invalid="ignore"):
        return pipeline.fit_transform(train), pipeline.transform(test)


def _of_equal_weight(blocks: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Blocks scaled to the total variance of the largest: otherwise the penalty, which must be strong for
    many components, would leave nothing of two covariates.
    """
    totals = [float(train.var(0).sum()) for train, _ in blocks]
    factors = [np.sqrt(max(totals) / total) if total else 1.0 for total in totals]
    return [(train * factor, test * factor) for (train, test), factor in zip(blocks, factors, strict=True)]


def _linear(kind: str, inner: list[tuple[np.ndarray, np.ndarray]]) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import GridSearchCV

    if kind == "regression":
        return GridSearchCV(Ridge(), {"alpha": RIDGE_STRENGTHS}, cv=inner, scoring="neg_mean_squared_error")
    logistic = LogisticRegression(class_weight="balanced", max_iter=3000, tol=1e-3)
    return GridSearchCV(logistic, {"C": LOGISTIC_STRENGTHS}, cv=inner, scoring=_likelihood)


def _boosting(kind: str, num_examples: int, seed: int) -> Any:
    """Gradient-boosted trees: of scikit-learn's two, the one that is quicker for so many examples."""
    from sklearn.ensemble import (
        GradientBoostingClassifier,
        GradientBoostingRegressor,
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
    )
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    if num_examples >= MANY_EXAMPLES:
        common: dict[str, Any] = {"max_iter": 100, "max_depth": 4, "max_features": 0.3, "random_state": seed}
        if kind == "regression":
            return HistGradientBoostingRegressor(**common)
        return HistGradientBoostingClassifier(**common, class_weight="balanced")
    common = BOOSTING | {"random_state": seed}
    trees = GradientBoostingRegressor if kind == "regression" else GradientBoostingClassifier
    return make_pipeline(SimpleImputer(keep_empty_features=True), trees(**common))


def _likelihood(model: Any, features: np.ndarray, values: np.ndarray) -> float:
    """Mean log-likelihood, classes weighing alike; a class that the model has not met counts as a
    thousandth.
    """
    said = model.predict_proba(features)
    column = np.searchsorted(model.classes_, values).clip(0, len(model.classes_) - 1)
    chance = np.where(model.classes_[column] == values, said[np.arange(len(values)), column], 0)
    losses = np.log(np.maximum(chance, 1e-3))
    return float(np.mean([losses[values == value].mean() for value in np.unique(values)]))


def _fit(model: Any, features: np.ndarray, values: np.ndarray) -> Any:
    from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
    from sklearn.utils.class_weight import compute_sample_weight

    weights = {}
    if "gradientboostingclassifier" in getattr(model, "named_steps", ()):
        # It has no setting for classes of equal weight.
        weights["gradientboostingclassifier__sample_weight"] = compute_sample_weight("balanced", values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Where one person alone has a class, a part of the inner folds lacks it: the weakest head is chosen.
        warnings.simplefilter("ignore", FitFailedWarning)
        warnings.filterwarnings("ignore", "One or more of the test scores are non-finite", UserWarning)
        return model.fit(features, values, **weights)


def _probabilities(model: Any, features: np.ndarray, num_classes: int) -> np.ndarray:
    found = np.zeros((len(features), num_classes))
    found[:, model.classes_.astype(int)] = np.round(model.predict_proba(features), DIGITS)
    return found


def _expected_class(
    model: Any, train: np.ndarray, values: np.ndarray, test: np.ndarray, num_classes: int
) -> np.ndarray:
    """The expected class: the sum over k of the chance to lie above class k, one logistic each."""
    from sklearn.base import clone

    expected = np.zeros(len(test))
    for number in range(num_classes - 1):
        above = (values > number).astype(float)
        if above.min() == above.max():
            expected += above[0]
        else:
            expected += _probabilities(_fit(clone(model), train, above), test, 2)[:, 1]
    return expected
