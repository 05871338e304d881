"""Simple fills that a model has to beat. Each sees every observed minute outside the hidden tokens, also in tokens the model may not use.

All work on normalised values, where 0 is the training mean; `visible` is (C, L) float32 with NaN where a minute is missing or hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SLOT_MINUTES = 30
LEAST_VARIANCE = 1e-3
"""Of normalised values, in any direction: what of the regression is less would be noise divided by noise."""
BASELINES = ("mean", "nearest", "linear", "last", "person_time_of_day", "same_minute")


def mean(visible: np.ndarray) -> np.ndarray:
    """The training mean of each signal, which is 0 after normalisation."""
    return np.zeros_like(visible)


def nearest(visible: np.ndarray) -> np.ndarray:
    """The visible minute of that signal nearest in time, the earlier of two at equal distance; the mean where the day has none."""
    before, after = _neighbours(visible)
    position = np.arange(visible.shape[1])
    take_before = (after == visible.shape[1]) | ((before >= 0) & (position - before <= after - position))
    return _take(visible, np.where(take_before, before, after))


def linear(visible: np.ndarray) -> np.ndarray:
    """A straight line between the visible minutes before and after, the nearest one beyond the ends; the mean where the day has none."""
    before, after = _neighbours(visible)
    length = visible.shape[1]
    left = np.where(before >= 0, before, after)
    right = np.where(after < length, after, before)
    share = np.where(right > left, (np.arange(length) - left) / np.maximum(right - left, 1), 0.0).astype(
        visible.dtype
    )
    return _take(visible, left) * (1 - share) + _take(visible, right) * share


def last(visible: np.ndarray) -> np.ndarray:
    """The last visible minute of that signal so far; the mean before the first one."""
    return _take(visible, _neighbours(visible)[0])


@dataclass(frozen=True)
class Habit:
    """Sums and counts, both (C, slots) float64, of one person's minutes per half hour of the day."""

    total: np.ndarray
    count: np.ndarray

    @classmethod
    def from_day(cls, values: np.ndarray, sample_minutes: int) -> Habit:
        """The sums of one day: values (C, L) normalised, NaN = missing, one sample every sample_minutes."""
        slot = time_slots(values.shape[1], sample_minutes)
        starts = np.flatnonzero(np.diff(slot, prepend=-1))
        seen = ~np.isnan(values)
        total = np.add.reduceat(np.where(seen, values, 0).astype(np.float64), starts, axis=1)
        return cls(total, np.add.reduceat(seen.astype(np.float64), starts, axis=1))

    def __add__(self, other: Habit) -> Habit:
        return Habit(self.total + other.total, self.count + other.count)


def time_slots(length: int, sample_minutes: int) -> np.ndarray:
    """The half hour of the window (L,) that each sample lies in; each sample is its own slot where samples are longer than that."""
    return np.arange(length) * sample_minutes // max(SLOT_MINUTES, sample_minutes)


def person_time_of_day(visible: np.ndarray, other_days: Habit | None, sample_minutes: int) -> np.ndarray:
    """The person's own mean in that half hour, over their other days and this day's visible minutes; else the person's mean; else the mean.

    The other days are seen whole, which is information that a method looking at one day does not have.
    """
    habit = Habit.from_day(visible, sample_minutes)
    if other_days is not None:
        habit = habit + other_days
    person_count = habit.count.sum(axis=1, keepdims=True)
    person_mean = np.divide(
        habit.total.sum(axis=1, keepdims=True),
        person_count,
        out=np.zeros_like(person_count),
        where=person_count > 0,
    )
    by_slot = np.divide(
        habit.total,
        habit.count,
        out=np.broadcast_to(person_mean, habit.total.shape).copy(),
        where=habit.count > 0,
    )
    return by_slot[:, time_slots(visible.shape[1], sample_minutes)].astype(visible.dtype)


@dataclass(frozen=True)
class CoMoments:
    """Sums of products and counts, both (C, C) float64, over the minutes in which both signals of a pair were measured."""

    products: np.ndarray
    counts: np.ndarray

    @classmethod
    def from_day(cls, values: np.ndarray) -> CoMoments:
        """The sums of one day: values (C, L) normalised, NaN = missing."""
        seen = ~np.isnan(values)
        filled, both = np.where(seen, values, 0).astype(np.float64), seen.astype(np.float64)
        return cls(filled @ filled.T, both @ both.T)

    def __add__(self, other: CoMoments) -> CoMoments:
        return CoMoments(self.products + other.products, self.counts + other.counts)

    def covariance(self) -> np.ndarray:
        """The nearest matrix (C, C) that is one: estimates of pairs, each over its own minutes, need not fit together."""
        pairwise = np.divide(
            self.products, self.counts, out=np.zeros_like(self.products), where=self.counts > 0
        )
        variances, directions = np.linalg.eigh(pairwise)
        return (directions * np.maximum(variances, LEAST_VARIANCE)) @ directions.T


def same_minute(visible: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """What the signals visible in a minute say about the others by linear regression; the mean where none is visible.

    covariance (C, C): of the signals, over other people.
    """
    seen = ~np.isnan(visible).T
    patterns, pattern_of = np.unique(seen, axis=0, return_inverse=True)
    among_visible = np.where(patterns[:, :, None] & patterns[:, None, :], covariance, np.eye(len(visible)))
    weights = np.linalg.solve(
        among_visible, np.where(patterns[:, :, None], covariance, 0)
    )  # from visible signals (P, C, C) to all
    filled = np.einsum("lv,lva->al", np.where(seen, visible.T, 0), weights[pattern_of.reshape(-1)])
    return filled.astype(visible.dtype)


def _neighbours(visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each minute the nearest visible one at or before (-1: none) and at or after (L: none), both (C, L)."""
    length = visible.shape[1]
    position, seen = np.arange(length), ~np.isnan(visible)
    before = np.maximum.accumulate(np.where(seen, position, -1), axis=1)
    after = np.minimum.accumulate(np.where(seen, position, length)[:, ::-1], axis=1)[:, ::-1]
    return before, after


def _take(visible: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Values at index (C, L); 0, the training mean, where the index lies outside the day."""
    inside = (index >= 0) & (index < visible.shape[1])
    return np.where(inside, np.take_along_axis(visible, np.where(inside, index, 0), axis=1), 0).astype(
        visible.dtype
    )
