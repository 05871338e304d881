"""Reconstruction of hidden parts of real days by a trained model and by simple fills, scored on the same
minutes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice, product

import numpy as np
from rich.console import Console
from rich.progress import track

from lsm2.data.fills.simple import Fill, VisibleDay
from lsm2.data.store import DayStore
from lsm2.errors import InputError
from lsm2.evaluate.days import (
    EvaluatedDay,
    constant_signals,
    fitting_normalization,
    learning_days,
    load_days,
    spread_over_people,
)
from lsm2.evaluate.machine import describe_machine, describe_versions
from lsm2.evaluate.methods import AIM, METHODS, OtherRun, fitted_fills
from lsm2.evaluate.other_models import check_comparable, predict_as
from lsm2.evaluate.results import Evaluation, Settings, TaskResult
from lsm2.evaluate.scores import ErrorSums, compare
from lsm2.evaluate.tasks import TASKS, HiddenTokens, Task
from lsm2.model.lsm2 import LSM2
from lsm2.model.precision import choose_precision

LARGEST = float(np.finfo(np.float32).max)
"""Physical values are kept below this: exp of a wild prediction is infinite, which JSON cannot hold."""


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
    all_people: bool = False,
    against: Mapping[OtherRun, LSM2] | None = None,
    progress: bool = True,
) -> Evaluation:
    """Errors of the model and of every other method of `METHODS` on every task.

    indices: days of the store that may be used; at most max_days are scored, spread over people, the others
    only inform fills that see other days of a person. training_days: days of training people that fills are
    fitted on (at most 512 of them; none: `indices`); a fill never uses what it learned from the person
    whose day it fills. draws: hidden sets per day and task; each depends on (seed, draw, task, day id) and
    that day's gaps alone. all_people is recorded. against: models of other runs, scored on the same minutes;
    `indices` should hold nobody that they were trained on. Errors are on normalised values and, per signal,
    in its unit too. Signals that never vary in training are not scored. Raises InputError where a model and
    the store do not fit, no day is given, a task is unknown, or predictions are not finite.
    """
    normalization = fitting_normalization(model, store)
    if unknown := sorted(set(tasks or ()) - set(TASKS)):
        raise InputError(f"unknown task {', '.join(unknown)}; choose among {', '.join(TASKS)}")
    if len(indices) == 0 or draws < 1 or (max_days is not None and max_days < 1):
        raise InputError("nothing to evaluate: give at least one day, one draw and max_days of at least 1")
    others = dict(against or {})
    for other, other_model in others.items():
        check_comparable(other.name, other_model, model)
    models = {AIM: model} | {other.name: other_model for other, other_model in others.items()}
    chosen = [task for name, task in TASKS.items() if tasks is None or name in tasks]
    day_ids, subjects = store.days["day_id"].to_pylist(), store.days["subject"].to_pylist()
    days = spread_over_people(indices, day_ids, subjects, max_days)
    people = sorted({subjects[index] for index in days})

    def watch(items: Sequence[int], description: str) -> Iterable[int]:
        console = Console(stderr=True)
        is_shown = progress and console.is_terminal
        return track(items, description, console=console, transient=True, disable=not is_shown)

    learned_from = training_days if len(training_days) else indices
    training = learning_days(store, normalization, model.config, learned_from, watch)
    constant = constant_signals(training, len(store.signals))
    fills = fitted_fills(training)

    scores = {task.name: TaskScores(store, people, constant, models) for task in chosen}
    loaded = load_days(store, normalization, model.config, days, indices)
    num_batches = -(-len(days) // batch_days)
    batch: list[EvaluatedDay] = []
    rounds = list(product(range(num_batches), chosen, range(draws)))
    for number in watch(range(len(rounds)), "evaluating"):
        _, task, draw = rounds[number]
        if number % (len(chosen) * draws) == 0:
            batch = list(islice(loaded, batch_days))
        scores[task.name].add_batch(fills, task, batch, seed, draw)

    device = next(model.parameters()).device
    return Evaluation(
        tasks={task.name: scores[task.name].result(task) for task in chosen},
        settings=Settings(
            draws=draws,
            seed=seed,
            num_days=len(days),
            num_people=len(people),
            precision=choose_precision(model.precision, device),
            machine=describe_machine(device),
            versions=describe_versions(),
            made=datetime.now().astimezone().isoformat(timespec="seconds"),
            store=str(store.path),
            all_people=all_people,
        ),
        constant_signals=tuple(
            signal.name for signal, is_constant in zip(store.signals, constant, strict=True) if is_constant
        ),
        other_runs=tuple(others),
    )


class TaskScores:
    """Errors of every method on one task, added batch by batch."""

    def __init__(
        self, store: DayStore, people: Sequence[str], constant: np.ndarray, models: Mapping[str, LSM2]
    ) -> None:
        self.signals, self.sample_minutes = store.signals, store.sample_minutes
        self.constant, self.models = constant, models
        self.normalization = fitting_normalization(models[AIM], store)
        self.patch_samples = models[AIM].config.patch_samples
        self.number_of = {person: number for number, person in enumerate(people)}
        self.sums = {method: ErrorSums(len(store.signals), len(people)) for method in {**models, **METHODS}}
        self.days_scored = self.days_skipped = 0

    def add_batch(
        self,
        fills: Mapping[str, Fill],
        task: Task,
        batch: Sequence[EvaluatedDay],
        seed: int,
        draw: int,
    ) -> None:
        """Hide part of each day, let every method fill it, and add the errors at the target minutes."""
        possible: list[tuple[EvaluatedDay, HiddenTokens]] = []
        for day in batch:
            patch_minutes = self.patch_samples * self.sample_minutes
            tokens = task.sample(day.token_observed, patch_minutes, day_id=day.day_id, seed=seed, draw=draw)
            if tokens is not None and (kept := tokens.without_targets_of(self.constant)) is not None:
                possible.append((day, kept))
        self.days_scored += len(possible)
        self.days_skipped += len(batch) - len(possible)
        if not possible:
            return
        hidden_tokens = np.stack([tokens.hidden for _, tokens in possible])
        target_tokens = np.stack([tokens.target for _, tokens in possible])
        in_unit = np.stack([day.in_unit for day, _ in possible])
        predicted = {
            name: predict_as(self.normalization, model, in_unit, hidden_tokens, target_tokens)
            for name, model in self.models.items()
        }
        for number, (day, tokens) in enumerate(possible):
            hidden, target = tokens.of_samples(len(day.values), self.patch_samples)
            visible = np.where(hidden, np.float32(np.nan), day.values)
            seen = VisibleDay(visible, day.person, self.sample_minutes, day.other_days)
            filled = {name: of_days[number] for name, of_days in predicted.items()}
            filled |= {name: fill(seen) for name, fill in fills.items()}
            self._add_day(day, target & ~np.isnan(day.values), filled)

    def _add_day(self, day: EvaluatedDay, target: np.ndarray, filled: Mapping[str, np.ndarray]) -> None:
        signal = np.nonzero(target)[0]
        for method, values in filled.items():
            error = values[target] - day.values[target]
            in_unit = np.clip(self.normalization.invert(values)[target], -LARGEST, LARGEST)
            error_in_unit = in_unit - day.in_unit[target]
            self.sums[method].add(self.number_of[day.person], signal, error, error_in_unit)

    def result(self, task: Task) -> TaskResult:
        """What was added so far."""
        patch_minutes = self.patch_samples * self.sample_minutes
        minutes = task.slots(patch_minutes) * patch_minutes if task.is_temporal else None
        if not self.days_scored:
            return TaskResult(self.days_scored, self.days_skipped, minutes)
        return TaskResult(
            self.days_scored,
            self.days_skipped,
            minutes,
            methods={method: sums.summary(self.signals) for method, sums in self.sums.items()},
            aim_over={
                method: compare(self.sums[AIM], sums) for method, sums in self.sums.items() if method != AIM
            },
        )
