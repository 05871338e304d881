"""Fills that are fitted once, on days of training people: a regression between signals, a kernel smoother.

A fitted fill never uses what it learned from the person whose day it fills.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np

from lsm2.data.fills.simple import TimeOfDay, TrainingDays, VisibleDay, half_hours

LEAST_EIGENVALUE = 1e-3
"""Eigenvalues of a covariance below this are raised to it, which keeps the regression stable."""
BANDWIDTH_MINUTES = (4.0, 12.0, 40.0, 120.0)
SHRINKAGES = (0.3, 1.0, 3.0, 10.0)
"""How many visible samples at no distance weigh as much as the population's time of day."""
DAYS_OF_SMOOTH = 128
"""Days on which the bandwidth and the shrinkage of each signal are chosen."""
SAMPLES_OF_OVERALL_MEAN = 20
"""How many samples in a half hour weigh as much as the signal's mean over all half hours."""


@dataclass(frozen=True)
class CoMoments:
    """Sums of products and counts, both (C, C) float64, over the minutes in which both signals of a pair
    were measured.
    """

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
        """The nearest positive definite matrix (C, C): pairwise estimates over different minutes need not
        form one.
        """
        pairwise = np.divide(
            self.products, self.counts, out=np.zeros_like(self.products), where=self.counts > 0
        )
        variances, directions = np.linalg.eigh(pairwise)
        return (directions * np.maximum(variances, LEAST_EIGENVALUE)) @ directions.T


@dataclass(frozen=True)
class SameMinute:
    """Linear regression of each signal on those visible in the same minute, fitted on other people."""

    of_person: dict[str, CoMoments]
    _covariances: dict[str | None, np.ndarray] = field(default_factory=dict)

    @classmethod
    def fit(cls, days: TrainingDays) -> SameMinute:
        """Learn how signals go together, person by person."""
        of_person: dict[str, CoMoments] = {}
        for _, person, values in days.read("learning same minute"):
            moments = CoMoments.from_day(values)
            of_person[person] = of_person[person] + moments if person in of_person else moments
        return cls(of_person)

    def __call__(self, day: VisibleDay) -> np.ndarray:
        """Fill a day from what is known of all other people."""
        person = day.person if day.person in self.of_person else None
        if person not in self._covariances:
            nothing = CoMoments.from_day(np.full((len(day.visible), 1), np.nan))
            others = (moments for name, moments in self.of_person.items() if name != person)
            self._covariances[person] = sum(others, nothing).covariance()
        return same_minute(day.visible, self._covariances[person])


def same_minute(visible: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """What the visible signals of a minute say about the others by linear regression; without any the mean.

    covariance (C, C): of the signals, over other people.
    """
    seen = ~np.isnan(visible).T
    # Packed bits sort like the booleans, many times faster.
    _, first, pattern_of = np.unique(
        np.packbits(seen, axis=1), axis=0, return_index=True, return_inverse=True
    )
    patterns = seen[first]
    among_visible = np.where(patterns[:, :, None] & patterns[:, None, :], covariance, np.eye(len(visible)))
    # (P, C, C): from the visible signals of a pattern to all.
    weights = np.linalg.solve(among_visible, np.where(patterns[:, :, None], covariance, 0))
    filled = np.einsum("lv,lva->al", np.where(seen, visible.T, 0), weights[pattern_of.reshape(-1)])
    return filled.astype(visible.dtype)


@dataclass(frozen=True)
class Smooth:
    """Gaussian-kernel mean of a signal's own visible minutes, shrunk to the population's time of day.

    Each signal has the bandwidth and the shrinkage, out of 16 pairs, that fill hidden minutes of training
    people best. Nothing is learned from the person whose day is filled.
    """

    population: TimeOfDay
    of_person: dict[str, TimeOfDay]
    errors: dict[str, np.ndarray]
    """Of each training person (bandwidths, shrinkages, C): squared error summed over hidden minutes."""
    _chosen: dict[str | None, np.ndarray] = field(default_factory=dict)

    @classmethod
    def fit(cls, days: TrainingDays) -> Smooth:
        """Learn the population's time of day, then the errors of every bandwidth and shrinkage under
        hiding.
        """
        of_person = times_of_day(days)
        first, *others = of_person.values()
        population = sum(others, first)
        fitted = cls(population, of_person, {})
        for number, person, values in days.read("learning smooth", DAYS_OF_SMOOTH):
            prior = fitted.prior(person, values.shape[1], days.sample_minutes)
            for hidden, target in days.hide(number, values):
                fitted._add_errors(person, values, np.where(hidden, np.nan, values), target, prior, days)
        return fitted

    def __call__(self, day: VisibleDay) -> np.ndarray:
        """Fill a day with the choice of all other people."""
        person = day.person if day.person in self.of_person else None
        if person not in self._chosen:
            self._chosen[person] = self.choice(person, len(day.visible))
        bandwidth, shrinkage = self._chosen[person]
        prior = self.prior(person, day.visible.shape[1], day.sample_minutes)
        return kernel_mean(day.visible, prior, bandwidth, shrinkage, day.sample_minutes)

    def choice(self, person: str | None, num_signals: int) -> np.ndarray:
        """(2, C): which bandwidth and which shrinkage of each signal fill everyone but this person best."""
        shape = (len(BANDWIDTH_MINUTES), len(SHRINKAGES), num_signals)
        others = (errors for name, errors in self.errors.items() if name != person)
        best = sum(others, np.zeros(shape)).reshape(-1, num_signals).argmin(axis=0)
        return np.stack(np.unravel_index(best, shape[:2]))

    def prior(self, person: str | None, length: int, sample_minutes: int) -> np.ndarray:
        """(C, L): the mean of everyone but this person at that time of day, shrunk to their mean over the
        day.
        """
        of_person = None if person is None else self.of_person.get(person)
        return usual_for_others(self.population, of_person, length, sample_minutes)

    def _add_errors(
        self,
        person: str,
        values: np.ndarray,
        visible: np.ndarray,
        target: np.ndarray,
        prior: np.ndarray,
        days: TrainingDays,
    ) -> None:
        """Add the squared errors of every bandwidth and shrinkage on the target minutes of one day."""
        length = values.shape[1]
        errors = np.zeros((len(BANDWIDTH_MINUTES), len(SHRINKAGES), len(values)))
        spectra = _visible_spectra(visible)
        for bandwidth, kernel in enumerate(kernel_spectra(length, days.sample_minutes, BANDWIDTH_MINUTES)):
            total, weight = _kernel_sums(spectra, kernel, length)
            for number, shrink in enumerate(SHRINKAGES):
                error = (total + shrink * prior) / (weight + shrink) - values
                errors[bandwidth, number] = np.square(np.where(target, error, 0.0)).sum(axis=1)
        # A kind of hiding counts the same on every day, however many minutes it hides.
        errors /= max(int(target.sum()), 1)
        self.errors[person] = self.errors[person] + errors if person in self.errors else errors


def times_of_day(days: TrainingDays) -> dict[str, TimeOfDay]:
    """Of each training person, over all of their days."""
    of_person: dict[str, TimeOfDay] = {}
    for _, person, values in days.read("learning time of day"):
        sums = TimeOfDay.from_day(values, days.sample_minutes)
        of_person[person] = of_person[person] + sums if person in of_person else sums
    return of_person


def usual_for_others(
    population: TimeOfDay, of_person: TimeOfDay | None, length: int, sample_minutes: int
) -> np.ndarray:
    """(C, L): what is usual at that time of day in the population, without a person who is part of it."""
    others = population if of_person is None else population - of_person
    return usual_half_hours(others)[:, half_hours(length, sample_minutes)]


def usual_half_hours(population: TimeOfDay) -> np.ndarray:
    """(C, half hours): the mean in each half hour, shrunk to the mean over the day where little is known."""
    total = population.total + SAMPLES_OF_OVERALL_MEAN * population.overall_mean()
    return total / (population.count + SAMPLES_OF_OVERALL_MEAN)


def kernel_mean(
    visible: np.ndarray, prior: np.ndarray, bandwidth: np.ndarray, shrinkage: np.ndarray, sample_minutes: int
) -> np.ndarray:
    """The mean of a signal's visible samples around each sample, shrunk to the prior, (C, L) each.

    bandwidth, shrinkage (C,): numbers of each signal's choice in BANDWIDTH_MINUTES and SHRINKAGES.
    """
    length = visible.shape[1]
    spectrum = kernel_spectra(length, sample_minutes, BANDWIDTH_MINUTES)[bandwidth]
    total, weight = _kernel_sums(_visible_spectra(visible), spectrum, length)
    shrink = np.array(SHRINKAGES)[shrinkage, None]
    return ((total + shrink * prior) / (weight + shrink)).astype(visible.dtype)


@functools.cache
def kernel_spectra(length: int, sample_minutes: int, bandwidths: tuple[float, ...]) -> np.ndarray:
    """(bandwidths, F): spectra of the Gaussian kernels, of height 1, on a circle of two windows."""
    position = np.arange(2 * length)
    minutes = np.minimum(position, 2 * length - position) * sample_minutes
    kernels = np.exp(-0.5 * (minutes / np.array(bandwidths)[:, None]) ** 2)
    return np.fft.rfft(kernels).real


def _visible_spectra(visible: np.ndarray) -> np.ndarray:
    """(2, C, F): spectra of the visible values, 0 elsewhere, and of where they are."""
    seen = ~np.isnan(visible)
    return np.fft.rfft(np.stack([np.where(seen, visible, 0), seen]).astype(np.float64), 2 * visible.shape[1])


def _kernel_sums(spectra: np.ndarray, kernel: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sum of the visible values around each minute, and the sum of the weights, (C, L) each."""
    total, weight = np.fft.irfft(spectra * kernel, 2 * length)[..., :length]
    return total, np.maximum(weight, 0)
