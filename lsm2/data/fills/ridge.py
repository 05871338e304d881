"""The strongest fill that is no network: linear regression of a signal on all signals around each minute."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np

from lsm2.data.fills.fitted import kernel_spectra, times_of_day, usual_for_others
from lsm2.data.fills.simple import TimeOfDay, TrainingDays, VisibleDay, neighbours

BANDWIDTH_MINUTES = (2.0, 6.0, 20.0, 80.0)
KINDS_OF_FEATURES = 2 + len(BANDWIDTH_MINUTES)
"""Of each signal: its value in the minute, its kernel means, its mean over the day."""
KINDS_OF_OTHER_SIGNALS = (0, 1, 2, 4)
"""What a regression sees of other signals: the value in the minute, the means over 2, 6 and 80 minutes."""
SAMPLES_OF_WIDER_MEAN = 1.0
"""How many visible samples at no distance weigh as much as the kernel mean of the next wider bandwidth."""
SAMPLES_OF_TIME_OF_DAY = 60.0
"""How many visible samples weigh as much as the population's time of day, in the mean over the day."""
NEAR_MINUTES = (10, 30, 90)
"""Distances to the signal's nearest visible minute beyond which another regression is used."""
NUM_NEARNESSES = len(NEAR_MINUTES) + 2
NUM_SITUATIONS = 2 * NUM_NEARNESSES
SAMPLES_OF_ALL_SITUATIONS = 1000.0
"""How many targets of a situation weigh as much as those of all situations together."""
STRENGTHS = (1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
"""Of the ridge, a target."""
LEAST_RIDGE = 1e-6
"""Keeps a regression without targets solvable."""
FOLDS = 4
"""Of people."""
DAYS_OF_RIDGE = 256
"""Days on which the regressions are fitted."""
MINUTES_BETWEEN_TARGETS = 5
"""Neighbouring minutes say nearly the same, so only some of the hidden ones are learned from."""


@dataclass(frozen=True)
class Ridge:
    """Ridge regression of each signal on kernel means of all visible signals, fitted on other people.

    Values are deviations from the population's time of day. Each signal has one regression for each
    situation of a minute: how far the signal's nearest visible minute is, and whether any signal is visible
    in the minute itself. The strength of a situation, out of 6, is the one that fills left-out folds of
    people best. A person of the training is filled by the regressions of all folds but their own.
    """

    of_person: dict[str, TimeOfDay]
    fold_of: dict[str, int]
    moments: np.ndarray
    """(folds, situations, C, F + 1, F + 1) float32: sums of products of F features and, last, the target."""
    _weights: dict[int | None, np.ndarray] = field(default_factory=dict)

    @functools.cached_property
    def population(self) -> TimeOfDay:
        """Of all people."""
        first, *others = self.of_person.values()
        return sum(others, first)

    @classmethod
    def fit(cls, days: TrainingDays) -> Ridge:
        """Learn the population's time of day, then the products of features and hidden minutes."""
        of_person = times_of_day(days)
        num_folds = min(FOLDS, len(of_person))
        fold_of = {person: number % num_folds for number, person in enumerate(sorted(of_person))}
        num_signals = len(next(iter(of_person.values())).total)
        size = len(features_of(0, num_signals)) + 1
        shape = (num_folds, NUM_SITUATIONS, num_signals, size, size)
        fitted = cls(of_person, fold_of, np.zeros(shape, np.float32))
        for number, person, values in days.read("learning ridge", DAYS_OF_RIDGE):
            prior = fitted.prior(person, values.shape[1], days.sample_minutes)
            for hidden, target in days.hide_in_every_way(number, values):
                visible = np.where(hidden, np.float32(np.nan), values) - prior
                with _one_thread():
                    moments = fitted.moments[fold_of[person]]
                    _add_products(moments, visible, values - prior, target, days.sample_minutes)
        return fitted

    def __call__(self, day: VisibleDay) -> np.ndarray:
        """Fill a day with the regressions of other people."""
        with _one_thread():
            fold = self.fold_of.get(day.person)
            if fold not in self._weights:
                self._weights[fold] = self.weights(fold)
            prior = self.prior(day.person, day.visible.shape[1], day.sample_minutes)
            features = features_around(day.visible - prior, day.sample_minutes)
            situation = situations(day.visible, day.sample_minutes)
            filled = prior.copy()
            for number in np.unique(situation):
                filled += np.where(situation == number, self._weights[fold][number] @ features, 0)
        return filled.astype(day.visible.dtype)

    def prior(self, person: str, length: int, sample_minutes: int) -> np.ndarray:
        """(C, L) float32: what is usual at that time of day among everyone but this person."""
        usual = usual_for_others(self.population, self.of_person.get(person), length, sample_minutes)
        return usual.astype(np.float32)

    def weights(self, fold: int | None) -> np.ndarray:
        """(situations, C, all features) float32: the regressions of everyone outside the fold."""
        known = np.delete(self.moments, [] if fold is None else [fold], axis=0)
        everything = known.sum(axis=1, dtype=np.float64)
        num_signals = known.shape[2]
        weights = np.zeros((NUM_SITUATIONS, num_signals, num_features(num_signals)), dtype=np.float32)
        for situation in range(NUM_SITUATIONS):
            fitted = _fit_situation(known[:, situation].astype(np.float64), everything)
            for signal in range(num_signals):
                weights[situation, signal, features_of(signal, num_signals)] = fitted[signal]
        return weights


def num_features(num_signals: int) -> int:
    """How many `features_around` gives."""
    return KINDS_OF_FEATURES * num_signals + 1


@functools.cache
def features_of(signal: int, num_signals: int) -> np.ndarray:
    """The numbers of the features that a signal's regression sees; the last one is the constant."""
    others = [kind * num_signals + np.arange(num_signals) for kind in KINDS_OF_OTHER_SIGNALS]
    own = np.arange(KINDS_OF_FEATURES) * num_signals + signal
    return np.append(np.union1d(np.concatenate(others), own), num_features(num_signals) - 1)


def features_around(visible: np.ndarray, sample_minutes: int) -> np.ndarray:
    """(features, L) float32 of deviations from the time of day (C, L), NaN where nothing is visible.

    In this order, each of every signal: its deviation in the minute, 0 without one; its kernel means,
    narrowest first, each shrunk to the next wider one; its mean over the day, shrunk to 0. Then a 1.
    """
    num_signals, length = visible.shape
    seen = ~np.isnan(visible)
    values = np.where(seen, visible, 0).astype(np.float32)
    kinds = np.empty((KINDS_OF_FEATURES, num_signals, length), dtype=np.float32)
    kinds[0] = values
    count = seen.sum(axis=1, keepdims=True)
    kinds[-1] = values.sum(axis=1, keepdims=True) / (count + SAMPLES_OF_TIME_OF_DAY)
    spectra = np.fft.rfft(np.stack([values, seen.astype(np.float32)]), 2 * length)
    kernels = kernel_spectra(length, sample_minutes, BANDWIDTH_MINUTES).astype(np.float32)
    for kind in range(len(kernels), 0, -1):
        total, weight = np.fft.irfft(spectra * kernels[kind - 1], 2 * length)[..., :length]
        shrunk = total + SAMPLES_OF_WIDER_MEAN * kinds[kind + 1]
        kinds[kind] = shrunk / (np.maximum(weight, 0) + SAMPLES_OF_WIDER_MEAN)
    return np.concatenate([kinds.reshape(-1, length), np.ones((1, length), dtype=np.float32)])


def situations(visible: np.ndarray, sample_minutes: int) -> np.ndarray:
    """(C, L): how far each signal's nearest visible minute is, up to never, and past those the same for
    minutes in which no signal is visible.
    """
    before, after = neighbours(visible)
    length = visible.shape[1]
    position = np.arange(length)
    since = np.where(before >= 0, position - before, length)
    until = np.where(after < length, after - position, length)
    distance = np.minimum(since, until)
    nearness = np.digitize(distance * sample_minutes, NEAR_MINUTES, right=True) + (distance == length)
    return nearness + NUM_NEARNESSES * np.isnan(visible).all(axis=0)


def _add_products(
    moments: np.ndarray, visible: np.ndarray, values: np.ndarray, target: np.ndarray, sample_minutes: int
) -> None:
    """Add one hidden day to the moments (situations, C, F + 1, F + 1)."""
    features = features_around(visible, sample_minutes)
    situation = situations(visible, sample_minutes)
    step = max(1, MINUTES_BETWEEN_TARGETS // sample_minutes)
    for signal in np.flatnonzero(target.any(axis=1)):
        minutes = np.flatnonzero(target[signal])[::step]
        minutes = minutes[np.argsort(situation[signal, minutes], kind="stable")]
        seen = features[features_of(int(signal), len(values))][:, minutes]
        both = np.concatenate([seen, values[signal, minutes][None]])
        numbers, starts = np.unique(situation[signal, minutes], return_index=True)
        for number, part in zip(numbers, np.split(both, starts[1:], axis=1), strict=True):
            moments[number, signal] += part @ part.T


def _fit_situation(folds: np.ndarray, everything: np.ndarray) -> np.ndarray:
    """(C, F): the weights of one situation, of the strength that fills left-out folds best.

    folds, everything (folds, C, F + 1, F + 1) float64: moments of the situation, and of all. One strength
    for all signals: with few people a choice for each signal fits the folds rather than new people.
    """
    total, total_of_all = folds.sum(axis=0), everything.sum(axis=0)
    errors = np.zeros(len(STRENGTHS))
    for left_out, left_out_of_all in zip(folds, everything, strict=True):
        solutions = ridge_regressions(total - left_out, total_of_all - left_out_of_all)
        errors += [_squared_error(left_out, weights) for weights in solutions]
    return ridge_regressions(total, total_of_all)[errors.argmin()]


def ridge_regressions(moments: np.ndarray, everything: np.ndarray) -> np.ndarray:
    """(strengths, C, F): weights by closed form; moments, everything (C, F + 1, F + 1) of the same people."""
    lean = SAMPLES_OF_ALL_SITUATIONS / np.maximum(everything[:, -2:-1, -2:-1], 1)
    moments = moments + lean * everything
    products, with_target = moments[:, :-1, :-1], moments[:, :-1, -1:]
    # The constant's product with itself counts the targets.
    count = products[:, -1:, -1:]
    identity = np.eye(products.shape[-1])
    ridges = [identity * (strength * count + LEAST_RIDGE) for strength in STRENGTHS]
    return np.stack([np.linalg.solve(products + ridge, with_target)[..., 0] for ridge in ridges])


def _squared_error(moments: np.ndarray, weights: np.ndarray) -> float:
    """Summed over signals and over the targets of the moments, with weights (C, F)."""
    signed = np.concatenate([weights, -np.ones((len(weights), 1))], axis=1)
    return float(np.einsum("cf,cfg,cg->", signed, moments, signed, optimize=True))


def _one_thread() -> AbstractContextManager[Any]:
    """Keeps BLAS from using threads: on matrices this small they wait for each other longer than they work.

    On two busy cores fitting takes 8 times as long with them. Without threadpoolctl, which scikit-learn
    brings, nothing changes.
    """
    return _blas().limit(limits=1) if find_spec("threadpoolctl") else nullcontext()


@functools.cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
