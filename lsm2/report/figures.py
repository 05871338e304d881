"""Figures of a run: loss curve, error by length of the gap, error per task; matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np

from lsm2.errors import InputError
from lsm2.evaluate.tasks import TASKS, Kind

METHOD_LABELS = {
    "aim": "AIM",
    "mean": "training mean",
    "nearest": "nearest",
    "linear": "linear",
    "last": "last value",
    "person_time_of_day": "person's time of day",
    "same_minute": "same minute",
}
METHOD_COLOURS = {
    "aim": "#0b4fb3",
    "mean": "#9a9a9a",
    "nearest": "#e6a100",
    "linear": "#c8441b",
    "last": "#7b5ea7",
    "person_time_of_day": "#1b9e77",
    "same_minute": "#c75a9b",
}
KIND_TITLES: dict[Kind, str] = {
    "random": "random tokens hidden",
    "interpolation": "a gap in all signals\n(same minute = mean)",
    "extrapolation": "a forecast of all signals\n(nearest = linear = last value; same minute = mean)",
    "signal": "whole signals hidden all day\n(nearest = linear = last value = mean)",
}


def require_matplotlib() -> None:
    """Raise InputError where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise InputError("figures need matplotlib, which is not installed: pip install matplotlib")


def plot_loss(path: Path | IO[bytes], metrics: Sequence[dict[str, Any]]) -> None:
    """Write a PNG of the training loss by step, from the lines of metrics.jsonl."""
    from matplotlib.figure import Figure

    points = [
        (line["step"], line["loss"])
        for line in metrics
        if line.get("loss") is not None and np.isfinite(line["loss"])
    ]
    steps, loss = np.array(points, dtype=np.float64).reshape(-1, 2).T
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.plot(steps, loss, color=METHOD_COLOURS["aim"], alpha=0.25, linewidth=1, label="each logged step")
    if len(loss) >= 10:
        axis.plot(
            steps,
            _running_mean(loss, max(3, len(loss) // 20)),
            color=METHOD_COLOURS["aim"],
            linewidth=2,
            label="running mean",
        )
    axis.axhline(1, color="#777777", linestyle=":", linewidth=1)
    remark = {"textcoords": "offset points", "fontsize": 8, "color": "#666666", "ha": "right"}
    axis.annotate("1: about what the training mean gets", (steps[-1], 1), (0, 3), **remark)
    axis.set(xlabel="optimizer step", ylabel="loss: squared error of\nhidden, observed minutes")
    axis.legend(frameon=False, fontsize=8)
    _plain(axis)
    figure.savefig(path, dpi=130, format="png")


def plot_gap_error(path: Path, evaluation: dict[str, Any]) -> None:
    """Write a PNG of the error by length of the gap and of the forecast, AIM with its interval over people."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    kinds: tuple[Kind, ...] = ("interpolation", "extrapolation")
    for axis, kind in zip(axes, kinds, strict=True):
        names = [name for name in _tasks_of(kind, evaluation) if _first_of_its_length(name, kind, evaluation)]
        minutes = [evaluation["tasks"][name]["minutes"] for name in names]
        for method, label in METHOD_LABELS.items():
            results = [evaluation["generative"][name][method] for name in names]
            front = method == "aim"
            axis.plot(
                minutes,
                [result["mse"] for result in results],
                color=METHOD_COLOURS[method],
                linewidth=2.6 if front else 1.4,
                marker="o" if front else "s",
                markersize=6 if front else 4,
                label=label,
                zorder=3 if front else 2,
            )
            if front and results and all(result["mse_interval"] for result in results):
                low, high = zip(*(result["mse_interval"] for result in results), strict=True)
                axis.fill_between(
                    minutes,
                    low,
                    high,
                    color=METHOD_COLOURS[method],
                    alpha=0.15,
                    linewidth=0,
                    label="AIM: 95 % over people",
                )
        axis.set_title(KIND_TITLES[kind], loc="left", fontsize=10)
        axis.set_xscale("log")
        axis.set_xticks(minutes, [f"{m:g}" for m in minutes])
        axis.minorticks_off()
        axis.set_xlabel("minutes")
        _plain(axis)
    axes[0].set_ylabel("mean squared error (normalised)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
    _start_at_zero(axes)
    figure.savefig(path, dpi=130)


def plot_task_errors(path: Path, evaluation: dict[str, Any]) -> None:
    """Write a PNG of bars: the error of every method on every task."""
    from matplotlib.figure import Figure

    kinds: list[Kind] = [kind for kind in KIND_TITLES if _tasks_of(kind, evaluation)]
    figure = Figure(figsize=(12, 3.1 * -(-len(kinds) // 2)), layout="constrained")
    axes = figure.subplots(-(-len(kinds) // 2), 2, sharey=True, squeeze=False).reshape(-1)
    for axis, kind in zip(axes, kinds, strict=False):
        names = _tasks_of(kind, evaluation)
        width = 0.86 / len(METHOD_LABELS)
        for number, (method, label) in enumerate(METHOD_LABELS.items()):
            heights = [evaluation["generative"][name][method]["mse"] for name in names]
            places = np.arange(len(names)) + (number - (len(METHOD_LABELS) - 1) / 2) * width
            axis.bar(places, heights, width * 0.92, color=METHOD_COLOURS[method], label=label)
            if method == "aim":
                for place, height in zip(places, heights, strict=True):
                    axis.annotate(
                        f"{height:.2f}",
                        (place, height),
                        (0, 2),
                        textcoords="offset points",
                        ha="center",
                        fontsize=7,
                    )
        axis.set_xticks(range(len(names)), [TASKS[name].label for name in names])
        axis.set_title(KIND_TITLES[kind], loc="left", fontsize=10)
        _plain(axis)
    for axis in axes[len(kinds) :]:
        axis.set_visible(False)
    for axis in axes[: len(kinds) : 2]:
        axis.set_ylabel("mean squared error")
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=len(METHOD_LABELS),
        frameon=False,
        fontsize=9,
    )
    figure.savefig(path, dpi=130)


def _tasks_of(kind: Kind, evaluation: dict[str, Any]) -> list[str]:
    return [name for name in evaluation["generative"] if name in TASKS and TASKS[name].kind == kind]


def _first_of_its_length(name: str, kind: Kind, evaluation: dict[str, Any]) -> bool:
    """Short gaps round up to the same whole token on coarse data; one point per length is drawn."""
    minutes = {other: evaluation["tasks"][other]["minutes"] for other in _tasks_of(kind, evaluation)}
    return next(other for other, length in minutes.items() if length == minutes[name]) == name


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over the last `window` values, fewer at the start."""
    total = np.cumsum(np.insert(values, 0, 0.0))
    stop = np.arange(1, len(values) + 1)
    start = np.maximum(stop - window, 0)
    return (total[stop] - total[start]) / (stop - start)


def _start_at_zero(axes) -> None:
    for axis in axes:
        axis.set_ylim(bottom=0)


def _plain(axis) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.7)
    axis.set_axisbelow(True)
