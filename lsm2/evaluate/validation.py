"""A model in training, scored on hidden parts of held-out people's days and beside the best fill."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lsm2.data.fills.simple import VisibleDay
from lsm2.data.store import DayStore
from lsm2.errors import InputError
from lsm2.evaluate.days import (
    constant_signals,
    fitting_normalization,
    learning_days,
    load_days,
    spread_over_people,
)
from lsm2.evaluate.methods import METHODS, fitted_fills
from lsm2.evaluate.tasks import TASKS
from lsm2.model.inference import predict_hidden
from lsm2.model.lsm2 import LSM2
from lsm2.progress import counted
from lsm2.training.validation import TaskScore, Validate

VALIDATION_TASKS = ("random_80", "temporal_interpolation_60")
MOST_VALIDATION_DAYS = 32


def prepare_validation(
    model: LSM2,
    store: DayStore,
    days: Sequence[int],
    training_days: Sequence[int],
    progress: bool = True,
) -> Validate:
    """A function that scores a model of this shape and normalisation; for `pretrain(..., validate=...)`.

    It hides parts of at most 32 of the `days`, spread over people, once for all: `random_80` and
    `temporal_interpolation_60`. The fills are fitted on `training_days`; the best of those that see one day,
    task by task, is the mark to beat. Raises InputError where nothing can be hidden.
    """
    normalization = fitting_normalization(model, store)
    day_ids, subjects = store.days["day_id"].to_pylist(), store.days["subject"].to_pylist()
    training = learning_days(
        store, normalization, model.config, training_days, lambda items, what: counted(items, what, progress)
    )
    constant = constant_signals(training, len(store.signals))
    fills = {name: fill for name, fill in fitted_fills(training).items() if not METHODS[name].sees_other_days}
    chosen = spread_over_people(days, day_ids, subjects, MOST_VALIDATION_DAYS)
    loaded = list(load_days(store, normalization, model.config, chosen, chosen))
    tasks = {}
    for name in VALIDATION_TASKS:
        values, hidden, targets, fill_errors = [], [], [], dict.fromkeys(fills, 0.0)
        for day in loaded:
            tokens = TASKS[name].sample(day.token_observed, model.config.patch_minutes, day_id=day.day_id)
            tokens = tokens.without_targets_of(constant) if tokens is not None else None
            if tokens is None:
                continue
            hides, asked = tokens.of_samples(len(day.values), model.config.patch_samples)
            target = asked & ~np.isnan(day.values)
            visible = np.where(hides, np.float32(np.nan), day.values)
            seen = VisibleDay(visible, day.person, store.sample_minutes, None)
            for fill_name, fill in fills.items():
                error = (fill(seen)[target] - day.values[target]).astype(np.float64)
                fill_errors[fill_name] += float((error**2).sum())
            values.append(day.values)
            hidden.append(tokens.hidden)
            targets.append((tokens.target, target))
        if values:
            best = min(fill_errors, key=lambda fill_name: fill_errors[fill_name])
            queries, target = (np.stack(part) for part in zip(*targets, strict=True))
            mark = METHODS[best].label, fill_errors[best] / target.sum()
            tasks[TASKS[name].label] = np.stack(values), np.stack(hidden), queries, target, mark
    if not tasks:
        raise InputError(
            f"validate_every: no day of the people held out of {store.path} has enough data to hide some of "
            "it; raise heldout_fraction or train without"
        )

    def validate(model: LSM2) -> list[TaskScore]:
        scores = []
        for task, (values, hidden, queries, target, (label, fill_error)) in tasks.items():
            predicted = predict_hidden(model, values, hidden, queries)
            error = (predicted[target] - values[target]).astype(np.float64)
            scores.append(TaskScore(task, float((error**2).mean()), label, fill_error))
        return scores

    return validate
