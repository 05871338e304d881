"""Gaps of the kinds that LSM-2 names (arXiv 2506.05321, section on missingness): device off, sensors off, battery saving, motion artefacts.

How much is missing per day follows the numbers known of that data: mean 49 %, standard deviation 15 %, between 2 and 80 %, no complete day.
How the kinds share it is not published: those shares are ours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lsm2.data.signals import LSM2_SIGNALS

MEAN_MISSING, SPREAD_MISSING, MIN_MISSING, MAX_MISSING = 0.49, 0.16, 0.02, 0.79
_PERSON_SHARE = 0.5
"""Part of the variance of the missing fraction that lies between people, the rest between days."""
_SENSORS = np.array([signal.sensor for signal in LSM2_SIGNALS])
_SENSOR_NAMES = tuple(dict.fromkeys(_SENSORS.tolist()))
_MINUTES = 1440


class Habits(NamedTuple):
    """How a person wears the device."""

    carelessness: float
    """Standard normal: how much more than others is missing."""
    takes_off_at_night: bool
    saves_battery_at_night: bool
    """At night the device measures with the accelerometer alone."""
    bedtime: float
    """Hour at which the night begins, 21 to 25."""


def sample_habits(rng: np.random.Generator) -> Habits:
    """One person's habits."""
    carelessness, bedtime = float(rng.standard_normal()), 23 + float(np.clip(rng.standard_normal(), -2, 2))
    return Habits(carelessness, rng.random() < 0.3, rng.random() < 0.25, bedtime)


def sample_missing(habits: Habits, activity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """True (26, 1440) where a day has no value; `activity` (1440,) of unit variance makes motion artefacts likelier where it is high."""
    missing = np.zeros((len(LSM2_SIGNALS), _MINUTES), dtype=bool)
    target = MEAN_MISSING + SPREAD_MISSING * (
        np.sqrt(_PERSON_SHARE) * habits.carelessness + np.sqrt(1 - _PERSON_SHARE) * rng.standard_normal()
    )
    budget = _Budget(missing, int(np.clip(target, MIN_MISSING + 0.01, MAX_MISSING) * missing.size))
    _motion_artefacts(budget, activity, rng)
    everything = np.ones(len(LSM2_SIGNALS), dtype=bool)
    night_start, night_length = int(habits.bedtime * 60) % _MINUTES, int(rng.integers(360, 540))
    if habits.takes_off_at_night:
        budget.spend(everything, night_start, night_length)
    elif habits.saves_battery_at_night:
        budget.spend(_SENSORS != "accelerometer", night_start, night_length)
    while budget.left > 0:
        kind = rng.random()
        if kind < 0.45:  # not worn or charging
            budget.spend(everything, int(rng.integers(_MINUTES)), int(20 + rng.exponential(150)))
        elif kind < 0.60:  # a sensor is off all day
            budget.spend(_sensor(rng), 0, _MINUTES)
        elif kind < 0.95:  # a sensor is off for hours
            budget.spend(_sensor(rng), int(rng.integers(_MINUTES)), int(30 + rng.exponential(180)))
        else:  # environmental noise on one signal
            one = np.arange(len(LSM2_SIGNALS)) == rng.integers(len(LSM2_SIGNALS))
            budget.spend(one, int(rng.integers(_MINUTES)), int(5 + rng.exponential(120)))
    return missing


def _motion_artefacts(budget: _Budget, activity: np.ndarray, rng: np.random.Generator) -> None:
    """Bursts of a few minutes in PPG and EDA; they come three times as often at one standard deviation more activity."""
    rate = 0.012 * np.exp(1.1 * np.clip(activity, -2, 2))
    for sensor, share in (("ppg", 1.0), ("eda", 0.5)):
        starts = np.flatnonzero(rng.random(_MINUTES) < share * rate)
        lengths = rng.integers(1, 8, size=len(starts))
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            budget.spend(np.equal(_SENSORS, sensor), start, length)


def _sensor(rng: np.random.Generator) -> np.ndarray:
    return _SENSOR_NAMES[int(rng.integers(len(_SENSOR_NAMES)))] == _SENSORS


class _Budget:
    """Cells that may still go missing, so that a day ends at its missing fraction whatever the gaps are."""

    def __init__(self, missing: np.ndarray, cells: int) -> None:
        self.missing, self.left = missing, cells

    def spend(self, signals: np.ndarray, start: int, length: int) -> None:
        """Hide these signals (26,) from `start` for `length` minutes, round midnight, but stop where the budget ends."""
        minutes = np.arange(start, start + min(length, _MINUTES)) % _MINUTES
        fresh = ~self.missing[np.ix_(signals, minutes)]
        spent = np.cumsum(fresh.sum(0))
        last = int(np.searchsorted(spent, self.left)) + 1
        self.missing[np.ix_(signals, minutes[:last])] = True
        self.left -= int(spent[min(last, len(spent)) - 1])
