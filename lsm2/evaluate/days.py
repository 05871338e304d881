"""Days of a store as the evaluation reads them: those to be scored, and those that fills are fitted on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from lsm2.config import LSM2Config
from lsm2.data.fills.simple import TimeOfDay, TrainingDays
from lsm2.data.masking import token_observed
from lsm2.data.normalize import Normalization
from lsm2.data.store import DayStore
from lsm2.errors import InputError
from lsm2.evaluate.tasks import TASKS
from lsm2.model.lsm2 import LSM2
from lsm2.rng import keyed_rng

MOST_TRAINING_DAYS = 512
"""Of the days of training people, fitted fills and the search for constant signals look at this many."""
LEARNED_TASKS = ("random_80", "temporal_interpolation_60")
"""How days of training people are hidden when a fill chooses its settings."""
WIDELY_LEARNED_TASKS = (
    "random_30",
    "random_80",
    "temporal_interpolation_60",
    "temporal_interpolation_180",
    "temporal_extrapolation_180",
    "signal_imputation_2",
    "signal_imputation_6",
)
"""How they are hidden when a fill learns a regression for each way of hiding."""
LEAST_RANGE = 1e-6
"""Of a signal's normalised values over many days; a signal that varies has a range of several units."""


@dataclass(frozen=True)
class EvaluatedDay:
    """One day as the evaluation needs it; values and in_unit (C, L) float32 with NaN = missing."""

    day_id: str
    person: str
    values: np.ndarray
    """Normalised."""
    in_unit: np.ndarray
    """Physical units."""
    token_observed: np.ndarray
    """(C, S) bool."""
    other_days: TimeOfDay | None
    """The person's other days."""


def fitting_normalization(model: LSM2, store: DayStore) -> Normalization:
    """The model's normalisation; raises InputError where the model cannot read this store's days."""
    if model.normalization is None:
        raise InputError(
            "the model has no signals.json, so values cannot be normalised as in its training; "
            "pre-train it with `lsm2 pretrain`"
        )
    ours = [signal.name for signal in model.normalization.signals]
    theirs = [signal.name for signal in store.signals]
    if ours != theirs:
        raise InputError(
            f"the model was trained on the signals {', '.join(ours)}; "
            f"store {store.path} has {', '.join(theirs)}"
        )
    if model.config.window_samples != store.num_samples:
        raise InputError(
            f"the model reads {model.config.window_samples} samples a day; "
            f"store {store.path} has {store.num_samples}"
        )
    return model.normalization


def spread_over_people(
    indices: Sequence[int], day_ids: Sequence[str], subjects: Sequence[str], max_days: int | None
) -> list[int]:
    """At most max_days of the days, one of each person in turn in an order fixed by their ids, sorted by
    id.
    """
    order = sorted(indices, key=lambda index: keyed_rng("evaluated day", day_ids[index]).random())
    turn: dict[str, int] = {}
    turns = []
    for index in order:
        turn[subjects[index]] = turn.get(subjects[index], 0) + 1
        turns.append((turn[subjects[index]], len(turns), index))
    return sorted((index for _, _, index in sorted(turns)[:max_days]), key=lambda index: day_ids[index])


def load_days(
    store: DayStore,
    normalization: Normalization,
    config: LSM2Config,
    days: Sequence[int],
    usable: Sequence[int],
) -> Iterator[EvaluatedDay]:
    """The days, in an order that keeps people together: other days of one person are in memory at a time.

    usable: the days that count as other days of their person.
    """
    day_ids, subjects = store.days["day_id"].to_pylist(), store.days["subject"].to_pylist()
    days_of_person: dict[str, list[int]] = {}
    for index in usable:
        days_of_person.setdefault(subjects[index], []).append(index)
    person, of_day = None, {}
    for index in days:
        subject = subjects[index]
        if subject != person:
            person = subject
            of_day = {
                other: TimeOfDay.from_day(normalization.apply(store.values(other)), store.sample_minutes)
                for other in days_of_person[subject]
            }
        others = [sums for other, sums in of_day.items() if other != index]
        in_unit = store.values(index)
        values = normalization.apply(in_unit)
        yield EvaluatedDay(
            day_id=day_ids[index],
            person=subject,
            values=values,
            in_unit=in_unit,
            token_observed=observed_tokens(values, config),
            other_days=sum(others[1:], others[0]) if others else None,
        )


def learning_days(
    store: DayStore,
    normalization: Normalization,
    config: LSM2Config,
    indices: Sequence[int],
    watch: Callable[[Sequence[int], str], Iterable[int]],
) -> TrainingDays:
    """At most MOST_TRAINING_DAYS of the days, spread over people, for fills to learn from."""
    day_ids, subjects = store.days["day_id"].to_pylist(), store.days["subject"].to_pylist()
    days = spread_over_people(indices, day_ids, subjects, MOST_TRAINING_DAYS)
    patch_minutes = config.patch_samples * store.sample_minutes

    def hide(
        names: Sequence[str], number: int, values: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        observed = observed_tokens(values, config)
        for name in names:
            tokens = TASKS[name].sample(observed, patch_minutes, day_id=day_ids[days[number]])
            if tokens is not None:
                hidden, target = tokens.of_samples(len(values), config.patch_samples)
                yield hidden, target & ~np.isnan(values)

    return TrainingDays(
        people=[subjects[index] for index in days],
        values=lambda number: normalization.apply(store.values(days[number])),
        hide=partial(hide, LEARNED_TASKS),
        sample_minutes=store.sample_minutes,
        watch=watch,
        hide_widely=partial(hide, WIDELY_LEARNED_TASKS),
    )


def constant_signals(training: TrainingDays, num_signals: int) -> np.ndarray:
    """(C,) bool: signals that never vary on these days, or were never measured: an error on them says
    nothing.
    """
    low, high = np.full(num_signals, np.inf), np.full(num_signals, -np.inf)
    for _, _, values in training.read("looking at training days"):
        seen = ~np.isnan(values)
        low = np.minimum(low, np.min(values, axis=1, initial=np.inf, where=seen))
        high = np.maximum(high, np.max(values, axis=1, initial=-np.inf, where=seen))
    return ~(high - low > LEAST_RANGE)


def observed_tokens(values: np.ndarray, config: LSM2Config) -> np.ndarray:
    """(C, S) bool: tokens with enough data, of a day (C, L) with NaN = missing."""
    tokens = token_observed(~np.isnan(values), config.patch_samples, config.masking.token_min_observed)
    return tokens.reshape(len(values), -1)
