"""What an evaluation found, typed, and as evaluation.json holds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lsm2.evaluate.methods import AIM, METHODS, Method, OtherRun, compared_methods

FORMAT_VERSION = 3
Interval = tuple[float, float]


@dataclass(frozen=True)
class SignalResult:
    """Errors of one method on one signal: on normalised values, and in the signal's unit."""

    mse: float
    mae: float
    rmse_in_unit: float
    mae_in_unit: float
    unit: str
    num_minutes: int
    """Target samples."""


@dataclass(frozen=True)
class MethodResult:
    """Errors of one method on one task, on normalised values of all signals together."""

    mse: float
    mae: float
    num_minutes: int
    """Target samples."""
    mse_interval: Interval | None
    """95 % interval of mse over people; None for too few of them."""
    per_signal: dict[str, SignalResult]


@dataclass(frozen=True)
class Comparison:
    """The model's mse over that of another method; None where the other makes no error."""

    mse_ratio: float | None
    interval: Interval | None
    """95 % interval over people, drawn together for both methods; None for too few of them."""


@dataclass(frozen=True)
class TaskResult:
    """One task: what every method got, on how many days."""

    days_scored: int
    days_skipped: int
    """Days with too little data for the task."""
    minutes: float | None = None
    """Length of the gap or of the forecast, in whole tokens."""
    methods: dict[str, MethodResult] = field(default_factory=dict)
    """By name; empty where no day allows the task."""
    aim_over: dict[str, Comparison] = field(default_factory=dict)
    """The model against each other method."""

    @property
    def aim(self) -> MethodResult:
        """The model's result."""
        return self.methods[AIM]

    def best_methods(self) -> set[str]:
        """The methods with the lowest mse among those that see one day only; several where they are equal."""
        one_day = {name: result.mse for name, result in self.methods.items() if not _sees_other_days(name)}
        return {name for name, mse in one_day.items() if mse == min(one_day.values())}

    def best_fill(self) -> str:
        """The fill with the lowest mse among those that see one day only; other trained models are none."""
        fills = [
            name for name in self.methods if name in METHODS and name != AIM and not _sees_other_days(name)
        ]
        return min(fills, key=lambda name: self.methods[name].mse)

    def better_with_other_days(self) -> list[str]:
        """The methods that see the person's other days and have a lower mse than every method that does
        not.
        """
        lowest = min(result.mse for name, result in self.methods.items() if not _sees_other_days(name))
        return [
            name for name, result in self.methods.items() if _sees_other_days(name) and result.mse < lowest
        ]


@dataclass(frozen=True)
class Settings:
    """How an evaluation was made."""

    draws: int
    seed: int
    num_days: int
    num_people: int
    precision: str
    """Of the model's matrix products: bf16 or fp32."""
    machine: str
    """Processor or GPU, and cores."""
    versions: str
    """Of this package, torch and Python."""
    made: str
    """Local date and time, ISO 8601."""
    store: str
    all_people: bool = False
    """Whether people of the training were evaluated too."""


@dataclass(frozen=True)
class Evaluation:
    """Everything that `lsm2 evaluate` found."""

    tasks: dict[str, TaskResult]
    """By name, tasks that no day allows included."""
    settings: Settings
    constant_signals: tuple[str, ...] = ()
    """Signals that never vary in the training data, so that nothing was scored on them."""
    other_runs: tuple[OtherRun, ...] = ()
    """Trained models that were scored too."""

    @property
    def methods(self) -> dict[str, Method]:
        """Every compared method by name, in the order of tables; the model first."""
        return compared_methods(self.other_runs)

    @property
    def scored(self) -> dict[str, TaskResult]:
        """The tasks that some day allows."""
        return {name: task for name, task in self.tasks.items() if task.methods}

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: errors under "generative" by task and method, counts and comparisons under
        "tasks".
        """
        plain = dataclasses.asdict(self)
        methods = {name: task.pop("methods") for name, task in plain["tasks"].items()}
        return {
            "format_version": FORMAT_VERSION,
            "generative": {name: results for name, results in methods.items() if results},
            **plain,
            "constant_signals": list(self.constant_signals),
            "other_runs": list(plain["other_runs"]),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_dict`; raises KeyError, TypeError or AttributeError for anything else."""
        tasks = {}
        for name, task in values["tasks"].items():
            methods = {
                method: _method_result(found) for method, found in values["generative"].get(name, {}).items()
            }
            aim_over = {
                method: Comparison(found["mse_ratio"], _interval(found["interval"]))
                for method, found in task["aim_over"].items()
            }
            tasks[name] = TaskResult(**task | {"methods": methods, "aim_over": aim_over})
        return cls(
            tasks,
            Settings(**values["settings"]),
            tuple(values["constant_signals"]),
            # Evaluations made before other runs could be given have no such entry.
            tuple(OtherRun(**other) for other in values.get("other_runs", ())),
        )


def _method_result(values: dict[str, Any]) -> MethodResult:
    per_signal = {name: SignalResult(**found) for name, found in values["per_signal"].items()}
    return MethodResult(
        **values | {"mse_interval": _interval(values["mse_interval"]), "per_signal": per_signal}
    )


def _interval(edges: list[float] | tuple[float, float] | None) -> Interval | None:
    return None if edges is None else (edges[0], edges[1])


def _sees_other_days(name: str) -> bool:
    return name in METHODS and METHODS[name].sees_other_days
