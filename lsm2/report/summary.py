"""The words that the terminal and the page share: the headline, and names as they are shown."""

from __future__ import annotations

from lsm2.evaluate.methods import METHODS
from lsm2.evaluate.results import Comparison, Evaluation, TaskResult
from lsm2.evaluate.tasks import TASKS
from lsm2.progress import printable

HEADLINE_TASKS = ("random_80", "temporal_interpolation_60", "signal_imputation_2")


def headline(evaluation: Evaluation) -> list[str]:
    """For each headline task: AIM against the best fill, whether it is worse than the mean, and who sees
    more.
    """
    return [
        f"{_capitalised(TASKS[name].phrase)}: {_verdict(evaluation, evaluation.tasks[name])}"
        for name in HEADLINE_TASKS
        if name in evaluation.scored
    ]


def spelled_out(name: str) -> str:
    """A printable name with spaces for underscores."""
    return printable(name.replace("_", " "))


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _verdict(evaluation: Evaluation, task: TaskResult) -> str:
    best = task.best_fill()
    aim, fill = task.aim.mse, task.methods[best].mse
    comparison = task.aim_over[best]
    label = METHODS[best].label
    figures = f"({aim:.3f} against {fill:.3f}; {_interval(comparison)})"
    if comparison.mse_ratio is None:
        said = [f"The best simple fill, {label}, makes no error; AIM's squared error is {aim:.3g}."]
    elif comparison.interval is not None and comparison.interval[0] <= 1 <= comparison.interval[1]:
        said = [
            f"AIM cannot be told apart from the best simple fill, {label}. Its squared error is "
            f"{_change(comparison.mse_ratio)} {figures}."
        ]
    elif aim < fill:
        said = [
            f"AIM is better than every simple fill. Its squared error is {_change(comparison.mse_ratio)} "
            f"than that of {label}, the best of them {figures}."
        ]
    else:
        said = [
            f"AIM is WORSE than the best simple fill. Its squared error is {_change(comparison.mse_ratio)} "
            f"than that of {label} {figures}."
        ]
    if aim > task.methods["mean"].mse and best != "mean":
        said.append(f"AIM is even worse than the training mean ({task.methods['mean'].mse:.3f}).")
    for other in evaluation.other_runs:
        comparison = task.aim_over[other.name]
        if comparison.mse_ratio is not None:
            said.append(
                f"Against the model {evaluation.methods[other.name].label} its squared error is "
                f"{_change(comparison.mse_ratio)} (against {task.methods[other.name].mse:.3f}; "
                f"{_interval(comparison)})."
            )
    for name in task.better_with_other_days():
        said.append(
            f"{METHODS[name].marked_label} has {task.methods[name].mse:.3f}; it sees the person's other "
            "days, which AIM does not."
        )
    return " ".join(said)


def _change(ratio: float) -> str:
    """How far a ratio lies from 1, in words."""
    percent = round(100 * abs(ratio - 1))
    if percent == 0:
        return "less than 1 % lower" if ratio < 1 else "less than 1 % higher"
    return f"{percent:,} % {'lower' if ratio < 1 else 'higher'}"


def _interval(comparison: Comparison) -> str:
    if comparison.interval is None:
        return "too few people for an interval"
    low, high = comparison.interval
    return f"95 % interval over people: {_change(low)} to {_change(high)}"
