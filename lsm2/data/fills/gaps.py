"""Filling the gaps of a day before a model sees it, as models did before AIM (LSM-1, arXiv 2410.13638)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lsm2.config import LSM2Config
from lsm2.data.fills.fitted import (
    BANDWIDTH_MINUTES,
    SHRINKAGES,
    Smooth,
    kernel_mean,
    usual_half_hours,
)
from lsm2.data.fills.simple import TimeOfDay, TrainingDays, half_hours, linear, neighbours
from lsm2.data.masking import hide_random, hide_slots, token_observed
from lsm2.data.normalize import Normalization
from lsm2.data.store import DayStore
from lsm2.progress import counted
from lsm2.rng import keyed_rng

LONGEST_LINE_MINUTES = 180
"""A longer gap is not interpolated: it takes the population's time of day."""
MOST_DAYS = 512
"""Of the training days, the fill is fitted on this many, spread evenly."""
HIDDEN_SHARE, HIDDEN_MINUTES = 0.8, 60
"""What is hidden when `smooth` chooses its bandwidths: so much at random, then a gap of so many minutes."""


@dataclass(frozen=True, eq=False)
class GapFill:
    """Fills all gaps of a day from its measured samples and from what is usual in training.

    Without choices it is `linear`: gaps of up to three hours between measured samples are interpolated, all
    others take the population's time of day. With them it is `smooth`: a kernel mean of the signal's samples,
    drawn towards the population's time of day where few are near.
    """

    sample_minutes: int
    usual: np.ndarray
    """(C, half hours) float64: the training population's mean by time of day, normalised."""
    choices: np.ndarray | None = None
    """(2, C) int64: each signal's bandwidth and shrinkage, as numbers in the lists of `fitted`."""

    def __call__(self, day: np.ndarray) -> np.ndarray:
        """A day (C, L) float32, normalised, NaN = missing, with every gap filled; measured samples stay.

        A day with nothing measured stays empty.
        """
        missing = np.isnan(day)
        if missing.all():
            return day
        usual = self.usual[:, half_hours(day.shape[1], self.sample_minutes)].astype(day.dtype)
        if self.choices is None:
            before, after = neighbours(day)
            minutes = (after - before - 1) * self.sample_minutes
            between = (before >= 0) & (after < day.shape[1]) & (minutes <= LONGEST_LINE_MINUTES)
            filled = np.where(between, linear(day), usual)
        else:
            bandwidth, shrinkage = self.choices
            filled = kernel_mean(day, usual, bandwidth, shrinkage, self.sample_minutes)
        return np.where(missing, filled, day)

    def fits(self, config: LSM2Config) -> bool:
        """Whether it fills the days that a model of this configuration reads, in the way that it says."""
        num_half_hours = half_hours(config.window_samples, config.sample_minutes)[-1] + 1
        return (
            self.sample_minutes == config.sample_minutes
            and self.usual.shape == (config.num_signals, num_half_hours)
            and bool(np.isfinite(self.usual).all())
            and config.fill_gaps == ("linear" if self.choices is None else "smooth")
            and (self.choices is None or self.choices.shape == (2, config.num_signals))
        )

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold."""
        values = {"sample_minutes": self.sample_minutes, "usual_by_half_hour": self.usual.tolist()}
        if self.choices is None:
            return values
        bandwidth, shrinkage = self.choices
        return values | {
            "bandwidth_minutes": np.take(BANDWIDTH_MINUTES, bandwidth).tolist(),
            "shrinkage": np.take(SHRINKAGES, shrinkage).tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GapFill:
        """The inverse of `to_dict`; raises KeyError, TypeError or ValueError for anything else."""
        choices = None
        if "bandwidth_minutes" in values:
            bandwidth = [BANDWIDTH_MINUTES.index(minutes) for minutes in values["bandwidth_minutes"]]
            shrinkage = [SHRINKAGES.index(weight) for weight in values["shrinkage"]]
            choices = np.array([bandwidth, shrinkage])
        usual = np.array(values["usual_by_half_hour"], dtype=np.float64)
        return cls(values["sample_minutes"], usual, choices)


def fit_gap_fill(
    config: LSM2Config, store: DayStore, indices: Sequence[int], normalization: Normalization
) -> GapFill:
    """Fit what `config.fill_gaps` asks for on training days `indices` of a store; shows a progress bar.

    At most 512 of the days are read, spread evenly.
    """
    days = list(indices[:: max(1, -(-len(indices) // MOST_DAYS))])
    training = _learned_from(config, store, days, normalization)
    if config.fill_gaps == "linear":
        empty = TimeOfDay.from_day(
            np.full((config.num_signals, config.window_samples), np.nan), store.sample_minutes
        )
        sums = (
            TimeOfDay.from_day(values, store.sample_minutes)
            for _, _, values in training.read("learning time of day")
        )
        return GapFill(store.sample_minutes, usual_half_hours(sum(sums, empty)))
    smooth = Smooth.fit(training)
    choices = smooth.choice(None, config.num_signals)
    return GapFill(store.sample_minutes, usual_half_hours(smooth.population), choices)


def _learned_from(
    config: LSM2Config, store: DayStore, days: Sequence[int], normalization: Normalization
) -> TrainingDays:
    day_ids, subjects = store.days["day_id"].to_pylist(), store.days["subject"].to_pylist()

    def hide(number: int, values: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        seen = ~np.isnan(values)
        observed = token_observed(seen, config.patch_samples, config.masking.token_min_observed)
        rng = keyed_rng("gap fill", day_ids[days[number]])
        num_slots = max(1, int(observed.reshape(len(values), -1).any(0).sum()))
        share = min(1.0, HIDDEN_MINUTES / config.patch_minutes / num_slots)
        for tokens in (
            hide_random(observed, HIDDEN_SHARE, rng),
            hide_slots(observed, config.num_signals, share, True, rng),
        ):
            hidden = np.repeat(tokens, config.patch_samples).reshape(values.shape)
            if (target := hidden & seen).any():
                yield hidden, target

    return TrainingDays(
        people=[subjects[index] for index in days],
        values=lambda number: normalization.apply(store.values(days[number])),
        hide=hide,
        sample_minutes=store.sample_minutes,
        watch=lambda numbers, description: counted(numbers, description, progress=True),
    )
