"""The generative tasks of LSM-2: which tokens of a day are hidden from every method, and which are the
target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lsm2.rng import keyed_rng, random_choice

Kind = Literal["random", "interpolation", "extrapolation", "signal"]


@dataclass(frozen=True)
class HiddenTokens:
    """One draw of a task on one day, both (N,) bool with token id = signal * num_slots + slot."""

    hidden: np.ndarray
    """True where no method may see anything."""
    target: np.ndarray
    """True where errors count: a subset of hidden, and of the tokens with enough data."""

    def without_targets_of(self, signals: np.ndarray) -> HiddenTokens | None:
        """The same tokens hidden, no target in these signals (C,) bool; None where no target is left."""
        target = self.target & ~np.repeat(signals, len(self.target) // len(signals))
        return HiddenTokens(self.hidden, target) if target.any() else None

    def of_samples(self, num_signals: int, patch_samples: int) -> tuple[np.ndarray, np.ndarray]:
        """hidden and target for every sample, (C, L) bool each."""
        hidden, target = (
            np.repeat(tokens, patch_samples).reshape(num_signals, -1) for tokens in (self.hidden, self.target)
        )
        return hidden, target


@dataclass(frozen=True)
class Task:
    """A way of hiding part of a day; `amount` is a fraction of the tokens, a number of minutes, or a number
    of signals.
    """

    name: str
    kind: Kind
    amount: float

    @property
    def label(self) -> str:
        """What tables and figures call it."""
        if self.kind == "random":
            return f"random {100 * self.amount:.0f} %"
        if self.kind == "signal":
            return f"{self.amount:g} signal{'s' if self.amount > 1 else ''} all day"
        return f"{'gap' if self.kind == 'interpolation' else 'forecast'} {self.amount:g} min"

    @property
    def phrase(self) -> str:
        """What a sentence calls it."""
        if self.kind == "random":
            return f"{100 * self.amount:.0f} % hidden at random"
        if self.kind == "signal":
            return f"{self.amount:g} signal{'s' if self.amount > 1 else ''} hidden all day"
        return f"a {'gap' if self.kind == 'interpolation' else 'forecast'} of {self.amount:g} min"

    @property
    def is_temporal(self) -> bool:
        """Whether it hides a stretch of time in all signals."""
        return self.kind in ("interpolation", "extrapolation")

    def slots(self, minutes_per_slot: float) -> int:
        """Slots that a temporal task hides: its minutes in whole tokens, at least one."""
        return max(1, round(self.amount / minutes_per_slot))

    def sample(
        self,
        token_observed: np.ndarray,
        minutes_per_slot: float,
        *,
        day_id: str,
        seed: int = 0,
        draw: int = 0,
    ) -> HiddenTokens | None:
        """Tokens hidden on a day with token_observed (C, S) bool; None where the day has too little data
        for the task.

        The result depends on the arguments alone: neither on other days nor on the order or batch they come
        in.
        """
        rng = keyed_rng("generative", self.name, seed, draw, day_id)
        regions = _SAMPLE[self.kind](self, token_observed, minutes_per_slot, rng)
        if regions is None:
            return None
        hidden, region = regions
        target = region & token_observed
        if not target.any() or not (token_observed & ~hidden).any():
            return None
        return HiddenTokens(hidden.reshape(-1), target.reshape(-1))


Regions = tuple[np.ndarray, np.ndarray] | None


def _random(task: Task, observed: np.ndarray, minutes_per_slot: float, rng: np.random.Generator) -> Regions:
    """A fraction of the tokens with data, each as likely as any other."""
    tokens = np.flatnonzero(observed)
    if len(tokens) < 2:
        return None
    count = min(max(1, round(task.amount * len(tokens))), len(tokens) - 1)
    hidden = np.zeros(observed.size, dtype=bool)
    hidden[random_choice(tokens, count, rng)] = True
    hidden = hidden.reshape(observed.shape)
    return hidden, hidden


def _interpolation(
    task: Task, observed: np.ndarray, minutes_per_slot: float, rng: np.random.Generator
) -> Regions:
    """A block of all signals that starts and ends on a slot with data, with data somewhere before and
    somewhere after it.
    """
    length, has_data = task.slots(minutes_per_slot), np.any(observed, axis=0)
    places = np.flatnonzero(has_data)
    if len(places) == 0:
        return None
    starts = places[(places > places[0]) & (places + length - 1 < places[-1])]
    starts = starts[has_data[starts + length - 1]]
    if len(starts) == 0:
        return None
    hidden = np.zeros_like(observed)
    start = int(random_choice(starts, 1, rng)[0])
    hidden[:, start : start + length] = True
    return hidden, hidden


def _extrapolation(
    task: Task, observed: np.ndarray, minutes_per_slot: float, rng: np.random.Generator
) -> Regions:
    """Everything from a slot with data on, with data before it; only the first `minutes` after the cut are
    the target.
    """
    length, num_slots = task.slots(minutes_per_slot), observed.shape[1]
    places = np.flatnonzero(observed.any(axis=0))
    cuts = places[1:][places[1:] + length <= num_slots]
    if len(cuts) == 0:
        return None
    hidden, region = np.zeros_like(observed), np.zeros_like(observed)
    cut = int(random_choice(cuts, 1, rng)[0])
    hidden[:, cut:] = True
    region[:, cut : cut + length] = True
    return hidden, region


def _signal(task: Task, observed: np.ndarray, minutes_per_slot: float, rng: np.random.Generator) -> Regions:
    """Whole signals, all day, out of those with data; at least one signal with data stays."""
    signals = np.flatnonzero(observed.any(axis=1))
    if len(signals) <= task.amount:
        return None
    hidden = np.zeros_like(observed)
    hidden[random_choice(signals, int(task.amount), rng)] = True
    return hidden, hidden


_SAMPLE: dict[Kind, Callable[[Task, np.ndarray, float, np.random.Generator], Regions]] = {
    "random": _random,
    "interpolation": _interpolation,
    "extrapolation": _extrapolation,
    "signal": _signal,
}

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        *(Task(f"random_{percent}", "random", percent / 100) for percent in (30, 50, 80)),
        *(
            Task(f"temporal_interpolation_{minutes}", "interpolation", minutes)
            for minutes in (10, 30, 60, 180)
        ),
        *(
            Task(f"temporal_extrapolation_{minutes}", "extrapolation", minutes)
            for minutes in (10, 30, 60, 180)
        ),
        *(Task(f"signal_imputation_{signals}", "signal", signals) for signals in (1, 2, 6)),
    )
}
"""The 14 tasks of `lsm2 evaluate`, by the name that evaluation.json gives them."""
