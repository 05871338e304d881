"""One day of a store, a part of it hidden as a task hides it, and what the model says about that part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lsm2.data.signals import Signal
from lsm2.data.store import DayStore
from lsm2.errors import InputError
from lsm2.evaluate.days import fitting_normalization, observed_tokens
from lsm2.evaluate.tasks import TASKS, Task
from lsm2.model.inference import predict_hidden
from lsm2.model.lsm2 import LSM2


@dataclass(frozen=True)
class ReconstructedDay:
    """A day as it was measured, as the model saw it, and as the model reconstructed it; arrays (C, L)."""

    day_id: str
    task: Task
    signals: tuple[Signal, ...]
    sample_minutes: int
    measured: np.ndarray
    """Normalised, NaN = missing."""
    measured_in_unit: np.ndarray
    hidden: np.ndarray
    """Bool: hidden from the model by the task."""
    visible: np.ndarray
    """Bool: in a token that the model saw."""
    predicted: np.ndarray
    """Normalised, NaN where nothing was hidden."""
    predicted_in_unit: np.ndarray


def reconstruct_day(model: LSM2, store: DayStore, day_id: str, task: str) -> ReconstructedDay | None:
    """Hide part of a day and let the model reconstruct it; None where the day has too little data for the
    task.

    Raises InputError for an unknown day or task, and where model and store do not fit.
    """
    normalization = fitting_normalization(model, store)
    if task not in TASKS:
        raise InputError(f"unknown task {task!r}; choose among {', '.join(TASKS)}")
    in_unit = store.values(store.index(day_id))
    values = normalization.apply(in_unit)
    observed = observed_tokens(values, model.config)
    patch_samples = model.config.patch_samples
    tokens = TASKS[task].sample(observed, patch_samples * store.sample_minutes, day_id=day_id)
    if tokens is None:
        return None
    hidden, _ = tokens.of_samples(len(values), patch_samples)
    predicted = predict_hidden(model, values[None], tokens.hidden[None])[0]
    return ReconstructedDay(
        day_id=day_id,
        task=TASKS[task],
        signals=store.signals,
        sample_minutes=store.sample_minutes,
        measured=values,
        measured_in_unit=in_unit,
        hidden=hidden,
        visible=np.repeat(observed, patch_samples, axis=1) & ~hidden,
        predicted=predicted,
        predicted_in_unit=normalization.invert(predicted),
    )
