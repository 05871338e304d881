"""What the supervised ResNet reads: raw days or intervals of each example as one dense array, without any
feature.
"""

from __future__ import annotations

import numpy as np

from lsm2.data.day_grid import MINUTES_PER_DAY
from lsm2.data.labels import Labels
from lsm2.data.normalize import Normalization
from lsm2.data.store import DayStore
from lsm2.evaluate.probes.features import (
    NEIGHBOUR_MINUTES,
    Days,
    day_of,
    labelled_people,
    samples_between,
    span_of,
)
from lsm2.progress import counted

MOST_DAYS = 14
"""Of a person with more days, so many are read, spread evenly."""
BIN_MINUTES = 5
INTERVAL_MINUTES = 120
"""Around the middle of an interval; what lies outside it and its half hours before and after is missing."""
CLOCK_CHANNELS = 2


def resnet_input(
    store: DayStore, labels: Labels, normalization: Normalization, *, progress: bool = False
) -> np.ndarray:
    """Normalised samples of each labelled example, (n, D, channels, T) float16, NaN where missing.

    A person has D days, 14 at most; a day is D = 1; both as means of each signal in 5 minutes and, where
    these hold several samples, deviations within. An interval is D = 1, 120 minutes as sampled. The last two
    channels are sine and cosine of the time of day, as pooling over time forgets it. A day that a person
    lacks is all NaN but for the clock. Memory: 31 kB for each day of 26 signals, so 0.44 GB for 1000 people
    with 14 days.
    """
    people = labelled_people(store, labels)
    if labels.level == "interval":
        num_days, num_steps = 1, max(INTERVAL_MINUTES // store.sample_minutes, 1)
    else:
        most = max(len(row_of_day) for _, row_of_day in people)
        num_days = 1 if labels.level == "day" else min(MOST_DAYS, most)
        num_steps = -(-store.num_samples // _samples_per_bin(store))
    has_deviations = labels.level != "interval" and _samples_per_bin(store) > 1
    num_channels = (1 + has_deviations) * len(store.signals) + CLOCK_CHANNELS
    shape = (len(labels.subjects), num_days, num_channels, num_steps)
    found = np.full(shape, np.nan, np.float16)
    for of_person, row_of_day in counted(people, "days of the ResNet", progress):
        wanted = list(row_of_day)
        if labels.level == "person":
            wanted = [wanted[place] for place in _spread(len(wanted))]
        days = {day: normalization.apply(store.values(row_of_day[day])) for day in wanted}
        for example in of_person:
            if labels.level == "interval":
                found[example, 0] = _interval(days, labels, example, store.sample_minutes, num_steps)
            else:
                chosen = list(days.values()) if labels.dates is None else [days[day_of(labels, example)]]
                for place, values in enumerate(chosen):
                    found[example, place, :-CLOCK_CHANNELS] = _binned(values, _samples_per_bin(store))
    if labels.level != "interval":
        step_minutes = _samples_per_bin(store) * store.sample_minutes
        found[:, :, -CLOCK_CHANNELS:] = _clock((np.arange(num_steps) + 0.5) * step_minutes)
    return found


def _spread(count: int) -> list[int]:
    """Positions of at most MOST_DAYS of `count` days, spread evenly."""
    return np.linspace(0, count - 1, min(count, MOST_DAYS)).round().astype(int).tolist()


def _samples_per_bin(store: DayStore) -> int:
    return max(BIN_MINUTES // store.sample_minutes, 1)


def _binned(values: np.ndarray, samples: int) -> np.ndarray:
    """Means of the observed ones among so many samples of (C, L) and, of several samples, their deviations:
    (C or 2 C, bins), NaN where none is observed.
    """
    missing = -values.shape[1] % samples
    parts = np.pad(values, ((0, 0), (0, missing)), constant_values=np.nan)
    parts = parts.reshape(len(values), -1, samples)
    observed = ~np.isnan(parts)
    with np.errstate(invalid="ignore"):
        means = np.where(observed, parts, 0).sum(2) / observed.sum(2)
        if samples == 1:
            return means
        squares = np.where(observed, parts - means[..., None], 0) ** 2
        return np.concatenate([means, np.sqrt(squares.sum(2) / observed.sum(2))])


def _interval(days: Days, labels: Labels, example: int, sample_minutes: int, num_steps: int) -> np.ndarray:
    """(C + 2, steps) around the middle of an interval."""
    start, end = span_of(labels, example)
    first = ((start + end) // 2 // sample_minutes - num_steps // 2) * sample_minutes
    minutes = first + np.arange(num_steps) * sample_minutes
    values = samples_between(days, first, first + num_steps * sample_minutes)
    inside = (minutes >= start - NEIGHBOUR_MINUTES) & (minutes < end + NEIGHBOUR_MINUTES)
    return np.concatenate([np.where(inside, values, np.nan), _clock(minutes + sample_minutes / 2)])


def _clock(minutes: np.ndarray) -> np.ndarray:
    """Sine and cosine (2, n) of times of day."""
    angle = 2 * np.pi * minutes / MINUTES_PER_DAY
    return np.stack([np.sin(angle), np.cos(angle)])
