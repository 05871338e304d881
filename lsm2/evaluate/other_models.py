"""Models of other runs on the same hidden minutes, in the numbers of the evaluated model."""

from __future__ import annotations

import numpy as np

from lsm2.data.normalize import Normalization
from lsm2.errors import InputError
from lsm2.model.inference import predict_hidden
from lsm2.model.lsm2 import LSM2


def check_comparable(name: str, other: LSM2, model: LSM2) -> None:
    """Raise InputError where two models do not read the same signals, samples and tokens."""
    if other.normalization is None or model.normalization is None:
        raise InputError(f"the model of {name} has no signals.json; pre-train it with `lsm2 pretrain`")
    for what, theirs, ours in (
        ("signals", _described(other.normalization), _described(model.normalization)),
        ("samples a day", other.config.window_samples, model.config.window_samples),
        ("minutes a sample", other.config.sample_minutes, model.config.sample_minutes),
        ("minutes a token", other.config.patch_minutes, model.config.patch_minutes),
    ):
        if theirs != ours:
            raise InputError(
                f"--against {name}: its model reads other {what} ({theirs}) than the evaluated one ({ours}); "
                "compare runs of the same store and patch_minutes"
            )


def predict_as(
    normalization: Normalization, model: LSM2, in_unit: np.ndarray, hidden: np.ndarray, queries: np.ndarray
) -> np.ndarray:
    """`predict_hidden` of days (B, C, L) in physical units, its predictions normalised by `normalization`.

    A model of other training people has another mean and deviation, but the same transforms.
    """
    ours = model.normalization
    assert ours is not None
    predicted = predict_hidden(model, ours.apply(in_unit), hidden, queries)
    if np.array_equal(ours.mean, normalization.mean) and np.array_equal(ours.std, normalization.std):
        return predicted
    scale, shift = ours.std / normalization.std, (ours.mean - normalization.mean) / normalization.std
    return (predicted * scale[:, None] + shift[:, None]).astype(np.float32)


def _described(normalization: Normalization) -> str:
    return ", ".join(f"{signal.name} [{signal.unit}] {signal.transform}" for signal in normalization.signals)
