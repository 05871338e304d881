"""The parts of report.html as HTML: explanations, errors of every method, the data, the settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lsm2.data.quality import MISSING_KINDS, Cohort
from lsm2.evaluate.methods import AIM, METHODS, Method
from lsm2.evaluate.results import Evaluation, TaskResult
from lsm2.evaluate.tasks import TASKS
from lsm2.progress import printable
from lsm2.report.html import definitions, details, paragraphs, table
from lsm2.report.summary import spelled_out

TERMS = (
    (
        "hidden",
        "A part of a day that was measured but is withheld from every method. Each method fills it in, "
        "and the measured values tell how well. Really missing data cannot be scored, so it is not.",
    ),
    (
        "held-out people",
        "People of whom no day was used in training. Numbers on them say what to expect of new people.",
    ),
    (
        "token",
        "The model's unit: a few minutes of one signal. Parts of a day are hidden in whole tokens.",
    ),
    (
        "squared error on normalised values",
        "Each signal is first put on a common scale, on which its average in training is 0 and its usual "
        "spread (one standard deviation) is 1. The error of a minute is the filled value minus the "
        "measured one on that scale, squared; the tables show its average. 0 is perfect, about 1 is what "
        "always saying the average gets.",
    ),
    (
        "95 % interval over people",
        "The same people drawn again and again at random, with repetition: 95 % of the results lie in "
        "this range. A wide one says that other people may give another result.",
    ),
)
TASK_KINDS = (
    ("random 30 to 80 %", "That share of the measured tokens is hidden, each as likely as any other."),
    ("gap", "All signals are hidden for that time in the middle of the day, as if the device was taken off."),
    ("forecast", "All signals are hidden from some time on; only the minutes right after it are scored."),
    (
        "signals all day",
        "Whole signals are hidden all day, as if a sensor was broken; the others stay visible.",
    ),
)
OPEN_TASK = "random_80"


def explanations(compared: Iterable[Method]) -> str:
    """What the words of the page mean, what the tasks hide, and what each method does."""
    compared = list(compared)
    methods = [(method.marked_label, method.note) for method in compared]
    colours = [method.colour for method in compared]
    dagger = (
        "† These methods see other days of the same person, which the model does not; they are ranked apart."
    )
    return "".join(
        (
            details("What the words mean", definitions(TERMS)),
            details("What is hidden", definitions(TASK_KINDS)),
            details(
                "The methods",
                definitions(methods, "grid", colours) + paragraphs([dagger], "soft"),
                is_open=True,
            ),
        )
    )


def error_tables(evaluation: Evaluation) -> str:
    """Tasks x methods, then the model's intervals and how much was scored."""
    settings = evaluation.settings
    whom = "some of them seen in training" if settings.all_people else "held out of training"
    caption = (
        f"Mean squared error on normalised values; lower is better. {settings.num_days} days of "
        f"{settings.num_people} people, {whom}. Blue: the best method that sees one day. Italic: a method "
        "marked †, which sees the person's other days, is better still."
    )
    methods = evaluation.methods
    rows = [_error_row(name, task, methods) for name, task in evaluation.scored.items()]
    header = ["hidden", *(method.marked_label for method in methods.values())]
    note = (
        "Every method is scored on the same minutes. The simple methods see every measured minute "
        "outside the hidden tokens, also in tokens with too little data for the model."
    )
    return (
        table(header, rows, caption, upright=True)
        + paragraphs([note], "soft")
        + details("AIM's intervals, and how much was scored", _scored(evaluation))
    )


def _error_row(name: str, task: TaskResult, methods: Iterable[str]) -> tuple[list[str], list[str]]:
    best = task.best_methods()
    better = task.better_with_other_days()
    marks = ["best" if method in best else "apart" if method in better else "" for method in methods]
    cells = [f"{task.methods[method].mse:.3f}" for method in methods]
    return [_task_label(name), *cells], ["", *marks]


def _scored(evaluation: Evaluation) -> str:
    rows = []
    for name, task in evaluation.tasks.items():
        interval = task.aim.mse_interval if task.methods else None
        cells = [
            _task_label(name),
            name,
            f"{task.aim.mse:.3f}" if task.methods else "-",
            f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "too few people",
            f"{task.aim.num_minutes:,}" if task.methods else "-",
            f"{task.days_scored:,}",
            f"{task.days_skipped:,}",
        ]
        rows.append((cells, [""] * len(cells)))
    header = [
        "hidden",
        "name for --tasks",
        "AIM",
        "95 % over people",
        "samples scored",
        "days",
        "days with too little data",
    ]
    return table(header, rows)


def errors_in_units(evaluation: Evaluation) -> str:
    """For each task a table of signals: AIM, the best fill and the mean in the signal's unit and
    normalised.
    """
    caption = (
        "Mean absolute error in the signal's own unit: how far a filled minute is off, on average. "
        "Beside it the mean squared error on normalised values. The best fill is that of the whole task, "
        "among those that see one day."
    )
    blocks = [
        details(_task_label(name), _signal_table(task), is_open=name == OPEN_TASK)
        for name, task in evaluation.scored.items()
    ]
    return paragraphs([caption], "soft") + "".join(blocks)


def _signal_table(task: TaskResult) -> str:
    fill = task.best_fill()
    shown = list(dict.fromkeys((AIM, fill, "mean")))
    labels = [METHODS[method].label for method in shown]
    rows = []
    for signal, aim in task.aim.per_signal.items():
        results = [task.methods[method].per_signal[signal] for method in shown]
        lowest = min(result.mse for result in results)
        marks = ["best" if result.mse == lowest else "" for result in results]
        cells = [
            spelled_out(signal),
            printable(aim.unit) or "-",
            *(_number(result.mae_in_unit) for result in results),
            *(f"{result.mse:.3f}" for result in results),
        ]
        rows.append((cells, ["", "", *([""] * len(shown)), *marks]))
    header = ["signal", "unit", *labels, *(f"{label}, squared" for label in labels)]
    return table(header, rows, upright=True)


def cohort_section(cohort: Cohort) -> str:
    """People, days, signals, how much is missing and how."""
    low, high = cohort.missing_of_days
    facts = (
        f"{cohort.num_days} days of {cohort.num_people} people, {cohort.num_signals} signals every "
        f"{cohort.sample_minutes} min. {cohort.missing:.0%} of it is missing ({low:.0%} to {high:.0%} a day)."
    )
    kinds = [
        ([label, f"{cohort.missing_kinds[kind]:.1%}"], ["", ""]) for kind, label in MISSING_KINDS.items()
    ]
    rows = []
    for signal in cohort.per_signal:
        gap = f"{signal.median_gap_minutes:g}" if signal.median_gap_minutes else "-"
        numbers = [_number(q) for q in signal.quantiles] if signal.quantiles else ["-"] * 3
        name, unit = spelled_out(signal.name), printable(signal.unit) or "-"
        rows.append(([name, unit, f"{signal.missing:.0%}", gap, *numbers], [""] * 7))
    header = ["signal", "unit", "missing", "median gap (min)", "5 % below", "median", "5 % above"]
    looked_at = f"Missingness and values over {cohort.num_days_looked_at} days."
    return (
        paragraphs([facts])
        + table(["missing because of", "of all minutes"], kinds)
        + details("Each signal", table(header, rows))
        + paragraphs([looked_at], "soft")
    )


def settings_section(config: dict[str, Any]) -> str:
    """Every setting of model, masking and training."""
    model = {key: value for key, value in config["model"].items() if key != "masking"}
    tables = {"model": model, "masking": config["model"].get("masking", {}), "training": config["train"]}
    shown = [
        table([title, ""], [([spelled_out(key), str(value)], ["", ""]) for key, value in values.items()])
        for title, values in tables.items()
    ]
    return details(
        "Every setting", f'<div class="columns">{"".join(f"<div>{part}</div>" for part in shown)}</div>'
    )


def _task_label(name: str) -> str:
    return TASKS[name].label if name in TASKS else name


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
