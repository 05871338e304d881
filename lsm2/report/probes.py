"""Probes as the report and the terminal show them: a table and a figure for each label, and its sentences."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
from rich.table import Table
from rich.text import Text

from lsm2.evaluate.probes.methods import AIM
from lsm2.evaluate.probes.metrics import LABELS, METRICS
from lsm2.evaluate.probes.probe import best
from lsm2.evaluate.probes.results import ProbeResult, Score
from lsm2.progress import PlainConsole, printable
from lsm2.report.figures import new_figure
from lsm2.report.html import definitions, details, paragraphs, table
from lsm2.report.summary import spelled_out

LEVELS = {"person": "people", "day": "days", "interval": "intervals"}
EXPLANATION = (
    "A probe is a linear model that reads frozen features and predicts a label; the encoder learns nothing "
    "from it. People are divided into five parts; each part is predicted by a probe that was fitted on the "
    "others. The numbers are means over parts and repeats, the brackets hold the 95 % interval over people."
)


def verdict(result: ProbeResult) -> list[str]:
    """What the probe says in words: the best method, and whether the model differs from the others."""
    metric = METRICS[result.kind][0]
    labels = _labels(result)
    winners = sorted(labels[name] for name in best(result.methods, metric))
    lines = [
        f"{spelled_out(result.target)}: best {LABELS[metric]} by {' and '.join(winners)}, "
        + ", ".join(f"{labels[name]} {_number(found[metric])}" for name, found in result.methods.items())
    ]
    apart = {name: found[metric] for name, found in result.aim_minus.items() if _differs(found[metric])}
    for word, sign in (("above", 1), ("below", -1)):
        names = [labels[name] for name, score in apart.items() if np.sign(score.mean or 0) == sign]
        if names:
            lines.append(f"AIM's {LABELS[metric]} is {word} that of {', '.join(names)}.")
    alike = [labels[name] for name in result.aim_minus if name not in apart]
    if alike:
        lines.append(f"AIM is not told apart from {', '.join(alike)} on these people.")
    return [printable(line) for line in lines]


def whom(result: ProbeResult) -> str:
    """How many examples of how many people, and who of them was seen in pre-training."""
    examples = f"{result.num_labelled:,} {LEVELS[result.level]} of " if result.level != "person" else ""
    seen = (
        f"; pre-training saw the days of {result.num_people_seen} of them, and no label"
        if result.num_people_seen
        else ", none of them seen in pre-training"
    )
    left_out = "".join(f"; {count:,} left out: {why}" for why, count in result.left_out.items() if count)
    return printable(f"{examples}{result.num_people} people{seen}{left_out}")


def show_probe(result: ProbeResult) -> None:
    """Print methods x metrics, the first with its interval; an asterisk and bold type mark the best."""
    metrics = METRICS[result.kind]
    shown = Table(title=f"{result.target} ({result.kind}): {whom(result)}", title_justify="left")
    shown.add_column("method", no_wrap=True)
    for metric in metrics:
        shown.add_column(LABELS[metric], justify="right", no_wrap=True)
    shown.add_column(f"AIM minus it, {LABELS[metrics[0]]}", justify="right")
    for name, found in result.methods.items():
        cells = []
        for metric in metrics:
            score = found[metric]
            text = _with_interval(score) if metric == metrics[0] else _number(score)
            cells.append(Text(f"{text}*", "bold") if name in best(result.methods, metric) else f"{text} ")
        difference = "" if name == AIM else _with_interval(result.aim_minus[name][metrics[0]], signed=True)
        shown.add_row(result.shown_as[name].label, *cells, difference)
    console = PlainConsole()
    console.print(shown)
    console.print("* the best mean; brackets: 95 % interval over people")


def probe_section(result: ProbeResult) -> str:
    """A label's part of the page: sentences, the table, and what the methods are."""
    metrics, labels = METRICS[result.kind], _labels(result)
    rows = []
    for name, found in result.methods.items():
        marks = ["best" if name in best(result.methods, metric) else "" for metric in metrics]
        difference = "" if name == AIM else _with_interval(result.aim_minus[name][metrics[0]], signed=True)
        cells = [_with_interval(found[metric]) for metric in metrics]
        rows.append(([labels[name], *cells, difference], ["", *marks, ""]))
    header = ["method", *(LABELS[metric] for metric in metrics), f"AIM minus it, {LABELS[metrics[0]]}"]
    notes = [(printable(note.label), printable(note.note)) for note in result.shown_as.values()]
    colours = [note.colour for note in result.shown_as.values()]
    settings = result.settings
    how = (
        f"{settings.folds} folds by person, {settings.repeats} times; pooling {settings.pooling}; "
        f"labels from {settings.labels}"
        + (f" where {settings.where}" if settings.where else "")
        + (f"; covariates {', '.join(settings.covariates)}" if settings.covariates else "")
    )
    return (
        paragraphs(verdict(result)[1:])
        + table(header, rows, whom(result))
        + paragraphs([printable(how)], "soft")
        + details("The methods", definitions(notes, "grid", colours))
    )


def plot_probe(path: Path | IO[bytes], result: ProbeResult) -> None:
    """Write a PNG of every method's scores with intervals, and of fewer labels where they were tried."""
    metrics = METRICS[result.kind][:2]
    curves = result.label_fractions
    height = 0.9 + 0.28 * len(result.methods)
    with new_figure(path, height + (2.6 if curves else 0)) as figure:
        grid = figure.add_gridspec(
            2 if curves else 1, len(metrics), height_ratios=[height, 2.6][: 1 + bool(curves)]
        )
        for column, metric in enumerate(metrics):
            axes = figure.add_subplot(grid[0, column])
            _draw_scores(axes, result, metric, named=column == 0)
        if curves:
            _draw_curves(figure.add_subplot(grid[1, :]), result, metrics[0])


def _draw_scores(axes, result: ProbeResult, metric: str, named: bool) -> None:
    names = list(result.methods)[::-1]
    for row, name in enumerate(names):
        score = result.methods[name][metric]
        if score.mean is None or score.low is None or score.high is None:
            continue
        colour = result.shown_as[name].colour
        axes.plot([score.low, score.high], [row, row], color=colour, linewidth=2)
        axes.plot(score.mean, row, "o", color=colour)
    labels = _labels(result)
    axes.set_yticks(range(len(names)), [labels[name] if named else "" for name in names])
    axes.set_ylim(-0.5, len(names) - 0.5)
    chance = {"auroc": 0.5, "r": 0.0}.get(metric)
    if metric == "balanced_accuracy":
        chance = 1 / len(result.classes)
    if chance is not None:
        axes.axvline(chance, color="#9a9a9a", linewidth=0.8, linestyle=":")
    axes.set_xlabel(f"{spelled_out(result.target)}: {LABELS[metric]}")


def _draw_curves(axes, result: ProbeResult, metric: str) -> None:
    percents = sorted(result.label_fractions, key=int)
    for name in result.label_fractions[percents[0]]:
        means = [result.label_fractions[percent][name][metric].mean for percent in percents]
        means.append(result.methods[name][metric].mean)
        note = result.shown_as[name]
        values = [np.nan if mean is None else mean for mean in means]
        axes.plot([*map(int, percents), 100], values, "o-", color=note.colour, label=printable(note.label))
    axes.set_xscale("log")
    axes.set_xticks([*map(int, percents), 100], [f"{percent} %" for percent in [*percents, 100]])
    axes.minorticks_off()
    axes.set_xlabel("labels kept, of the people that a probe is fitted on")
    axes.set_ylabel(LABELS[metric])
    axes.legend(loc="best")


def _labels(result: ProbeResult) -> dict[str, str]:
    """What each method is called; names of other runs may hold anything."""
    return {name: printable(note.label) for name, note in result.shown_as.items()}


def _number(score: Score) -> str:
    return "undefined" if score.mean is None else f"{score.mean:.3g}"


def _with_interval(score: Score, signed: bool = False) -> str:
    if score.mean is None or score.low is None or score.high is None:
        return "undefined"
    digits = (
        1 if max(map(abs, (score.mean, score.low, score.high))) >= 10 else 2 if abs(score.mean) >= 2 else 3
    )
    plus = "+" if signed else ""
    return f"{score.mean:{plus}.{digits}f} [{score.low:{plus}.{digits}f}, {score.high:{plus}.{digits}f}]"


def _differs(score: Score) -> bool:
    return score.low is not None and score.high is not None and (score.low > 0 or score.high < 0)
