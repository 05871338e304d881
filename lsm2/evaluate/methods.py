"""The only list of compared methods. A new fill is one entry here; its code stands in lsm2/data.

Other trained runs join the list for one evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lsm2.config import FillGaps
from lsm2.data.fills.fitted import SameMinute, Smooth
from lsm2.data.fills.ridge import Ridge
from lsm2.data.fills.simple import Fill, TrainingDays, last, linear, mean, nearest, person_time_of_day
from lsm2.progress import printable


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
            "ridge",
            "ridge",
            "#7a0026",
            "Estimates a signal from the visible minutes of all signals, in the same minute and around it, "
            "and from what is usual at that time of day, by linear regression learned on the people of the "
            "training.",
            fit=Ridge.fit,
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


OTHER_RUN_COLOURS = ("#12a4c0", "#8a5a2b", "#7fa52a", "#f2a3b8", "#0f5f5c", "#b9c4d6")
"""Of the runs that the model is compared with, in turn."""
FIRST_GENERATION = "impute_first"
"""The name of such a run, where it is the only one."""


@dataclass(frozen=True)
class OtherRun:
    """Another trained model that is scored on the same minutes."""

    name: str
    """In evaluation.json, unlike that of any other method."""
    run: str
    """Its run folder."""
    fill_gaps: FillGaps
    """How the gaps of days are filled before it sees them."""


def name_runs(runs: Sequence[tuple[str, FillGaps]]) -> list[OtherRun]:
    """Runs, given as folder and `fill_gaps`, with names that no other method has.

    A run has its folder's name; the only one that was trained on filled days is `impute_first`.
    """
    num_filled = sum(fill_gaps != "none" for _, fill_gaps in runs)
    named: dict[str, OtherRun] = {}
    for run, fill_gaps in runs:
        wanted = FIRST_GENERATION if fill_gaps != "none" and num_filled == 1 else Path(run).resolve().name
        name, number = wanted, 1
        while name in METHODS or name in named:
            number += 1
            name = f"{wanted}_{number}"
        named[name] = OtherRun(name, run, fill_gaps)
    return list(named.values())


def compared_methods(other_runs: Sequence[OtherRun]) -> dict[str, Method]:
    """By name, in the order of tables: the model, other runs, the methods that are no models."""
    others = {
        other.name: Method(
            other.name,
            printable(other.name).replace("_", " "),
            OTHER_RUN_COLOURS[number % len(OTHER_RUN_COLOURS)],
            _note_on(other),
        )
        for number, other in enumerate(other_runs)
    }
    return {AIM: METHODS[AIM]} | others | METHODS


def _note_on(other: OtherRun) -> str:
    run = printable(other.run)
    if other.fill_gaps == "none":
        return f"Another trained model, of run {run}."
    return (
        f"Another trained model, of run {run}, as in the first generation: the gaps of a day are filled "
        f"first ({other.fill_gaps}), and the model takes what was filled for measured."
    )


def fitted_fills(training: TrainingDays) -> dict[str, Fill]:
    """Every method but the model as a function of a day; those that need it are fitted on these days."""
    fills: dict[str, Fill] = {}
    for name, method in METHODS.items():
        if method.fit is not None:
            fills[name] = method.fit(training)
        elif method.fill is not None:
            fills[name] = method.fill
    return fills
