"""A day as a picture: what was measured, what the model saw, what it reconstructed, each a row per signal and a column per minute."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lsm2.data.masking import token_observed
from lsm2.data.store import DayStore
from lsm2.errors import InputError
from lsm2.evaluate.generative import fitting_normalization
from lsm2.evaluate.tasks import TASKS
from lsm2.model.inference import predict_hidden
from lsm2.model.mae import LSM2
from lsm2.report.figures import require_matplotlib

COLOUR_RANGE = 2.5
MISSING_COLOUR, MISSING_HATCH_COLOUR, HIDDEN_COLOUR = "#dcdcdc", "#9c9c9c", "#ffffff"
FADED = 0.22


def plot_day(path: Path, model: LSM2, store: DayStore, day_id: str, task: str) -> bool:
    """Hide part of one day of the store as a task of the evaluation does, let the model reconstruct it, and write the picture.

    False, and no picture, where the day has too little data for the task; raises InputError for an unknown day or task.
    """
    require_matplotlib()
    normalization = fitting_normalization(model, store)
    if task not in TASKS:
        raise InputError(f"unknown task {task!r}; choose among {', '.join(TASKS)}")
    values = normalization.apply(store.values(store.index(day_id)))
    config = model.config
    observed = token_observed(~np.isnan(values), config.patch_samples, config.masking.token_min_observed)
    tokens = TASKS[task].draw(
        observed.reshape(len(values), -1), config.patch_samples * store.sample_minutes, day_id=day_id
    )
    if tokens is None:
        return False
    draw_day(
        path,
        title=f"{day_id}: {TASKS[task].label}",
        signal_names=[signal.name for signal in store.signals],
        measured=values,
        hidden=np.repeat(tokens.hidden, config.patch_samples).reshape(values.shape),
        seen=np.repeat(observed & ~tokens.hidden, config.patch_samples).reshape(values.shape),
        reconstructed=predict_hidden(model, values[None], tokens.hidden[None])[0],
        sample_minutes=store.sample_minutes,
    )
    return True


def draw_day(
    path: Path,
    *,
    title: str,
    signal_names: list[str],
    measured: np.ndarray,
    hidden: np.ndarray,
    seen: np.ndarray,
    reconstructed: np.ndarray,
    sample_minutes: int,
) -> None:
    """Write a PNG of one day, all (C, L): measured and reconstructed normalised, NaN = missing; hidden from the model and seen by it bool.

    Observed minutes are coloured by value, minutes without data hatched grey, hidden ones blank in what the model saw. The reconstruction
    has full colour where a measured minute was hidden, so it can be compared with the truth above it; what the model saw is faded there.
    """
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    num_signals, length = measured.shape
    missing = np.isnan(measured)
    nothing = np.zeros_like(missing)
    error = (reconstructed - measured)[hidden & ~missing]
    panels = (
        ("measured", measured, missing, nothing, None),
        ("what the model saw (blank: hidden from it)", measured, ~hidden & (missing | ~seen), hidden, None),
        (
            f"what the model reconstructed, in full colour (mean squared error {np.mean(error**2):.2f}; what it saw is faded)",
            np.where(hidden, reconstructed, measured),
            missing | ~(hidden | seen),
            nothing,
            seen & ~missing,
        ),
    )
    row_height = min(0.17, 5.2 / num_signals) if num_signals > 12 else 0.3
    figure = Figure(figsize=(13, 3 * (row_height * num_signals + 0.55) + 1.3), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    image = None
    hours = length * sample_minutes / 60
    for axis, (name, values, no_data, blank, faded) in zip(axes, panels, strict=True):
        extent = (0, hours, num_signals - 0.5, -0.5)
        shown = np.ma.masked_where(no_data | blank | np.isnan(values), values)
        alpha = np.where(faded, FADED, 1.0) if faded is not None else None
        axis.set_facecolor(MISSING_COLOUR)
        _hatch(axis, no_data, hours)
        if faded is not None:
            _paint(axis, faded, "white", extent)
        image = axis.imshow(
            shown,
            aspect="auto",
            interpolation="nearest",
            cmap="viridis",
            norm=Normalize(-COLOUR_RANGE, COLOUR_RANGE),
            extent=extent,
            alpha=alpha,
            zorder=2,
        )
        _paint(axis, blank, HIDDEN_COLOUR, extent)
        axis.set_yticks(
            range(num_signals),
            [name.replace("_", " ") for name in signal_names],
            fontsize=7 if num_signals > 12 else 9,
        )
        axis.set_title(name, loc="left", fontsize=10)
        axis.tick_params(length=2)
        axis.set_xlim(0, hours)
        axis.set_ylim(num_signals - 0.5, -0.5)
        axis.hlines(np.arange(1, num_signals) - 0.5, 0, hours, color="#bbbbbb", linewidth=0.4, zorder=3)
    axes[-1].set_xticks(np.arange(0, hours + 0.1, 2 if hours <= 24 else 12))
    axes[-1].set_xlabel("hour of the day")
    figure.suptitle(title, fontsize=11)
    legend = [
        Patch(
            facecolor=MISSING_COLOUR,
            edgecolor=MISSING_HATCH_COLOUR,
            hatch="//////",
            label="missing: never measured, or (middle) too little of it for the model",
        ),
        Patch(facecolor=HIDDEN_COLOUR, edgecolor="#555555", label="hidden from the model"),
    ]
    figure.legend(handles=legend, loc="outside lower left", ncols=2, fontsize=8, frameon=False)
    assert image is not None
    bar = figure.colorbar(image, ax=axes, shrink=0.4, pad=0.01, extend="both")
    bar.set_label("standard deviations from the signal's mean", fontsize=8)
    figure.savefig(path, dpi=110)


def _hatch(axis, cells: np.ndarray, hours: float) -> None:
    """Hatch runs of True cells (C, L), one rectangle per run."""
    from matplotlib.collections import PolyCollection

    length = cells.shape[1]
    edges = np.diff(np.pad(cells.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1]
    left, right = starts * hours / length, stops * hours / length
    corners = [
        [(a, row - 0.5), (b, row - 0.5), (b, row + 0.5), (a, row + 0.5)]
        for row, a, b in zip(rows, left, right, strict=True)
    ]
    runs = PolyCollection(
        corners,
        facecolor=MISSING_COLOUR,
        edgecolor=MISSING_HATCH_COLOUR,
        linewidth=0,
        hatch="//////",
        zorder=1,
    )
    axis.add_collection(runs)


def _paint(axis, cells: np.ndarray, colour: str, extent: tuple[float, float, float, float]) -> None:
    """Paint True cells (C, L) in one colour."""
    from matplotlib.colors import ListedColormap

    layer = np.ma.masked_where(~cells, np.ones(cells.shape))
    axis.imshow(
        layer,
        aspect="auto",
        interpolation="nearest",
        cmap=ListedColormap([colour]),
        extent=extent,
        zorder=1.5,
    )
