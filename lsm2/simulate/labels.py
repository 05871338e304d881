"""The labels that are planted in the simulated cohort, and what the generating variables would score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from lsm2.simulate.activities import ACTIVITIES, TRAITS_OF_KINDS
from lsm2.simulate.people import Person, sample_person
from lsm2.simulate.schedule import date_of, plan_day


class Label(NamedTuple):
    """A label per person: label = mean + spread x (share x expression + sqrt(1 - share^2) x noise)."""

    share: float
    """Correlation of the label, or of what decides it, with its expression in the days."""
    signals: tuple[str, ...]
    """Where it lives."""
    mean: float = 0.0
    spread: float = 1.0
    low: float = -np.inf
    high: float = np.inf
    binary: bool = False
    """Then the label is 1 where that number is above 0, and the mean sets how often."""


LABELS: dict[str, Label] = {
    "age": Label(
        0.74, ("rmssd", "sdnn", "shannon_entropy_rr", "shannon_entropy_rr_differences"), 46, 15, 18, 90
    ),
    "sex": Label(
        0.68, ("skin_temperature_value", "lead_contact_counts", "skin_conductance_value"), binary=True
    ),
    "bmi": Label(
        0.65, ("log_energy", "covariance_condition", "zero_crossing_average", "kurtosis"), 26.5, 4.5, 16, 50
    ),
    "resting_heart_rate": Label(
        0.78,
        ("heart_rate", "heart_rate_at_rest", "rr_median", "rr_80th_percentile", "rr_20th_percentile"),
        64, 8, 38, 110,
    ),
    "hypertension": Label(
        0.67,
        ("heart_rate", "heart_rate_at_rest", "rr_median", "rr_80th_percentile", "rr_20th_percentile"),
        -0.25, binary=True,
    ),
    "anxiety": Label(
        0.67,
        ("skin_conductance_value", "skin_conductance_slope", "rmssd", "sdnn", "shannon_entropy_rr",
         "shannon_entropy_rr_differences"),
        -0.25, binary=True,
    ),
}  # fmt: skip


def label_values(person: Person) -> dict[str, float | int]:
    """The labels of one person: years, kg/m2, bpm; 0 or 1."""
    values: dict[str, float | int] = {}
    for (name, label), expression, noise in zip(
        LABELS.items(), person.expressions, person.label_noise, strict=True
    ):
        number = label.mean + label.spread * (label.share * expression + np.sqrt(1 - label.share**2) * noise)
        values[name] = (
            int(number > 0) if label.binary else round(float(np.clip(number, label.low, label.high)), 1)
        )
    return values


def labels_csv(people: int, seed: int) -> Iterator[bytes]:
    """labels.csv, line by line: one row per person."""
    yield ("subject," + ",".join(LABELS) + "\n").encode()
    for number in range(people):
        person = sample_person(seed, number)
        yield (",".join(map(str, (person.subject, *label_values(person).values()))) + "\n").encode()


def activities_csv(people: int, days_per_person: int, seed: int) -> Iterator[bytes]:
    """activities.csv, line by line: subject, start, end (ISO 8601, wall clock), activity of each bout."""
    yield b"subject,start,end,activity\n"
    for person, day, bout in bouts_of_cohort(people, days_per_person, seed):
        times = [
            f"{date_of(day).isoformat()}T{minute // 60:02d}:{minute % 60:02d}"
            for minute in (bout.start, bout.end)
        ]
        yield f"{person.subject},{times[0]},{times[1]},{bout.name}\n".encode()


def bouts_of_cohort(people: int, days_per_person: int, seed: int) -> Iterator[tuple[Person, int, Any]]:
    """(person, day, bout) of all bouts of activity, person after person."""
    for number in range(people):
        person = sample_person(seed, number)
        for day in range(days_per_person):
            for bout in plan_day(person, day).bouts:
                yield person, day, bout


def ceilings(people: int, days_per_person: int, seed: int) -> dict[str, dict[str, float]]:
    """What the generating variables themselves would score in this cohort.

    Correlation `r` or `auroc` of each label with its expression, the only trace of the label in the days; and
    for activities the balanced accuracy of the best guess from a bout's true traits. A score that cannot be
    computed, as of a label that all people share, is left out.
    """
    cohort = (sample_person(seed, number) for number in range(people))
    rows = ((*label_values(person).values(), *person.expressions) for person in cohort)
    # A row a person and no more, whatever the size of the cohort: values, then expressions.
    labelled = np.fromiter(rows, np.dtype((float, 2 * len(LABELS))), people)
    scores: dict[str, dict[str, float]] = {}
    for column, (name, label) in enumerate(LABELS.items()):
        truth, expression = labelled[:, column], labelled[:, len(LABELS) + column]
        if truth.min() < truth.max():
            metric, score = ("auroc", auroc) if label.binary else ("r", correlation)
            scores[name] = {metric: score(truth, expression)}
    right, total = np.zeros(len(ACTIVITIES)), np.zeros(len(ACTIVITIES))
    for _, _, bout in bouts_of_cohort(people, days_per_person, seed):
        guess = np.argmin(((bout.traits - TRAITS_OF_KINDS) ** 2).sum(1))
        total[bout.kind] += 1
        right[bout.kind] += guess == bout.kind
    if total.any():
        scores["activity"] = {"balanced_accuracy": float((right[total > 0] / total[total > 0]).mean())}
    return scores


def auroc(truth: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve of scores without ties; truth is 0 or 1, (n,)."""
    ranks = np.argsort(np.argsort(score)) + 1.0
    ones = truth > 0
    num_ones, num_zeros = ones.sum(), (~ones).sum()
    return float((ranks[ones].sum() - num_ones * (num_ones + 1) / 2) / (num_ones * num_zeros))


def correlation(truth: np.ndarray, score: np.ndarray) -> float:
    """Pearson's r."""
    return float(np.corrcoef(truth, score)[0, 1])
