"""Pictures of one day: all signals as rows of colour, or the curve of one signal in its unit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lsm2.evaluate.methods import AIM, METHODS
from lsm2.evaluate.one_day import ReconstructedDay
from lsm2.progress import printable
from lsm2.report.figures import new_figure
from lsm2.report.summary import spelled_out

COLOUR_RANGE = 2.5
MISSING_COLOUR, MISSING_HATCH_COLOUR, HIDDEN_COLOUR = "#dcdcdc", "#9c9c9c", "#ffffff"
HIDDEN_TRUTH_COLOUR, HIDDEN_BAND_COLOUR = "#e08214", "#f2f2f2"
FADED = 0.22


def plot_day(path: Path, day: ReconstructedDay) -> None:
    """Write a PNG of what was measured, what the model saw, what it reconstructed: a row per signal.

    Observed minutes are coloured by value, minutes without data hatched grey, hidden ones blank in what the
    model saw. The reconstruction has full colour where a measured minute was hidden, so that it can be
    compared with the truth above it; what the model saw is faded there.
    """
    from matplotlib.colors import Normalize
    from matplotlib.patches import Patch

    num_signals, length = day.measured.shape
    missing = np.isnan(day.measured)
    nothing = np.zeros_like(missing)
    error = (day.predicted - day.measured)[day.hidden & ~missing]
    # Title, values, where no data is, what is blank, what is faded.
    panels = (
        ("measured", day.measured, missing, nothing, None),
        (
            "what the model saw (blank: hidden from it)",
            day.measured,
            ~day.hidden & (missing | ~day.visible),
            day.hidden,
            None,
        ),
        (
            f"what the model reconstructed, in full colour (mean squared error {np.mean(error**2):.2f}; "
            "what it saw is faded)",
            np.where(day.hidden, day.predicted, day.measured),
            missing | ~(day.hidden | day.visible),
            nothing,
            day.visible & ~missing,
        ),
    )
    row_height = 0.15 if num_signals > 12 else 0.3
    hours = length * day.sample_minutes / 60
    extent = (0, hours, num_signals - 0.5, -0.5)
    with new_figure(path, 3 * (row_height * num_signals + 0.55) + 1.3) as figure:
        axes = figure.subplots(3, 1, sharex=True)
        image = None
        for axis, (title, values, no_data, blank, faded) in zip(axes, panels, strict=True):
            axis.set_facecolor(MISSING_COLOUR)
            _hatch(axis, no_data, hours)
            if faded is not None:
                _paint(axis, faded, "white", extent)
            image = axis.imshow(
                np.ma.masked_where(no_data | blank | np.isnan(values), values),
                aspect="auto",
                interpolation="nearest",
                cmap="viridis",
                norm=Normalize(-COLOUR_RANGE, COLOUR_RANGE),
                extent=extent,
                alpha=np.where(faded, FADED, 1.0) if faded is not None else None,
                zorder=2,
            )
            _paint(axis, blank, HIDDEN_COLOUR, extent)
            axis.set_yticks(range(num_signals), [spelled_out(signal.name) for signal in day.signals])
            axis.set_title(title, loc="left")
            axis.tick_params(length=2)
            axis.set_ylim(num_signals - 0.5, -0.5)
            axis.hlines(np.arange(1, num_signals) - 0.5, 0, hours, color="#bbbbbb", linewidth=0.4, zorder=3)
        _hour_axis(axes[-1], hours)
        figure.suptitle(f"{printable(day.day_id)}: {day.task.phrase}")
        legend = [
            Patch(
                facecolor=MISSING_COLOUR,
                edgecolor=MISSING_HATCH_COLOUR,
                hatch="//////",
                label="missing: never measured, or (middle) too little of it for the model",
            ),
            Patch(facecolor=HIDDEN_COLOUR, edgecolor="#555555", label="hidden from the model"),
        ]
        figure.legend(handles=legend, loc="outside lower left", ncols=2)
        bar = figure.colorbar(image, ax=axes, shrink=0.4, pad=0.01, extend="both")
        bar.set_label("standard deviations from the signal's mean")


def plot_curves(path: Path, days: Sequence[ReconstructedDay], signal: int) -> None:
    """Write a PNG of one signal over the day in its unit, a panel for each way of hiding a part of the same
    day.
    """
    unit = printable(days[0].signals[signal].unit)
    name = spelled_out(days[0].signals[signal].name)
    with new_figure(path, 2.3 * len(days) + 0.6) as figure:
        axes = figure.subplots(len(days), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axis, day in zip(axes, days, strict=True):
            hour = np.arange(day.measured.shape[1]) * day.sample_minutes / 60
            hidden = day.hidden[signal]
            measured = day.measured_in_unit[signal]
            visible = np.where(day.visible[signal], measured, np.nan)
            withheld = np.where(hidden, measured, np.nan)
            edges = np.append(hour, hour[-1] + day.sample_minutes / 60)
            for start, stop in _runs(hidden[None])[1:].T:
                axis.axvspan(edges[start], edges[stop], color=HIDDEN_BAND_COLOUR, linewidth=0, zorder=0)
            axis.plot(
                hour,
                withheld,
                ".",
                color=HIDDEN_TRUTH_COLOUR,
                markersize=2.5,
                label="measured, hidden from AIM",
            )
            axis.plot(hour, visible, ".", color="#333333", markersize=2.5, label="measured, visible to AIM")
            predicted = np.where(hidden, day.predicted_in_unit[signal], np.nan)
            axis.plot(hour, predicted, color=METHODS[AIM].colour, linewidth=1.4, label="filled in by AIM")
            error = np.abs(predicted - withheld)
            mean_error = (
                f"; mean absolute error {np.nanmean(error):.3g} {unit}" if np.isfinite(error).any() else ""
            )
            axis.set_title(f"{day.task.phrase} (shaded){mean_error}", loc="left")
            axis.set_ylabel(f"{name} ({unit})" if unit else name)
            axis.spines[["top", "right"]].set_visible(False)
        _hour_axis(axes[-1], days[0].measured.shape[1] * days[0].sample_minutes / 60)
        figure.suptitle(f"{name}, {printable(days[0].day_id)}")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=3, markerscale=3)


def _hour_axis(axis: Any, hours: float) -> None:
    axis.set_xlim(0, hours)
    axis.set_xticks(np.arange(0, hours + 0.1, 2 if hours <= 24 else 12))
    axis.set_xlabel("hour of the day")


def _runs(cells: np.ndarray) -> np.ndarray:
    """(3, runs): row, start and stop of every run of True cells (C, L)."""
    edges = np.diff(np.pad(cells.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    return np.stack([rows, starts, np.nonzero(edges == -1)[1]])


def _hatch(axis: Any, cells: np.ndarray, hours: float) -> None:
    """Hatch runs of True cells (C, L), one rectangle per run."""
    from matplotlib.collections import PolyCollection

    minute = hours / cells.shape[1]
    corners = [
        [(a * minute, row - 0.5), (b * minute, row - 0.5), (b * minute, row + 0.5), (a * minute, row + 0.5)]
        for row, a, b in _runs(cells).T
    ]
    look: dict[str, Any] = {"facecolor": MISSING_COLOUR, "edgecolor": MISSING_HATCH_COLOUR, "hatch": "//////"}
    axis.add_collection(PolyCollection(corners, linewidth=0, zorder=1, **look))


def _paint(axis: Any, cells: np.ndarray, colour: str, extent: tuple[float, float, float, float]) -> None:
    """Paint True cells (C, L) in one colour."""
    from matplotlib.colors import ListedColormap

    layer = np.ma.masked_where(~cells, np.ones(cells.shape))
    look: dict[str, Any] = {"aspect": "auto", "interpolation": "nearest", "cmap": ListedColormap([colour])}
    axis.imshow(layer, extent=extent, zorder=1.5, **look)
