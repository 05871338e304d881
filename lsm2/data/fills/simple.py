"""Simple fills that a model has to beat, and what the fitted ones of `fitted` share with them.

Each sees every observed minute outside the hidden tokens, also in tokens that the model may not use. All
work on normalised values, where 0 is the training mean; `visible` is (C, L) float32, NaN where a minute is
missing or hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

HALF_HOUR_MINUTES = 30


@dataclass(frozen=True)
class VisibleDay:
    """What a fill may look at: the visible minutes of a day, and what is known about its person."""

    visible: np.ndarray
    """(C, L) float32, normalised, NaN where a minute is missing or hidden."""
    person: str
    sample_minutes: int
    other_days: TimeOfDay | None = None
    """The person's other days, whole; only fills that are marked for it may look."""


@dataclass(frozen=True)
class TrainingDays:
    """Days of training people that fitted fills learn from; a day is read when a fill looks at it."""

    people: Sequence[str]
    """Whose each day is."""
    values: Callable[[int], np.ndarray]
    """Day number -> (C, L) float32, normalised, NaN = missing."""
    hide: Callable[[int, np.ndarray], Iterable[tuple[np.ndarray, np.ndarray]]]
    """Day number and values -> hidden and target minutes, (C, L) bool each, as the tasks hide them."""
    sample_minutes: int
    watch: Callable[[Sequence[int], str], Iterable[int]] = field(default=lambda days, description: days)
    """Day numbers as they are, shown in a progress bar of that description."""
    hide_widely: Callable[[int, np.ndarray], Iterable[tuple[np.ndarray, np.ndarray]]] | None = None
    """As `hide`, in more ways: for fills that learn more than a few settings; None: no more ways."""

    def hide_in_every_way(self, number: int, values: np.ndarray) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        """By `hide_widely` where it is given, else by `hide`."""
        return (self.hide_widely or self.hide)(number, values)

    def read(self, description: str, at_most: int | None = None) -> Iterator[tuple[int, str, np.ndarray]]:
        """Number, person and values of each day, or of `at_most` days spread evenly over all."""
        step = 1 if at_most is None else max(1, math.ceil(len(self.people) / at_most))
        for day in self.watch(range(0, len(self.people), step), description):
            yield day, self.people[day], self.values(day)


Fill = Callable[[VisibleDay], np.ndarray]
"""A day -> (C, L) float32 without NaN; the caller looks at hidden minutes alone."""


def mean(visible: np.ndarray) -> np.ndarray:
    """The training mean of each signal, which is 0 after normalisation."""
    return np.zeros_like(visible)


def nearest(visible: np.ndarray) -> np.ndarray:
    """The signal's visible minute nearest in time, the earlier of two at equal distance; without one the
    mean.
    """
    before, after = neighbours(visible)
    position = np.arange(visible.shape[1])
    take_before = (after == visible.shape[1]) | ((before >= 0) & (position - before <= after - position))
    return _take(visible, np.where(take_before, before, after))


def linear(visible: np.ndarray) -> np.ndarray:
    """A straight line between the visible minutes before and after; beyond the first and last one, that
    one.
    """
    before, after = neighbours(visible)
    length = visible.shape[1]
    left = np.where(before >= 0, before, after)
    right = np.where(after < length, after, before)
    share = np.where(right > left, (np.arange(length) - left) / np.maximum(right - left, 1), 0.0)
    share = share.astype(visible.dtype)
    return _take(visible, left) * (1 - share) + _take(visible, right) * share


def last(visible: np.ndarray) -> np.ndarray:
    """The last visible minute of that signal so far; the mean before the first one."""
    return _take(visible, neighbours(visible)[0])


@dataclass(frozen=True)
class TimeOfDay:
    """Sums and counts, both (C, half hours) float64, of the minutes in each half hour of the day."""

    total: np.ndarray
    count: np.ndarray

    @classmethod
    def from_day(cls, values: np.ndarray, sample_minutes: int) -> TimeOfDay:
        """The sums of one day: values (C, L) normalised, NaN = missing, one sample every sample_minutes."""
        starts = np.flatnonzero(np.diff(half_hours(values.shape[1], sample_minutes), prepend=-1))
        seen = ~np.isnan(values)
        total = np.add.reduceat(np.where(seen, values, 0).astype(np.float64), starts, axis=1)
        return cls(total, np.add.reduceat(seen.astype(np.float64), starts, axis=1))

    def __add__(self, other: TimeOfDay) -> TimeOfDay:
        return TimeOfDay(self.total + other.total, self.count + other.count)

    def __sub__(self, other: TimeOfDay) -> TimeOfDay:
        return TimeOfDay(self.total - other.total, self.count - other.count)

    def overall_mean(self) -> np.ndarray:
        """(C, 1): the mean over all half hours; 0 where nothing was measured."""
        count = self.count.sum(axis=1, keepdims=True)
        return np.divide(
            self.total.sum(axis=1, keepdims=True), count, out=np.zeros_like(count), where=count > 0
        )


def half_hours(length: int, sample_minutes: int) -> np.ndarray:
    """The half hour of the day (L,) that each sample lies in; a sample longer than that has one to itself."""
    return np.arange(length) * sample_minutes // max(HALF_HOUR_MINUTES, sample_minutes)


def person_time_of_day(visible: np.ndarray, other_days: TimeOfDay | None, sample_minutes: int) -> np.ndarray:
    """The person's own mean in that half hour, over their other days and this day's visible minutes.

    Without one it is the person's mean, else the training mean. The other days are seen whole, which is
    information that a method looking at one day does not have.
    """
    person = TimeOfDay.from_day(visible, sample_minutes)
    if other_days is not None:
        person = person + other_days
    overall = np.broadcast_to(person.overall_mean(), person.total.shape)
    by_half_hour = np.divide(person.total, person.count, out=overall.copy(), where=person.count > 0)
    return by_half_hour[:, half_hours(visible.shape[1], sample_minutes)].astype(visible.dtype)


def neighbours(visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest visible minute at or before each minute (-1: none) and at or after it (L: none), both (C,
    L).
    """
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
