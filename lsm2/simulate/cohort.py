"""A cohort with known truth: 26 signals that follow shared causes, with gaps like those of real wearables;
pure in (seed, person, day).
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lsm2.data.signals import LSM2_SIGNALS
from lsm2.data.store import DayStore
from lsm2.data.store.layout import Day
from lsm2.errors import InputError
from lsm2.progress import counted
from lsm2.rng import keyed_rng
from lsm2.simulate import labels, physiology
from lsm2.simulate.activities import ACTIVITIES, STYLE, TRAITS, TRAITS_OF_KINDS
from lsm2.simulate.gaps import sample_missing
from lsm2.simulate.people import AGE_AND_HYPERTENSION, Person, sample_person
from lsm2.simulate.schedule import FIRST_DATE, date_of, plan_day
from lsm2.simulate.wear import WearPatterns

SIMULATOR_VERSION = 2
"""Counts the changes after which the same seed gives other days."""
NOISE = 0.2
TRUTH_FILE, LABELS_FILE, ACTIVITIES_FILE = "truth.json", "labels.csv", "activities.csv"
_LOW = np.array([signal.low for signal in LSM2_SIGNALS], np.float32)[:, None]
_HIGH = np.array([signal.high for signal in LSM2_SIGNALS], np.float32)[:, None]
_LOG1P = np.flatnonzero([signal.transform == "log1p" for signal in LSM2_SIGNALS])


def simulate(
    people: int,
    days_per_person: int,
    seed: int,
    *,
    noise: float = NOISE,
    wear: WearPatterns | None = None,
    complete: bool = False,
    progress: bool = False,
) -> Iterator[Day]:
    """Simulated days of LSM2_SIGNALS, (26, 1440) float32 each, person after person.

    `noise` is the share of white noise in each signal's variance. `wear` says when devices are worn.
    `complete` leaves the gaps out: the same values, and the truth where there is none. A larger cohort of the
    same seed contains the smaller one. Raises InputError for numbers that make no cohort.
    """
    for name, count in (("people", people), ("days_per_person", days_per_person)):
        if count < 1:
            raise InputError(f"{name} is {count}; simulate at least 1")
    if not 0 <= noise < 1:
        raise InputError(f"noise is {noise}; it is a share of the variance: at least 0 and below 1")
    all_days = (
        Day(person.subject, date_of(day).isoformat(), _simulate_values(person, day, noise, wear, complete))
        for person in (sample_person(seed, number) for number in range(people))
        for day in range(days_per_person)
    )
    return iter(counted(all_days, "simulating days", progress, people * days_per_person))


def true_values(store: DayStore, index: int) -> np.ndarray:
    """Day `index` of a simulated store without its gaps, (26, 1440) float32: generated anew from the seed in
    truth.json. Raises InputError for a store that this simulator has not written.
    """
    parameters = read_truth(store)
    row = store.days.slice(index, 1).to_pylist()[0]
    number = int(row["subject"][1:])
    day = (datetime.date.fromisoformat(row["date"]) - FIRST_DATE).days
    person = sample_person(parameters["seed"], number)
    return _simulate_values(person, day, parameters["noise"], None, complete=True)


def read_truth(store: DayStore) -> dict[str, Any]:
    """truth.json of a simulated store; raises InputError where it is missing or of another simulator."""
    file = store.path / TRUTH_FILE
    try:
        parameters = json.loads(file.read_text())
    except (OSError, ValueError):
        raise InputError(f"{file} cannot be read; give a store that `lsm2 simulate` wrote") from None
    if parameters.get("simulator_version") != SIMULATOR_VERSION:
        raise InputError(f"{file} is of another version of the simulator; write the cohort again")
    return parameters


def truth(
    people: int, days_per_person: int, seed: int, noise: float, wear: WearPatterns | None
) -> dict[str, Any]:
    """The parameters that a cohort is drawn from, and its ceilings, as JSON can hold them."""
    return {
        "simulator_version": SIMULATOR_VERSION,
        "people": people,
        "days_per_person": days_per_person,
        "seed": seed,
        "noise": noise,
        "wear": None if wear is None else {"file": wear.path.name, "sha256": wear.sha256},
        "values_under_gaps": "lsm2.simulate.cohort.true_values(store, index) generates them anew",
        "causes": list(physiology.CAUSES),
        "signals": {
            signal.name: {"base": base, "spread": spread, "effects": effects}
            for signal, base, spread, effects in zip(
                LSM2_SIGNALS,
                physiology.BASES.tolist(),
                physiology.SPREADS.tolist(),
                physiology.EFFECTS.tolist(),
                strict=True,
            )
        },
        "labels": {name: _finite(label._asdict()) for name, label in labels.LABELS.items()},
        "age_and_hypertension": AGE_AND_HYPERTENSION,
        "activity_style": STYLE,
        "activities": {
            activity.name: dict(zip(TRAITS, traits, strict=True))
            for activity, traits in zip(ACTIVITIES, TRAITS_OF_KINDS.tolist(), strict=True)
        },
        "ceilings": labels.ceilings(people, days_per_person, seed),
    }


def write_cohort(
    out: Path | str,
    people: int,
    days_per_person: int,
    seed: int,
    noise: float = NOISE,
    progress: bool = False,
    replace: bool = False,
    wear: Path | None = None,
) -> DayStore:
    """Simulate a cohort into a new store at `out`, with labels.csv, activities.csv and truth.json beside it.

    `wear` is a Parquet file of wear bits. A store that is there is replaced with `replace`; without, it
    raises InputError.
    """
    patterns = None if wear is None else WearPatterns.read(wear)
    days = simulate(people, days_per_person, seed, noise=noise, wear=patterns, progress=progress)
    parameters = truth(people, days_per_person, seed, noise, patterns)
    attachments = {
        LABELS_FILE: lambda: labels.labels_csv(people, seed),
        ACTIVITIES_FILE: lambda: labels.activities_csv(people, days_per_person, seed),
        TRUTH_FILE: lambda: [(json.dumps(parameters, indent=1) + "\n").encode()],
    }
    return DayStore.write(out, LSM2_SIGNALS, days, replace=replace, attachments=attachments)


def _simulate_values(
    person: Person, day: int, noise: float, wear: WearPatterns | None, complete: bool
) -> np.ndarray:
    plan = plan_day(person, day)
    rng = keyed_rng("day", person.seed, person.number, day)
    values = physiology.transformed_values(person, day, plan, rng)
    if noise:
        white = rng.standard_normal(values.shape, np.float32)
        white *= (np.sqrt(noise / (1 - noise)) * physiology.SPREADS).astype(np.float32)[:, None]
        values += white
    for row in _LOG1P:
        np.exp(values[row], out=values[row])
        values[row] -= 1
    np.clip(values, _LOW, _HIGH, out=values)
    if not complete:
        rng = keyed_rng("gaps", person.seed, person.number, day)
        missing = sample_missing(
            person.wear,
            physiology.movement_of(plan),
            [(night.start, night.end) for night in plan.nights],
            [(bout.start, bout.end) for bout in plan.bouts],
            rng,
            None if wear is None else wear.of_day(person.seed, person.number, day),
        )
        values[missing] = np.nan
    return values


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in values.items()
    }
