"""Features without any training, as a yardstick for embeddings: summary statistics, and wear alone.

Values are taken after each signal's transform. Nothing is fitted: an example's features come from its own
person's days and from no one else's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np

from lsm2.data.day_grid import MINUTES_PER_DAY
from lsm2.data.labels import Labels
from lsm2.data.normalize import transformed
from lsm2.data.store import DayStore
from lsm2.progress import counted

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
QUANTILES_OF_INTERVALS = (0.25, 0.5, 0.75)
NEIGHBOUR_MINUTES = 30
FEWEST_MINUTES = 60
"""Of a signal that was observed for less, statistics are undefined: those of a few minutes are outliers."""
BLOCK_MINUTES = 10
LAG_MINUTES = (1, 2, 5, 10, 30)
_SATURDAY = 5
_FIRST_WEEKDAY = 3
"""1970-01-01 was a Thursday, with Monday as 0."""

Days = dict[int, np.ndarray]
"""One person's days (C, L), by days since 1970-01-01."""
Describe = Callable[[Days, Labels, int], np.ndarray]


def summary_features(store: DayStore, labels: Labels, *, progress: bool = False) -> np.ndarray:
    """Statistics of each labelled example, (n, F) float64, NaN where undefined; a row without data is all
    NaN.

    People and days, per signal: mean, deviation, quantiles of samples and of 10-minute means, hourly profile,
    variability over 1 to 30 minutes and from day to day, weekend against weekdays, wear by the hour; of a
    signal observed for less than an hour, wear alone. Intervals, per signal: mean, deviation,
    extremes, quantiles and wear within, the same of the half hours before and after, the mean against the
    person's own; and the time of day and duration.
    """

    def read(index: int) -> np.ndarray:
        return transformed(store.values(index), store.signals)

    describe = _interval_summary if labels.level == "interval" else _days_summary
    return _features(store, labels, read, describe, "summary features", progress)


def wear_features(store: DayStore, labels: Labels, *, progress: bool = False) -> np.ndarray:
    """What the gaps of each labelled example give away, (n, F) float64, without any measured value.

    People and days, per signal: share observed, by the hour and from day to day, number and length of gaps.
    Intervals, per signal: share observed within, in the half hours before and after, and in that day's hours.
    An example on no day of the store is all NaN.
    """

    def read(index: int) -> np.ndarray:
        return store.observed([index])[0]

    describe = _interval_wear if labels.level == "interval" else _days_wear
    return _features(store, labels, read, describe, "wear features", progress)


def _features(
    store: DayStore,
    labels: Labels,
    read: Callable[[int], np.ndarray],
    describe: Describe,
    what: str,
    progress: bool,
) -> np.ndarray:
    """`describe` of every example, reading the days of one person at a time."""
    people = labelled_people(store, labels)
    rows: dict[int, np.ndarray] = {}
    # Samples of which all or none are missing make some statistics undefined: they stay NaN.
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        for of_person, row_of_day in counted(people, what, progress):
            days = {day: read(row) for day, row in row_of_day.items()}
            if days:
                rows |= {example: describe(days, labels, example) for example in of_person}
    width = len(next(iter(rows.values()))) if rows else 0
    return np.stack([rows.get(example, np.full(width, np.nan)) for example in range(len(labels.subjects))])


def labelled_people(store: DayStore, labels: Labels) -> list[tuple[list[int], dict[int, int]]]:
    """Of each labelled person the examples, and the rows in the store by days since 1970-01-01, in order."""
    people: dict[str, tuple[list[int], dict[int, int]]] = {}
    for example, subject in enumerate(labels.subjects):
        people.setdefault(subject, ([], {}))[0].append(example)
    for (subject, day), row in sorted(store.row_of_day.items()):
        if subject in people:
            people[subject][1][day] = row
    return list(people.values())


def _chosen(days: Days, labels: Labels, example: int) -> tuple[np.ndarray, np.ndarray]:
    """(days since 1970, (D, C, L)): all days of a labelled person, or the labelled day alone."""
    if labels.dates is not None:
        day = day_of(labels, example)
        days = {day: days[day]}
    return np.array(list(days)), np.stack(list(days.values()))


def _days_summary(days: Days, labels: Labels, example: int) -> np.ndarray:
    dates, values = _chosen(days, labels, example)
    observed = ~np.isnan(values)
    sample_minutes = max(MINUTES_PER_DAY // values.shape[2], 1)
    enough = observed.sum(axis=2) * sample_minutes >= FEWEST_MINUTES
    enough_in_all = observed.sum(axis=(0, 2)) * sample_minutes >= FEWEST_MINUTES
    values = np.where(enough_in_all[:, None], values, np.nan)
    hours = np.nanmean(_hours(values), axis=3)
    hourly = np.nanmean(hours, axis=0)
    means, deviations = np.nanmean(values, axis=2), np.nanstd(values, axis=2)
    parts = [
        np.nanmean(values, axis=(0, 2)),
        np.nanstd(values, axis=(0, 2)),
        *_by_signal(_distribution, values),
        *_by_signal(_blocks, values, max(BLOCK_MINUTES // sample_minutes, 1)),
        *_by_signal(_persistence, values, sample_minutes),
        np.nanmean(deviations, axis=0),
        *hourly.T,
        *np.nanstd(_hours(values), axis=(0, 3)).T,
        np.nanmax(hourly, axis=1),
        np.nanmin(hourly, axis=1),
        observed.mean(axis=(0, 2)),
        *_hours(observed).mean(axis=(0, 3)).T,
    ]
    if labels.dates is None:
        # A day of a few minutes says nothing of how days differ.
        means = np.where(enough, means, np.nan)
        weekend = (dates + _FIRST_WEEKDAY) % 7 >= _SATURDAY
        parts += [
            np.where(enough.sum(axis=0) > 1, np.nanstd(means, axis=0), np.nan),
            np.nanstd(np.where(enough, deviations, np.nan), axis=0),
            np.nanmean(np.nanstd(hours, axis=0), axis=1),
            np.nanmax(means, axis=0),
            np.nanmin(means, axis=0),
            _mean_of(means[weekend]) - _mean_of(means[~weekend]),
        ]
    row = np.concatenate(parts)
    return row if observed.any() else np.full_like(row, np.nan)


def _by_signal(describe: Callable[..., np.ndarray], values: np.ndarray, *settings: int) -> np.ndarray:
    """`describe` of each signal's (D, L), as (features, C)."""
    return np.stack([describe(values[:, signal], *settings) for signal in range(values.shape[1])], axis=1)


def _distribution(values: np.ndarray) -> np.ndarray:
    """Quantiles, the highest value, and how often the lowest occurs."""
    present = values[~np.isnan(values)]
    if not len(present):
        return np.full(len(QUANTILES) + 2, np.nan)
    return np.array([*np.quantile(present, QUANTILES), present.max(), (present == present.min()).mean()])


def _blocks(values: np.ndarray, samples: int) -> np.ndarray:
    """Quantiles of the means of blocks of so many samples, of which half or more are observed."""
    whole = values[:, : values.shape[1] // samples * samples].reshape(-1, samples)
    whole = whole[(~np.isnan(whole)).sum(axis=1) * 2 >= samples]
    if not len(whole):
        return np.full(len(QUANTILES) + 1, np.nan)
    return np.quantile(np.nanmean(whole, axis=1), [*QUANTILES, 1])


def _persistence(values: np.ndarray, sample_minutes: int) -> np.ndarray:
    """Correlation and mean absolute difference of samples 1, 2, 5, 10 and 30 minutes apart."""
    found = []
    for minutes in LAG_MINUTES:
        lag = max(minutes // sample_minutes, 1)
        pairs = np.stack([values[:, :-lag].ravel(), values[:, lag:].ravel()])
        earlier, later = pairs[:, ~np.isnan(pairs).any(axis=0)]
        if len(earlier) < 3:
            found += [np.nan, np.nan]
            continue
        spread = earlier.std() * later.std()
        product = ((earlier - earlier.mean()) * (later - later.mean())).mean()
        found += [product / spread if spread > 0 else np.nan, np.abs(later - earlier).mean()]
    return np.array(found)


def _days_wear(days: Days, labels: Labels, example: int) -> np.ndarray:
    _, observed = _chosen(days, labels, example)
    return np.concatenate(
        [np.concatenate(list(_wear_of_signal(signal))) for signal in observed.swapaxes(0, 1)]
    )


def _wear_of_signal(observed: np.ndarray) -> Iterator[np.ndarray]:
    """Shares and gaps of one signal, observed (D, L)."""
    shares = observed.mean(axis=1)
    yield np.array([shares.mean(), shares.std(), shares.min(), shares.max(), (shares > 0).sum()])
    yield _hours(observed[:, None]).mean(axis=(0, 1, 3))
    edges = np.diff(np.pad(~observed, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    lengths = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    lengths = lengths / observed.shape[1]
    yield np.array(
        [len(lengths) / len(observed), lengths.mean() if len(lengths) else 0.0, lengths.max(initial=0)]
    )


def _interval_summary(days: Days, labels: Labels, example: int) -> np.ndarray:
    start, end = span_of(labels, example)
    before, within, after = (
        samples_between(days, first, last)
        for first, last in ((start - NEIGHBOUR_MINUTES, start), (start, end), (end, end + NEIGHBOUR_MINUTES))
    )
    everything = np.concatenate(list(days.values()), axis=1)
    own_mean, own_deviation = np.nanmean(everything, axis=1), np.nanstd(everything, axis=1)
    parts = []
    for samples in (within, before, after):
        parts += [
            np.nanmean(samples, axis=1),
            np.nanstd(samples, axis=1),
            np.fmax.reduce(samples, axis=1),
            np.fmin.reduce(samples, axis=1),
            (np.nanmean(samples, axis=1) - own_mean) / np.where(own_deviation > 0, own_deviation, np.nan),
            (~np.isnan(samples)).mean(axis=1),
        ]
    parts += list(np.nanquantile(within, QUANTILES_OF_INTERVALS, axis=1))
    angle = 2 * np.pi * ((start + end) / 2 % MINUTES_PER_DAY) / MINUTES_PER_DAY
    clock = [function(turns * angle) for turns in (1, 2) for function in (np.sin, np.cos)]
    hour = int((start + end) / 2 % MINUTES_PER_DAY // 60)
    parts += [np.array([*clock, hour, np.log(end - start)])]
    row = np.concatenate(parts)
    return np.full_like(row, np.nan) if np.isnan(within).all() else row


def _interval_wear(days: Days, labels: Labels, example: int) -> np.ndarray:
    start, end = span_of(labels, example)
    midnight = start // MINUTES_PER_DAY * MINUTES_PER_DAY
    spans = [(start - NEIGHBOUR_MINUTES, start), (start, end), (end, end + NEIGHBOUR_MINUTES)]
    spans += [(midnight + 60 * hour, midnight + 60 * (hour + 1)) for hour in range(24)]
    shares = [np.nan_to_num(samples_between(days, *span)).mean(axis=1) for span in spans]
    return np.concatenate(shares)


def day_of(labels: Labels, example: int) -> int:
    """The labelled day of an example, in days since 1970-01-01."""
    assert labels.dates is not None
    return int(np.datetime64(labels.dates[example], "D").astype(np.int64))


def span_of(labels: Labels, example: int) -> tuple[int, int]:
    """The labelled interval of an example, in minutes since 1970-01-01."""
    assert labels.spans is not None
    start, end = labels.spans[example].tolist()
    return start, end


def samples_between(days: Days, start: int, end: int) -> np.ndarray:
    """The samples (C, n) float64 that begin in these minutes of wall clock, NaN on days that are not there.

    A span shorter than a sample gives the sample in which it begins.
    """
    num_signals, num_samples = next(iter(days.values())).shape
    sample_minutes = max(MINUTES_PER_DAY // num_samples, 1)
    first, last = start // sample_minutes, max(-(-end // sample_minutes), start // sample_minutes + 1)
    samples_per_day = MINUTES_PER_DAY // sample_minutes
    found = np.full((num_signals, last - first), np.nan)
    for day in range(first // samples_per_day, (last - 1) // samples_per_day + 1):
        if day in days:
            values, offset = days[day], day * samples_per_day - first
            lower, upper = max(-offset, 0), min(num_samples, last - first - offset)
            if lower < upper:
                found[:, lower + offset : upper + offset] = values[:, lower:upper]
    return found


def _hours(values: np.ndarray) -> np.ndarray:
    """(D, C, L) as (D, C, 24, L / 24): the hours of a day, or 24 parts of a shorter one."""
    parts = values.shape[2] // 24
    return values[:, :, : parts * 24].reshape(*values.shape[:2], 24, parts)


def _mean_of(means: np.ndarray) -> np.ndarray:
    return np.nanmean(means, axis=0) if len(means) else np.full(means.shape[1], np.nan)
