"""Reconstruction of hidden parts of real days by a trained model and by simple fills, which are scored on the same minutes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from lsm2.data.fills import (
    BASELINES,
    CoMoments,
    Habit,
    last,
    linear,
    mean,
    nearest,
    person_time_of_day,
    same_minute,
)
from lsm2.data.masking import token_observed
from lsm2.data.normalize import Normalization
from lsm2.data.store import DayStore
from lsm2.errors import InputError
from lsm2.evaluate.scores import ErrorSums, interval
from lsm2.evaluate.tasks import TASKS, HiddenTokens
from lsm2.model.inference import predict_hidden
from lsm2.model.mae import LSM2
from lsm2.model.precision import choose_precision
from lsm2.rng import keyed_rng

METHODS = ("aim", *BASELINES)
FORMAT_VERSION = 2
DAYS_OF_REGRESSION = 512
LEAST_RANGE = 1e-6
"""Of a signal's normalised values over many days; a signal that varies has a range of several units."""


@dataclass(frozen=True)
class EvaluatedDay:
    """One day as the evaluation needs it; values and in_unit (C, L) float32 with NaN = missing."""

    day_id: str
    person: int
    values: np.ndarray
    """Normalised."""
    in_unit: np.ndarray
    """Physical units."""
    token_observed: np.ndarray
    """(C, S) bool."""
    other_days: Habit | None
    """What that person did on the other days."""
    covariance: np.ndarray
    """(C, C) of the normalised signals, over other people."""


def evaluate_generative(
    model: LSM2,
    store: DayStore,
    indices: Sequence[int],
    *,
    draws: int = 1,
    seed: int = 0,
    batch_days: int = 8,
    max_days: int | None = 48,
    training_days: Sequence[int] = (),
    tasks: Sequence[str] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Errors of the model ("aim") and of every baseline on every task, as evaluation.json holds them.

    indices: days of the store that may be used; at most max_days are scored, spread over people, the others only inform
    person_time_of_day. training_days: days of the store that same_minute learns from (at most 512 of them), never from the person it
    fills; none: from `indices`. draws: hidden sets per day and task; each depends on (seed, draw, task, day id) and that day's gaps alone.
    Errors are on normalised values and, per signal, in its unit too. A task that no day allows is absent from "generative".
    Raises InputError where model and store do not fit, no day is given, or a task is unknown.
    """
    normalization = fitting_normalization(model, store)
    if unknown := sorted(set(tasks or ()) - set(TASKS)):
        raise InputError(f"unknown task {', '.join(unknown)}; choose among {', '.join(TASKS)}")
    if len(indices) == 0 or draws < 1 or (max_days is not None and max_days < 1):
        raise InputError("nothing to evaluate: give at least one day, one draw and max_days of at least 1")
    chosen = [TASKS[name] for name in TASKS if tasks is None or name in tasks]
    day_ids, subjects = store.days["day_id"].to_pylist(), store.days["subject"].to_pylist()
    days = spread_over_people(indices, day_ids, subjects, max_days)
    people = sorted({subjects[index] for index in days})
    sums = {
        task.name: {method: ErrorSums(len(store.signals), len(people)) for method in METHODS}
        for task in chosen
    }
    done = {task.name: {"days_scored": 0, "days_skipped": 0} for task in chosen}
    minutes_per_slot = store.sample_minutes * model.config.patch_samples

    learned_from = spread_over_people(
        training_days if len(training_days) else indices, day_ids, subjects, DAYS_OF_REGRESSION
    )
    constant = constant_signals(normalization, store, learned_from)
    loaded = _load(model, normalization, store, days, indices, learned_from)
    starts = range(0, len(days), batch_days)
    for _ in track(starts, "evaluating", console=Console(stderr=True), transient=True, disable=not progress):
        batch = list(islice(loaded, batch_days))
        for task in chosen:
            for draw in range(draws):
                asked = [
                    (
                        day,
                        task.draw(
                            day.token_observed, minutes_per_slot, day_id=day.day_id, seed=seed, draw=draw
                        ),
                    )
                    for day in batch
                ]
                possible = [
                    (day, kept) for day, tokens in asked if (kept := _without(tokens, constant)) is not None
                ]
                done[task.name]["days_scored"] += len(possible)
                done[task.name]["days_skipped"] += len(asked) - len(possible)
                if possible:
                    _score(model, normalization, store.sample_minutes, possible, sums[task.name])

    possible_tasks = [task for task in chosen if done[task.name]["days_scored"]]
    return {
        "format_version": FORMAT_VERSION,
        "generative": {
            task.name: {method: sums[task.name][method].summary(store.signals) for method in METHODS}
            for task in possible_tasks
        },
        "tasks": {
            task.name: done[task.name]
            | (
                {"minutes": task.slots(minutes_per_slot) * minutes_per_slot}
                if "temporal" in task.name
                else {}
            )
            | ({"aim_over": _ratios(sums[task.name])} if task in possible_tasks else {})
            for task in chosen
        },
        "settings": {
            "draws": draws,
            "seed": seed,
            "num_days": len(days),
            "num_people": len(people),
            "precision": choose_precision(model.precision, next(model.parameters()).device),
        },
        "constant_signals": [
            signal.name for signal, is_constant in zip(store.signals, constant, strict=True) if is_constant
        ],
    }


def constant_signals(normalization: Normalization, store: DayStore, days: Sequence[int]) -> np.ndarray:
    """(C,) bool: signals that never vary on these days, or were never measured, so that no error on them means anything."""
    low, high = np.full(len(store.signals), np.inf), np.full(len(store.signals), -np.inf)
    for index in days:
        values = normalization.apply(store.values(index))
        low = np.fmin(low, np.nanmin(values, axis=1, initial=np.inf, where=~np.isnan(values)))
        high = np.fmax(high, np.nanmax(values, axis=1, initial=-np.inf, where=~np.isnan(values)))
    return ~(high - low > LEAST_RANGE)


def _without(tokens: HiddenTokens | None, signals: np.ndarray) -> HiddenTokens | None:
    """The same tokens hidden, none of these signals (C,) bool scored; None where nothing is left to score."""
    if tokens is None:
        return None
    scored = tokens.scored & ~np.repeat(signals, len(tokens.scored) // len(signals))
    return HiddenTokens(tokens.hidden, scored) if scored.any() else None


def fitting_normalization(model: LSM2, store: DayStore) -> Normalization:
    """The model's normalisation; raises InputError where the model cannot read this store's days."""
    if model.normalization is None:
        raise InputError(
            "the model has no signals.json, so values cannot be normalised as in its training; pre-train it with `lsm2 pretrain`"
        )
    ours, theirs = [s.name for s in model.normalization.signals], [s.name for s in store.signals]
    if ours != theirs:
        raise InputError(
            f"the model was trained on the signals {', '.join(ours)}; store {store.path} has {', '.join(theirs)}"
        )
    if model.config.window_samples != store.num_samples:
        raise InputError(
            f"the model reads {model.config.window_samples} samples a day; store {store.path} has {store.num_samples}"
        )
    return model.normalization


def spread_over_people(
    indices: Sequence[int], day_ids: Sequence[str], subjects: Sequence[str], max_days: int | None
) -> list[int]:
    """At most max_days of the days, one of each person in turn in an order fixed by the names, sorted by person."""
    order = sorted(indices, key=lambda index: keyed_rng("evaluated day", day_ids[index]).random())
    turn: dict[str, int] = {}
    turns = []
    for index in order:
        turn[subjects[index]] = turn.get(subjects[index], 0) + 1
        turns.append((turn[subjects[index]], len(turns), index))
    return sorted((index for _, _, index in sorted(turns)[:max_days]), key=lambda index: day_ids[index])


def _load(
    model: LSM2,
    normalization: Normalization,
    store: DayStore,
    days: Sequence[int],
    usable: Sequence[int],
    learned_from: Sequence[int],
) -> Iterator[EvaluatedDay]:
    """The days in the order given, which keeps people together: one person's habits are in memory at a time."""
    day_ids, subjects = store.days["day_id"].to_pylist(), store.days["subject"].to_pylist()
    nothing = CoMoments.from_day(np.full((len(store.signals), 1), np.nan))
    of_person: dict[str, CoMoments] = {}
    for index in learned_from:
        of_person[subjects[index]] = of_person.get(subjects[index], nothing) + CoMoments.from_day(
            normalization.apply(store.values(index))
        )
    days_of_person: dict[str, list[int]] = {}
    for index in usable:
        days_of_person.setdefault(subjects[index], []).append(index)
    person, subject, habits, covariance = -1, None, {}, np.empty(0)
    for index in days:
        if subjects[index] != subject:
            person, subject = person + 1, subjects[index]
            habits = {
                i: Habit.from_day(normalization.apply(store.values(i)), store.sample_minutes)
                for i in days_of_person[subject]
            }
            covariance = sum(
                (moments for name, moments in of_person.items() if name != subject), nothing
            ).covariance()
        in_unit = store.values(index)
        values = normalization.apply(in_unit)
        observed = token_observed(
            ~np.isnan(values), model.config.patch_samples, model.config.masking.token_min_observed
        )
        others = [habit for i, habit in habits.items() if i != index]
        other_days = sum(others[1:], others[0]) if others else None
        yield EvaluatedDay(
            day_ids[index], person, values, in_unit, observed.reshape(len(values), -1), other_days, covariance
        )


def _score(
    model: LSM2,
    normalization: Normalization,
    sample_minutes: int,
    days: Sequence[tuple[EvaluatedDay, HiddenTokens]],
    sums: dict[str, ErrorSums],
) -> None:
    """Let every method fill the hidden tokens of these days and add its errors at the scored minutes."""
    values = np.stack([day.values for day, _ in days])
    hidden, scored = (
        np.stack([tokens.hidden for _, tokens in days]),
        np.stack([tokens.scored for _, tokens in days]),
    )
    predicted = predict_hidden(model, values, hidden, scored)
    patch = model.config.patch_samples
    for row, (day, tokens) in enumerate(days):
        visible = np.where(
            np.repeat(tokens.hidden, patch).reshape(day.values.shape), np.float32(np.nan), day.values
        )
        cells = np.repeat(tokens.scored, patch).reshape(day.values.shape) & ~np.isnan(day.values)
        signal = np.nonzero(cells)[0]
        fills = {
            "aim": predicted[row],
            "mean": mean(visible),
            "nearest": nearest(visible),
            "linear": linear(visible),
            "last": last(visible),
            "person_time_of_day": person_time_of_day(visible, day.other_days, sample_minutes),
            "same_minute": same_minute(visible, day.covariance),
        }
        for method, fill in fills.items():
            error_in_unit = normalization.invert(fill)[cells] - day.in_unit[cells]
            sums[method].add(day.person, signal, fill[cells] - day.values[cells], error_in_unit)


def _ratios(sums: dict[str, ErrorSums]) -> dict[str, Any]:
    """The model's mse over that of each baseline, with a 95 % interval over people where there are enough of them."""
    aim = sums["aim"]
    return {
        method: {
            "mse_ratio": float(aim.squared.sum() / other.squared.sum()) if other.squared.sum() else None,
            "interval": interval(aim.person_squared, other.person_squared),
        }
        for method, other in sums.items()
        if method != "aim"
    }
