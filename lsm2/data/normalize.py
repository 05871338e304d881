"""Physical units to numbers of about unit size and back: a transform per signal, a z-score, a clip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from lsm2.data.signals import Signal
from lsm2.errors import InputError

CLIP = 5.0
"""Normalised values are clipped to -CLIP..CLIP, as in the successor of LSM-2 (arXiv 2605.22759); LSM-2's own rule is not known."""


class DaySource(Protocol):
    """What a normalisation is fitted on: a `DayStore`, or anything with its signals and values."""

    @property
    def signals(self) -> tuple[Signal, ...]: ...
    def __len__(self) -> int: ...
    def values(self, index: int) -> np.ndarray: ...


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
                    f"normalisation: {name} must hold one finite number for each of {len(self.signals)} signals"
                )
            object.__setattr__(self, name, array)
        if not (self.std > 0).all():
            raise InputError("normalisation: std must be above 0 for every signal")

    @classmethod
    def fit(cls, store: DaySource, indices: Iterable[int] | None = None) -> Normalization:
        """Mean and standard deviation over the observed samples of these days (None: all) of a store, one day in memory at a time."""
        moments = RunningMoments(store.signals)
        for index in range(len(store)) if indices is None else indices:
            moments.add(store.values(int(index)))
        return moments.normalization()

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Physical `values` (..., C, L), NaN = missing, to normalised float32, clipped to -5..5; NaN stays NaN.

        Raises InputError naming the signal for an infinite value, or one that log1p cannot take.
        """
        values = np.asarray(values)
        self._check_signal_axis(values)
        normalised = _transformed(values, self.signals)
        normalised -= self.mean.astype(np.float32)[:, None]
        normalised /= self.std.astype(np.float32)[:, None]
        return np.clip(normalised, -CLIP, CLIP, out=normalised)

    def invert(self, normalised: np.ndarray) -> np.ndarray:
        """Normalised values (..., C, L) to physical float32; the inverse of `apply` but for clipped values."""
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
                f"values has shape {values.shape}; this normalisation expects (..., {len(self.signals)} signals, samples)"
            )


class RunningMoments:
    """Mean and variance of each signal after its transform, gathered day by day."""

    def __init__(self, signals: Sequence[Signal]) -> None:
        self.signals = tuple(signals)
        self._count = np.zeros(len(self.signals))
        self._mean = np.zeros(len(self.signals))
        self._squares = np.zeros(len(self.signals))

    def add(self, values: np.ndarray) -> None:
        """Take in one day (C, L) of physical values, NaN = missing; raises InputError as `Normalization.apply` does."""
        transformed = _transformed(np.asarray(values), self.signals).astype(np.float64)
        observed = ~np.isnan(transformed)
        count = observed.sum(1)
        some = np.maximum(count, 1)
        mean = np.where(observed, transformed, 0.0).sum(1) / some
        squares = (np.where(observed, transformed - mean[:, None], 0.0) ** 2).sum(1)
        # Means and sums of squares of two parts merge stably (Chan et al. 1979); a plain sum of squares cancels for signals far from 0.
        total = np.maximum(self._count + count, 1)
        shift = mean - self._mean
        self._mean += shift * count / total
        self._squares += squares + shift**2 * self._count * count / total
        self._count += count

    def normalization(self) -> Normalization:
        """The normalisation by what was added so far."""
        std = np.sqrt(self._squares / np.maximum(self._count, 1))
        # Rounding of the mean leaves a constant signal with some 1e-16 of its size as spread, which is nothing to divide by.
        constant = std <= 1e-12 * np.maximum(np.abs(self._mean), 1e-12)
        return Normalization(self.signals, self._mean.copy(), np.where(constant, 1.0, std))


def _transformed(values: np.ndarray, signals: Sequence[Signal]) -> np.ndarray:
    """A float32 copy of `values` (..., C, L) with each signal's transform applied."""
    transformed = values.astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for index, signal in enumerate(signals):
            if signal.transform == "log1p":
                transformed[..., index, :] = np.log1p(transformed[..., index, :])
    unusable = ~np.isfinite(transformed) & ~np.isnan(values)
    if unusable.any():
        index = int(np.argwhere(unusable)[0][-2])
        value = values[..., index, :][unusable[..., index, :]][0]
        remedy = (
            "use NaN where it is missing"
            if np.isinf(value)
            else "log1p needs values above -1: correct it, or use the transform 'identity'"
        )
        raise InputError(f"signal {signals[index].name!r} has the value {value}: {remedy}")
    return transformed
