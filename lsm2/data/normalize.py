"""Physical units to numbers of about unit size and back: a transform per signal, a z-score, a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lsm2.data.signals import Signal
from lsm2.errors import InputError

CLIP = 5.0
"""Normalised values are clipped to -CLIP..CLIP, as in the successor of LSM-2 (arXiv 2605.22759).

LSM-2's own rule is not known.
"""


@dataclass(frozen=True, eq=False)
class Normalization:
    """Mean and standard deviation of each signal after its transform."""

    signals: tuple[Signal, ...]
    mean: np.ndarray
    """(C,) float64; 0 for a signal that was never observed."""
    std: np.ndarray
    """(C,) float64, above 0; 1 for a signal that was never observed or never changed."""

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            array = np.asarray(getattr(self, name), dtype=np.float64)
            if array.shape != (len(self.signals),) or not np.isfinite(array).all():
                raise InputError(
                    f"normalisation: {name} must hold one finite number for each of {len(self.signals)} "
                    "signals"
                )
            object.__setattr__(self, name, array)
        if not (self.std > 0).all():
            raise InputError("normalisation: std must be above 0 for every signal")

    @classmethod
    def from_moments(cls, signals: Sequence[Signal], moments: np.ndarray) -> Normalization:
        """The normalisation by the moments (3, C) of what it is fitted on, such as
        `DayStore.moments_of(people)`.
        """
        count, mean, squares = moments
        std = np.sqrt(squares / np.maximum(count, 1))
        # Rounding of the mean leaves a constant signal a spread of about 1e-16 of its size: too little to
        # divide by.
        constant = std <= 1e-12 * np.maximum(np.abs(mean), 1e-12)
        return cls(tuple(signals), mean.copy(), np.where(constant, 1.0, std))

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Physical `values` (..., C, L) to normalised float32, clipped to -5..5; NaN, missing, stays NaN.

        Raises InputError naming the signal for an infinite value, or one that log1p cannot take.
        """
        values = np.asarray(values)
        self._check_signal_axis(values)
        normalised = transformed(values, self.signals)
        normalised -= self.mean.astype(np.float32)[:, None]
        normalised /= self.std.astype(np.float32)[:, None]
        return np.clip(normalised, -CLIP, CLIP, out=normalised)

    def invert(self, normalised: np.ndarray) -> np.ndarray:
        """Normalised values (..., C, L) to physical float32: the inverse of `apply` but for clipped ones."""
        normalised = np.asarray(normalised)
        self._check_signal_axis(normalised)
        values = (
            normalised.astype(np.float32) * self.std.astype(np.float32)[:, None]
            + self.mean.astype(np.float32)[:, None]
        )
        for index, signal in enumerate(self.signals):
            if signal.transform == "log1p":
                values[..., index, :] = np.expm1(values[..., index, :])
        return values

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        return {
            "signals": [signal.to_dict() for signal in self.signals],
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Normalization:
        """The inverse of `to_dict`."""
        return cls(
            tuple(Signal.from_dict(signal) for signal in values["signals"]),
            np.array(values["mean"]),
            np.array(values["std"]),
        )

    def _check_signal_axis(self, values: np.ndarray) -> None:
        if values.ndim < 2 or values.shape[-2] != len(self.signals):
            raise InputError(
                f"values has shape {values.shape}; this normalisation expects "
                f"(..., {len(self.signals)} signals, samples)"
            )


def day_moments(values: np.ndarray, signals: Sequence[Signal]) -> np.ndarray:
    """Moments (3, C) float64 of one day `values` (C, L) of physical values, NaN = missing, after each
    signal's transform.

    The three are the count of observed samples, their mean, and their sum of squared deviations from it; both
    are 0 where nothing was observed. Raises InputError as `Normalization.apply` does.
    """
    changed = transformed(np.asarray(values), signals).astype(np.float64)
    observed = ~np.isnan(changed)
    count = observed.sum(1)
    mean = np.where(observed, changed, 0.0).sum(1) / np.maximum(count, 1)
    deviation = np.where(observed, changed - mean[:, None], 0.0)
    return np.stack([count, mean, np.einsum("cs,cs->c", deviation, deviation)])


def merge_moments(parts: np.ndarray) -> np.ndarray:
    """Moments (3, C) of several parts (K, 3, C) together."""
    count, mean, squares = parts.swapaxes(0, 1)
    total = count.sum(0)
    merged_mean = (count * mean).sum(0) / np.maximum(total, 1)
    # Each part's deviation is taken from its own mean: plain sums of squares cancel for signals far from 0.
    merged_squares = (squares + count * (mean - merged_mean) ** 2).sum(0)
    return np.stack([total, merged_mean, merged_squares])


def transformed(values: np.ndarray, signals: Sequence[Signal]) -> np.ndarray:
    """A float32 copy of `values` (..., C, L), NaN = missing, with each signal's transform applied.

    Raises InputError naming the signal for an infinite value, or one that log1p cannot take.
    """
    changed = values.astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for index, signal in enumerate(signals):
            if signal.transform == "log1p":
                changed[..., index, :] = np.log1p(changed[..., index, :])
    unusable = ~np.isfinite(changed) & ~np.isnan(values)
    if unusable.any():
        index = int(np.argwhere(unusable)[0][-2])
        value = values[..., index, :][unusable[..., index, :]][0]
        remedy = (
            "use NaN where it is missing"
            if np.isinf(value)
            else "log1p needs values above -1: correct it, or use the transform 'identity'"
        )
        raise InputError(f"signal {signals[index].name!r} has the value {value}: {remedy}")
    return changed
