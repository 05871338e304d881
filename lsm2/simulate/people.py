"""Who is simulated: the traits of a person's body, and the person's habits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lsm2.data.signals import LSM2_SIGNALS
from lsm2.rng import keyed_rng
from lsm2.simulate.activities import ACTIVITIES
from lsm2.simulate.gaps import WearHabits, sample_wear_habits

EXPRESSIONS = ("age", "sex", "bmi", "resting_heart_rate", "hypertension", "anxiety")
"""What the body shows of each label: a standard normal number over people."""
AGE_AND_HYPERTENSION = 0.35
"""Correlation of those two expressions; all others are independent."""


class Person(NamedTuple):
    """One simulated person."""

    seed: int
    number: int
    expressions: np.ndarray
    """(6,) in the order of EXPRESSIONS: all that the days know of the labels."""
    label_noise: np.ndarray
    """(6,) standard normal: the part of each label that no signal shows."""
    levels: np.ndarray
    """(26,) standard normal: own level of each signal."""
    bedtime: float
    """Minute of the evening at which sleep usually begins; midnight is 0."""
    sleep_minutes: float
    bouts_per_day: float
    preferences: np.ndarray
    """(20,) probability of each kind of activity."""
    recovery_minutes: float
    """How fast the heart calms down after effort."""
    rhythm: float
    """Strength of the daily rhythm, 1 on average."""
    wear: WearHabits

    @property
    def subject(self) -> str:
        """The name in the store and in the label files."""
        return f"P{self.number:05d}"


def sample_person(seed: int, number: int) -> Person:
    """Person `number` of the cohort of this seed."""
    rng = keyed_rng("person", seed, number)
    expressions = rng.standard_normal(len(EXPRESSIONS))
    shared = AGE_AND_HYPERTENSION
    expressions[4] = shared * expressions[0] + np.sqrt(1 - shared**2) * expressions[4]
    noise, levels = rng.standard_normal(len(EXPRESSIONS)), rng.standard_normal(len(LSM2_SIGNALS))
    bedtime, sleep, bouts, recovery, rhythm = np.clip(rng.standard_normal(5), -2.5, 2.5)
    preferences = np.exp(rng.standard_normal(len(ACTIVITIES)))
    return Person(
        seed,
        number,
        expressions,
        noise,
        levels,
        bedtime=-50 + 50 * bedtime,
        sleep_minutes=440 + 30 * sleep,
        bouts_per_day=1.6 * np.exp(0.4 * bouts),
        preferences=preferences / preferences.sum(),
        recovery_minutes=5 * np.exp(0.3 * recovery),
        rhythm=1 + 0.2 * rhythm,
        wear=sample_wear_habits(rng),
    )
