"""Sums of reconstruction errors, per signal and per person, and the results made of them."""

from __future__ import annotations

import numpy as np

from lsm2.data.signals import Signal
from lsm2.evaluate.results import Comparison, Interval, MethodResult, SignalResult

FEWEST_PEOPLE_FOR_INTERVAL = 5
BOOTSTRAP_DRAWS = 1000


class ErrorSums:
    """Running sums of squared and absolute errors of one method on one task."""

    def __init__(self, num_signals: int, num_people: int) -> None:
        self.squared, self.absolute = np.zeros(num_signals), np.zeros(num_signals)
        self.squared_in_unit, self.absolute_in_unit = np.zeros(num_signals), np.zeros(num_signals)
        self.minutes = np.zeros(num_signals, dtype=np.int64)
        self.person_squared, self.person_minutes = np.zeros(num_people), np.zeros(num_people)

    def add(self, person: int, signal: np.ndarray, error: np.ndarray, error_in_unit: np.ndarray) -> None:
        """Add cells (n,) of one day: which signal each belongs to, its error on normalised values and in
        the signal's unit.
        """
        error, error_in_unit = error.astype(np.float64), error_in_unit.astype(np.float64)
        length = len(self.minutes)
        self.squared += np.bincount(signal, error**2, length)
        self.absolute += np.bincount(signal, np.abs(error), length)
        self.squared_in_unit += np.bincount(signal, error_in_unit**2, length)
        self.absolute_in_unit += np.bincount(signal, np.abs(error_in_unit), length)
        self.minutes += np.bincount(signal, minlength=length)
        self.person_squared[person] += float((error**2).sum())
        self.person_minutes[person] += len(error)

    def summary(self, signals: tuple[Signal, ...]) -> MethodResult:
        """Errors over all target minutes, the mse's interval over people, and the errors of each signal."""
        num_minutes = int(self.minutes.sum())
        per_signal = {}
        for index in np.flatnonzero(self.minutes):
            count = int(self.minutes[index])
            per_signal[signals[index].name] = SignalResult(
                mse=float(self.squared[index] / count),
                mae=float(self.absolute[index] / count),
                rmse_in_unit=float(np.sqrt(self.squared_in_unit[index] / count)),
                mae_in_unit=float(self.absolute_in_unit[index] / count),
                unit=signals[index].unit,
                num_minutes=count,
            )
        return MethodResult(
            mse=float(self.squared.sum() / num_minutes),
            mae=float(self.absolute.sum() / num_minutes),
            num_minutes=num_minutes,
            mse_interval=interval(self.person_squared, self.person_minutes),
            per_signal=per_signal,
        )


def compare(aim: ErrorSums, other: ErrorSums) -> Comparison:
    """The model's mse over another method's, over the same minutes."""
    squared = float(other.squared.sum())
    return Comparison(
        mse_ratio=float(aim.squared.sum()) / squared if squared else None,
        interval=interval(aim.person_squared, other.person_squared),
    )


def interval(numerator: np.ndarray, denominator: np.ndarray) -> Interval | None:
    """95 % interval of sum(numerator) / sum(denominator), both (people,), by drawing people with
    replacement; None for under five.
    """
    present = denominator > 0
    numerator, denominator = numerator[present], denominator[present]
    people = len(numerator)
    if people < FEWEST_PEOPLE_FOR_INTERVAL:
        return None
    times_drawn = np.random.default_rng(0).multinomial(
        people, np.full(people, 1 / people), size=BOOTSTRAP_DRAWS
    )
    ratios = (times_drawn @ numerator) / (times_drawn @ denominator)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(low), float(high)
