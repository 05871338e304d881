"""The only list of compared methods. A new fill is one entry here; its code stands in lsm2/data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lsm2.data.fills import Fill, TrainingDays, last, linear, mean, nearest, person_time_of_day
from lsm2.data.fitted_fills import SameMinute, Smooth


@dataclass(frozen=True)
class Method:
    """A method that fills hidden minutes, as tables, figures and explanations show it."""

    name: str
    """In evaluation.json."""
    label: str
    colour: str
    note: str
    """One sentence for a reader who is no expert."""
    fill: Fill | None = None
    """A formula; None for a method that is fitted, and for the model."""
    fit: Callable[[TrainingDays], Fill] | None = None
    """Fits the method on training people."""
    sees_other_days: bool = False
    """Whether it looks at other days of the person, which the model does not see."""

    @property
    def marked_label(self) -> str:
        """The label, with a dagger where the method sees the person's other days."""
        return f"{self.label} †" if self.sees_other_days else self.label


AIM = "aim"
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            AIM,
            "AIM",
            "#0b4fb3",
            "The trained model: it reads the visible parts of all signals of a day and predicts the "
            "hidden ones.",
        ),
        Method(
            "mean",
            "training mean",
            "#9a9a9a",
            "Always says the signal's average over the people of the training.",
            fill=lambda day: mean(day.visible),
        ),
        Method(
            "nearest",
            "nearest",
            "#e6a100",
            "Repeats the visible minute of the same signal that is nearest in time.",
            fill=lambda day: nearest(day.visible),
        ),
        Method(
            "linear",
            "linear",
            "#c8441b",
            "Draws a straight line between the last visible minute before and the first one after.",
            fill=lambda day: linear(day.visible),
        ),
        Method(
            "last",
            "last value",
            "#7b5ea7",
            "Repeats the most recent visible minute of the same signal.",
            fill=lambda day: last(day.visible),
        ),
        Method(
            "smooth",
            "smooth",
            "#4a4a4a",
            "Averages the visible minutes of the same signal, near ones most, and leans on what is usual "
            "at that time of day where few are near; how wide and how strongly was chosen on the people "
            "of the training.",
            fit=Smooth.fit,
        ),
        Method(
            "same_minute",
            "same minute",
            "#c75a9b",
            "Estimates a signal from the others visible in the same minute, by linear regression learned "
            "on the people of the training.",
            fit=SameMinute.fit,
        ),
        Method(
            "person_time_of_day",
            "person's time of day",
            "#1b9e77",
            "Says the person's own average at that time of day; it sees all other days of that person, which "
            "the model does not.",
            fill=lambda day: person_time_of_day(day.visible, day.other_days, day.sample_minutes),
            sees_other_days=True,
        ),
    )
}
"""By name, in the order of tables; the model first, methods that see the person's other days last."""


def fitted_fills(training: TrainingDays) -> dict[str, Fill]:
    """Every method but the model as a function of a day; those that need it are fitted on these days."""
    fills: dict[str, Fill] = {}
    for name, method in METHODS.items():
        if method.fit is not None:
            fills[name] = method.fit(training)
        elif method.fill is not None:
            fills[name] = method.fill
    return fills
