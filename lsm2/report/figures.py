"""Figures of a run: loss curve, error by length of the gap, error per task; matplotlib is imported when one
is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np

from lsm2.errors import InputError
from lsm2.evaluate.methods import AIM, METHODS
from lsm2.evaluate.results import Evaluation
from lsm2.evaluate.tasks import TASKS, Kind

WIDTH, DPI = 10, 130
"""Inches and pixels an inch of every figure, so that the page shows all of them in one size of type."""
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "figure.titlesize": 9,
    "legend.frameon": False,
    "text.parse_math": False,  # Names of signals and people are no formulas.
}
KIND_TITLES: dict[Kind, str] = {
    "random": "random tokens hidden",
    "interpolation": "a gap in all signals\n(same minute = training mean)",
    "extrapolation": "a forecast of all signals\n(nearest = linear = last; same minute = training mean)",
    "signal": "whole signals hidden all day\n(nearest = linear = last value = training mean)",
}


def require_matplotlib() -> None:
    """Raise InputError where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise InputError("figures need matplotlib, which is not installed: pip install matplotlib")


@contextmanager
def new_figure(path: Path | IO[bytes], height: float) -> Iterator[Any]:
    """An empty figure of this height in inches; it is written as PNG when the block ends."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure
        figure.savefig(path, dpi=DPI, format="png")


HELDOUT_COLOURS = ("#c8441b", "#1b9e77")
"""Of the validated tasks."""


def plot_loss(path: Path | IO[bytes], metrics: Sequence[dict[str, Any]]) -> None:
    """Write a PNG of the training loss by step, from the lines of metrics.jsonl, with the errors on held-out
    people beside the best fill's, where they were validated.
    """
    points = [
        (line["step"], line["loss"])
        for line in metrics
        if line.get("loss") is not None and np.isfinite(line["loss"])
    ]
    steps, loss = np.array(points, dtype=np.float64).reshape(-1, 2).T
    colour = METHODS[AIM].colour
    with new_figure(path, 3.4) as figure:
        axis = figure.subplots()
        axis.plot(steps, loss, color=colour, alpha=0.25, linewidth=1, label="each logged step")
        if len(loss) >= 10:
            mean = _running_mean(loss, max(3, len(loss) // 20))
            axis.plot(steps, mean, color=colour, linewidth=2, label="running mean")
        validated = [line for line in metrics if "validation" in line]
        for number, score in enumerate(validated[-1]["validation"] if validated else ()):
            found = [
                (line["step"], same["error"])
                for line in validated
                for same in line["validation"]
                if same["task"] == score["task"]
            ]
            shade = HELDOUT_COLOURS[number % len(HELDOUT_COLOURS)]
            axis.plot(*zip(*found, strict=True), color=shade, marker="o", label=f"held out: {score['task']}")
            axis.axhline(
                score["fill_error"], color=shade, linestyle="--", linewidth=1, label=score["best_fill"]
            )
        axis.axhline(1, color="#777777", linestyle=":", linewidth=1)
        if len(steps):
            remark = {"textcoords": "offset points", "color": "#666666", "ha": "right"}
            axis.annotate("1: about what the training mean gets", (steps[-1], 1), (0, 3), **remark)
        axis.set(xlabel="training step", ylabel="loss: squared error of\nhidden, observed minutes")
        axis.legend()
        _plain(axis)


def plot_gap_error(path: Path, evaluation: Evaluation) -> None:
    """Write a PNG of the error by length of the gap and of the forecast, with AIM's interval over people."""
    kinds: tuple[Kind, ...] = ("interpolation", "extrapolation")
    with new_figure(path, 3.8) as figure:
        axes = figure.subplots(1, 2, sharey=True)
        for axis, kind in zip(axes, kinds, strict=True):
            tasks = list(_one_of_each_length(kind, evaluation).values())
            minutes = [task.minutes for task in tasks]
            for method in evaluation.methods.values():
                results = [task.methods[method.name] for task in tasks]
                is_aim = method.name == AIM
                axis.plot(
                    minutes,
                    [result.mse for result in results],
                    color=method.colour,
                    linewidth=2.6 if is_aim else 1.4,
                    linestyle="--" if method.sees_other_days else "-",
                    marker="o" if is_aim else "s",
                    markersize=6 if is_aim else 4,
                    label=method.marked_label,
                    zorder=3 if is_aim else 2,
                )
                if is_aim and results and all(result.mse_interval for result in results):
                    low, high = zip(*(result.mse_interval for result in results), strict=True)
                    band = {"color": method.colour, "alpha": 0.15, "linewidth": 0}
                    axis.fill_between(minutes, low, high, label="AIM: 95 % over people", **band)
            axis.set_title(KIND_TITLES[kind], loc="left")
            axis.set_xscale("log")
            axis.set_xticks(minutes, [f"{m:g}" for m in minutes])
            axis.minorticks_off()
            axis.set_xlabel("minutes")
            _plain(axis)
            axis.set_ylim(bottom=0)
        axes[0].set_ylabel("mean squared error (normalised)")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper")


def plot_task_errors(path: Path, evaluation: Evaluation) -> None:
    """Write a PNG of bars: the error of every method on every task."""
    kinds: list[Kind] = [kind for kind in KIND_TITLES if _tasks_of(kind, evaluation)]
    num_rows = -(-len(kinds) // 2)
    with new_figure(path, 2.9 * num_rows + 0.3) as figure:
        axes = figure.subplots(num_rows, 2, sharey=True, squeeze=False).reshape(-1)
        methods = evaluation.methods
        for axis, kind in zip(axes, kinds, strict=False):
            tasks = _tasks_of(kind, evaluation)
            width = 0.86 / len(methods)
            for number, method in enumerate(methods.values()):
                heights = [task.methods[method.name].mse for task in tasks.values()]
                positions = np.arange(len(tasks)) + (number - (len(methods) - 1) / 2) * width
                hatch = "////" if method.sees_other_days else None
                bars = {
                    "color": method.colour,
                    "label": method.marked_label,
                    "hatch": hatch,
                    "edgecolor": "white",
                }
                axis.bar(positions, heights, width, linewidth=0.5, **bars)
            axis.set_xticks(range(len(tasks)), [TASKS[name].label for name in tasks])
            axis.set_title(KIND_TITLES[kind], loc="left")
            _plain(axis)
        for axis in axes[len(kinds) :]:
            axis.set_visible(False)
        for axis in axes[: len(kinds) : 2]:
            axis.set_ylabel("mean squared error")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside upper center",
            ncols=min(len(methods), len(METHODS)),
            columnspacing=1.2,
        )


def _tasks_of(kind: Kind, evaluation: Evaluation) -> dict[str, Any]:
    return {
        name: task for name, task in evaluation.scored.items() if name in TASKS and TASKS[name].kind == kind
    }


def _one_of_each_length(kind: Kind, evaluation: Evaluation) -> dict[float | None, Any]:
    """The first task of each length in minutes: on coarse data short gaps round up to one whole token."""
    first: dict[float | None, Any] = {}
    for task in _tasks_of(kind, evaluation).values():
        first.setdefault(task.minutes, task)
    return first


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over the last `window` values, fewer at the start."""
    total = np.cumsum(np.insert(values, 0, 0.0))
    stop = np.arange(1, len(values) + 1)
    start = np.maximum(stop - window, 0)
    return (total[stop] - total[start]) / (stop - start)


def _plain(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.7)
    axis.set_axisbelow(True)
