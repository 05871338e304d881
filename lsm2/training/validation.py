"""Held-out people scored during training: what is told of them, and when training ends early.

What is scored is handed in from above as a function; this room knows nothing of tasks and fills.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from lsm2.data.store import DayStore
from lsm2.model.lsm2 import LSM2


class TaskScore(NamedTuple):
    """Mean squared errors on the same hidden minutes of held-out people, normalised values."""

    task: str
    """As a sentence calls it."""
    error: float
    """Of the model."""
    best_fill: str
    """The best of the fills that see no more than the model does."""
    fill_error: float


Validate = Callable[[LSM2], Sequence[TaskScore]]
MakeValidate = Callable[[LSM2, DayStore, Sequence[int], Sequence[int]], Validate]
"""From a new model, the store, days of held-out people and days of training people."""
WORSE = 1.02
"""An error on held-out people so many times its lowest, twice running, is told of."""


@dataclass
class Validations:
    """The validations of a run so far."""

    patience: int | None
    errors: list[float] = field(default_factory=list)
    """Mean of the model's error over the fill's, validation by validation."""
    steps: list[int] = field(default_factory=list)

    @classmethod
    def from_metrics(cls, metrics: Sequence[dict[str, Any]], patience: int | None) -> Validations:
        """Those that metrics.jsonl records."""
        past = cls(patience)
        for line in metrics:
            if "validation" in line:
                past.add(line["step"], [TaskScore(**score) for score in line["validation"]])
        return past

    def add(self, step: int, scores: Sequence[TaskScore]) -> None:
        """Take in the scores after a step, counted from 1."""
        self.steps.append(step)
        self.errors.append(float(np.mean([score.error / score.fill_error for score in scores])))

    @property
    def best_step(self) -> int:
        """After which step the error was lowest."""
        return self.steps[self._best]

    @property
    def newest_is_best(self) -> bool:
        """Whether no validation before was as good."""
        return self._best == len(self.errors) - 1

    @property
    def run_out(self) -> bool:
        """Whether the last `patience` validations brought nothing better."""
        return self.patience is not None and len(self.errors) - 1 - self._best >= self.patience

    @property
    def overfits(self) -> bool:
        """Whether the last two validations were clearly worse than the best one."""
        best = self.errors[self._best] if self.errors else 0.0
        return len(self.errors) > 2 and min(self.errors[-2:]) > WORSE * best

    @property
    def _best(self) -> int:
        return int(np.argmin(self.errors)) if self.errors else 0


def describe_scores(step: int, scores: Sequence[TaskScore]) -> str:
    """A line for whoever watches."""
    told = "; ".join(
        f"{score.task} {score.error:.3f} ({score.best_fill} {score.fill_error:.3f})" for score in scores
    )
    return f"step {step}: error on held-out people: {told}"


def describe_overfitting(validations: Validations) -> str:
    """What to do when held-out people get worse."""
    return (
        f"held-out people were best after step {validations.best_step} and get worse since: the model learns "
        "these training people by heart; take fewer steps or --patience, more people, or a smaller model"
    )
