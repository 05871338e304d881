"""A cohort with known truth: 26 signals that follow six hidden causes, with gaps like those of real wearables; pure in (seed, person, day).

z = sqrt(1 - noise) * loadings @ causes + sqrt(noise) * white noise; every cause and signal has variance 1 over people, days and minutes.
The higher `noise`, the less linear interpolation helps: in our trial it was strong at 0.2 and no better than the mean at 0.5.
"""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from lsm2.data.signals import LSM2_SIGNALS
from lsm2.data.store import DayStore
from lsm2.data.store.layout import Day
from lsm2.errors import InputError
from lsm2.progress import counted
from lsm2.rng import keyed_rng
from lsm2.simulate.gaps import Habits, sample_habits, sample_missing
from lsm2.simulate.physiology import CAUSES, CENTRE, LOADINGS, SPREAD

FIRST_DATE = datetime.date(2024, 3, 1)
LEVEL_SHARE, RHYTHM_SHARE, DYNAMIC_SHARE = 0.2, 0.2, 0.6
"""Parts of each cause's variance: the person's level, the daily rhythm, the AR(1) process."""
TRAITS = ("age", "activity_level", "condition")
TRAIT_EFFECTS = np.array(
    [(-0.3, 0.8, 0), (0, 0, 0.6), (0, 0, 0), (-0.7, 0.3, -0.2), (-0.3, 0, 0.2), (-0.2, 0.4, -0.5)]
)
"""(6, 3): what one standard deviation of each trait adds to the person's level of each cause; the rest of the level is the person's own."""
CONDITION_SHARE = 0.4
CONDITION_SLOWS_AROUSAL = 2.5
"""In people with the condition arousal lasts this many times longer: a label that shows in the dynamics, not only in the level."""


class Person(NamedTuple):
    """One simulated person: what goes into labels.csv, and what stays hidden."""

    subject: str
    age: float
    """Years."""
    condition: bool
    activity_level: float
    """Standard normal."""
    chronotype: float
    """Hours by which the daily rhythm is later than average."""
    levels: np.ndarray
    """(6,) level of each cause, standard normal over people."""
    habits: Habits


def simulate(
    people: int, days_per_person: int, seed: int, *, noise: float = 0.35, progress: bool = False
) -> Iterator[Day]:
    """Simulated days of LSM2_SIGNALS, (26, 1440) each, person after person; `noise` is the white-noise share of each signal's variance.

    A larger cohort of the same seed contains the smaller one. Raises InputError for numbers that make no cohort.
    """
    for name, count in (("people", people), ("days_per_person", days_per_person)):
        if count < 1:
            raise InputError(f"{name} is {count}; simulate at least 1")
    if not 0 <= noise < 1:
        raise InputError(f"noise is {noise}; it is a share of the variance: at least 0 and below 1")
    all_days = ((person, day) for person in range(people) for day in range(days_per_person))
    return (
        _simulate_day(seed, person, day, noise)
        for person, day in counted(all_days, "simulating days", progress, people * days_per_person)
    )


def person_labels(people: int, seed: int) -> pa.Table:
    """What is known of each simulated person: subject, age (years), condition (0 or 1), activity_level, chronotype (hours)."""
    cohort = [_sample_person(seed, person) for person in range(people)]
    columns = {
        name: [getattr(person, name) for person in cohort]
        for name in ("subject", "age", "condition", "activity_level", "chronotype")
    }
    return pa.table(columns | {"condition": [int(person.condition) for person in cohort]})


def truth(noise: float) -> dict[str, Any]:
    """The parameters that the days are drawn from, as JSON can hold them."""
    return {
        "noise": noise,
        "causes": [cause._asdict() for cause in CAUSES],
        "signals": [signal.name for signal in LSM2_SIGNALS],
        "loadings": LOADINGS.tolist(),
        "transformed_centre": CENTRE.tolist(),
        "transformed_spread": SPREAD.tolist(),
        "cause_variance_shares": {"level": LEVEL_SHARE, "rhythm": RHYTHM_SHARE, "dynamic": DYNAMIC_SHARE},
        "trait_effects_on_levels": {
            trait: TRAIT_EFFECTS[:, column].tolist() for column, trait in enumerate(TRAITS)
        },
        "condition_slows_arousal": CONDITION_SLOWS_AROUSAL,
    }


def write_cohort(
    out: Path | str,
    people: int,
    days_per_person: int,
    seed: int,
    noise: float = 0.35,
    progress: bool = False,
    replace: bool = False,
) -> DayStore:
    """Simulate a cohort into a new store at `out`, with labels.csv (one row per person) and truth.json in its folder.

    A store that is there is replaced with `replace`; without, it raises InputError.
    """
    days = simulate(people, days_per_person, seed, noise=noise, progress=progress)
    labels = io.BytesIO()
    pyarrow.csv.write_csv(person_labels(people, seed), labels)
    parameters = {"people": people, "days_per_person": days_per_person, "seed": seed} | truth(noise)
    attachments = {
        "labels.csv": labels.getvalue,
        "truth.json": (json.dumps(parameters, indent=1) + "\n").encode,
    }
    return DayStore.write(out, LSM2_SIGNALS, days, replace=replace, attachments=attachments)


def _sample_person(seed: int, person: int) -> Person:
    rng = keyed_rng("person", seed, person)
    age = float(np.clip(45 + 15 * rng.standard_normal(), 18, 90))
    activity_level, chronotype = float(rng.standard_normal()), float(1.2 * rng.standard_normal())
    condition = bool(rng.random() < CONDITION_SHARE)
    traits = np.array(
        [
            (age - 45) / 15,
            activity_level,
            (condition - CONDITION_SHARE) / np.sqrt(CONDITION_SHARE * (1 - CONDITION_SHARE)),
        ]
    )
    own = np.sqrt(1 - (TRAIT_EFFECTS**2).sum(1)) * rng.standard_normal(len(CAUSES))
    levels = TRAIT_EFFECTS @ traits + own
    return Person(
        f"P{person:05d}", round(age, 1), condition, activity_level, chronotype, levels, sample_habits(rng)
    )


def _simulate_day(seed: int, number: int, day: int, noise: float) -> Day:
    person = _sample_person(seed, number)
    rng = keyed_rng("day", seed, number, day)
    causes = _causes(person, rng)
    missing = sample_missing(person.habits, causes[0], rng)
    z = np.sqrt(1 - noise) * LOADINGS @ causes + np.sqrt(noise) * rng.standard_normal(missing.shape)
    values = CENTRE[:, None] + SPREAD[:, None] * z
    for row, signal in zip(values, LSM2_SIGNALS, strict=True):
        if signal.transform == "log1p":
            np.expm1(row, out=row)
        row[(row < signal.low) | (row > signal.high)] = np.nan  # as preprocessing filters what no body does
    values[missing] = np.nan
    return Day(
        person.subject, (FIRST_DATE + datetime.timedelta(days=day)).isoformat(), values.astype(np.float32)
    )


def _causes(person: Person, rng: np.random.Generator) -> np.ndarray:
    """The six causes over one day, (6, 1440), each of variance 1 over people, days and minutes."""
    hours = np.arange(1440) / 60
    peaks = np.array([cause.peak_hour for cause in CAUSES]) + person.chronotype
    rhythm = np.sqrt(2) * np.cos(2 * np.pi * (hours - peaks[:, None]) / 24)
    slowing = [
        CONDITION_SLOWS_AROUSAL if person.condition and cause.name == "arousal" else 1.0 for cause in CAUSES
    ]
    decay = np.exp(-1 / (np.array([cause.minutes for cause in CAUSES]) * slowing))
    dynamic = _first_order(rng.standard_normal((len(CAUSES), 1440)), decay[:, None])
    return (
        np.sqrt(LEVEL_SHARE) * person.levels[:, None]
        + np.sqrt(RHYTHM_SHARE) * rhythm
        + np.sqrt(DYNAMIC_SHARE) * dynamic
    )


def _first_order(innovations: np.ndarray, decay: np.ndarray) -> np.ndarray:
    """AR(1) series of variance 1 from white noise (K, L) and decay per step (K, 1), stationary from the first step on."""
    series = innovations * np.sqrt(1 - decay**2)
    series[:, 0] = innovations[:, 0]
    # A scan by doubling: after the step of s, each minute holds the decayed sum of its last 2 s innovations.
    step = 1
    while step < series.shape[1]:
        series[:, step:] = series[:, step:] + decay**step * series[:, :-step]
        step *= 2
    return series
