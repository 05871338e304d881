"""Scores of predictions under many weightings of the examples at once, as a bootstrap over people needs them.

truth (n,), predictions (n,) or (n, K), weights (draws, n) >= 0 -> (draws,); NaN where a score is undefined,
such as AUROC where only one class has weight. Each agrees with scikit-learn's metric of that name and
`sample_weight`; a test holds it.
"""

from __future__ import annotations

import numpy as np

METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("auroc", "auprc", "f1", "balanced_accuracy"),
    "multiclass": ("f1", "balanced_accuracy", "auroc", "auprc"),
    "ordinal": ("r", "mae", "balanced_accuracy"),
    "regression": ("r", "mae"),
}
"""Metrics of each kind of label, the one that is quoted first."""
LABELS: dict[str, str] = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "f1": "F1",
    "balanced_accuracy": "balanced accuracy",
    "mae": "mean absolute error",
    "r": "correlation r",
}
SMALLER_IS_BETTER = ("mae",)


def scores(
    kind: str, truth: np.ndarray, predictions: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """All metrics of a kind: predictions are numbers (n,) for regression and ordinal, the latter a class's
    expected number, never rounded; probabilities of the classes (n, K) else.
    """
    if kind == "regression":
        return {"r": correlation(truth, predictions, weights), "mae": mean_error(truth, predictions, weights)}
    if kind == "ordinal":
        nearest = np.rint(predictions)
        return {
            "r": correlation(truth, predictions, weights),
            "mae": mean_error(truth, predictions, weights),
            "balanced_accuracy": _balanced_accuracy(truth, nearest, int(truth.max()) + 1, weights),
        }
    classes = predictions.shape[1]
    chosen = predictions.argmax(1)
    f1 = _f1(truth, chosen, classes, weights)
    shared = {"balanced_accuracy": _balanced_accuracy(truth, chosen, classes, weights)}
    if kind == "binary":
        positive = truth == 1
        shared["auroc"] = auroc(positive, predictions[:, 1], weights)
        shared["auprc"] = auprc(positive, predictions[:, 1], weights)
        return shared | {"f1": f1[1]}
    one_by_one = [(truth == number, predictions[:, number]) for number in range(classes)]
    shared["auroc"] = mean_of_defined(np.stack([auroc(is_it, said, weights) for is_it, said in one_by_one]))
    shared["auprc"] = mean_of_defined(np.stack([auprc(is_it, said, weights) for is_it, said in one_by_one]))
    return shared | {"f1": mean_of_defined(f1)}


def correlation(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson's r; 0 where all predictions are equal, as they tell nothing, NaN where all labels are."""
    total = weights.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        x = truth - (weights @ truth / total)[:, None]
        y = predicted - (weights @ predicted / total)[:, None]
        variance_x, variance_y = (weights * x * x).sum(1), (weights * y * y).sum(1)
        r = (weights * x * y).sum(1) / np.sqrt(variance_x * variance_y)
    tiny = 1e-12 * max(1.0, float(np.abs(predicted).max(initial=0)) ** 2)
    return np.where(variance_x > 0, np.where(variance_y > tiny * total, r, 0.0), np.nan)


def mean_error(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean absolute error."""
    with np.errstate(invalid="ignore"):
        return weights @ np.abs(truth - predicted) / weights.sum(1)


def auroc(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve; equal scores count half."""
    order, ends = _by_score(score)
    hits, misses = _cumulated(positive, weights, order, ends)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (np.diff(misses, prepend=0) * (hits + _first_zero(hits)) / 2).sum(1)
        return area / (hits[:, -1] * misses[:, -1])


def auprc(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision."""
    order, ends = _by_score(score)
    hits, misses = _cumulated(positive, weights, order, ends)
    said = hits + misses
    precision = np.divide(hits, said, out=np.zeros_like(hits), where=said > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.diff(hits, prepend=0) * precision).sum(1) / hits[:, -1]


def _by_score(score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions by falling score, and the last of each run of equal scores."""
    order = np.argsort(-score, kind="stable")
    return order, np.flatnonzero(np.append(np.diff(score[order]) != 0, True))


def _cumulated(
    positive: np.ndarray, weights: np.ndarray, order: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and of negatives with at least each score, (draws, scores)."""
    sorted_weights = weights[:, order].astype(np.float64)
    is_positive = positive[order]
    hits = np.cumsum(sorted_weights * is_positive, 1)[:, ends]
    return hits, np.cumsum(sorted_weights * ~is_positive, 1)[:, ends]


def _first_zero(cumulated: np.ndarray) -> np.ndarray:
    """The sums before each score."""
    return np.concatenate([np.zeros((len(cumulated), 1)), cumulated[:, :-1]], 1)


def _recalls(truth: np.ndarray, chosen: np.ndarray, classes: int, weights: np.ndarray) -> np.ndarray:
    """(classes, draws) share of each class's weight that was found; NaN where a class has none."""
    rows = []
    with np.errstate(invalid="ignore"):
        for number in range(classes):
            is_it = truth == number
            rows.append(weights @ (is_it & (chosen == number)) / (weights @ is_it))
    return np.stack(rows)


def _balanced_accuracy(
    truth: np.ndarray, chosen: np.ndarray, classes: int, weights: np.ndarray
) -> np.ndarray:
    return mean_of_defined(_recalls(truth, chosen, classes, weights))


def _f1(truth: np.ndarray, chosen: np.ndarray, classes: int, weights: np.ndarray) -> np.ndarray:
    """(classes, draws); NaN where a class has no weight: it is not scored."""
    rows = []
    with np.errstate(invalid="ignore"):
        for number in range(classes):
            is_it, said = truth == number, chosen == number
            there = weights @ is_it
            both = weights @ (is_it & said)
            rows.append(np.where(there > 0, 2 * both / (there + weights @ said), np.nan))
    return np.stack(rows)


def mean_of_defined(rows: np.ndarray) -> np.ndarray:
    """Mean over those rows of (rows, draws) that are defined in each draw; NaN where none is."""
    defined = ~np.isnan(rows)
    with np.errstate(invalid="ignore"):
        return np.where(defined, rows, 0).sum(0) / defined.sum(0)
