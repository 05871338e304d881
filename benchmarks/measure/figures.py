"""Figures of any races, as PNG: a map of ratios, ways against one parameter, curves, and a roofline."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np

from benchmarks.measure.results import Race
from benchmarks.measure.tables import grouped

OURS_COLOURS = ["#0b4fb3", "#2f86d9", "#79b8ea", "#5aa0b8", "#3f6f8f", "#a3c4dc"]
PEER_COLOURS = ["#c8441b", "#e6a100", "#1b9e77", "#7b5ea7", "#8a6d3b", "#d16ba5", "#5b1a10", "#77c79f"]
STRONGEST = 8.0
"""The ratio from which on the colours of a map grow no stronger."""
AXES = {
    "length": "tokens in a sequence",
    "batch": "simulated days in a batch",
    "heads": "heads",
    "head_dim": "head dim",
    "missing": "percent of the tokens missing",
    "window_tokens": "tokens in a window",
}
LINEAR = {"missing"}


@dataclass
class Panel:
    """Lines by name through points (x, y, whether it was measured); hollow points were not."""

    title: str
    x_label: str
    y_label: str
    lines: dict[str, list[tuple[float, float, bool]]] = field(default_factory=dict)
    log_x: bool = False
    log_y: bool = False
    x_ticks: Sequence[float] | None = None

    def add(self, line: str, x: float, y: float, *, measured: bool = True) -> None:
        """A point more."""
        self.lines.setdefault(line, []).append((x, y, measured))


def draw_panels(panels: Sequence[Panel], caption: str = "") -> bytes:
    """Panels, two in a row, with one legend; a line has one colour in all of them."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    colours = choose_colours(names)
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(2.2 + 5.2 * columns, 4.6 * rows), layout="constrained")
    axes = np.ravel(figure.subplots(rows, columns))
    legend: dict[str, Any] = {}
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for axis, panel in zip(axes, panels, strict=False):
        for name in [name for name in names if name in panel.lines]:
            points = sorted(panel.lines[name])
            xs, ys = [x for x, _, _ in points], [y for _, y, _ in points]
            style = {"color": colours[name], "linewidth": 2.6 if is_ours(name) else 1.5}
            axis.plot(xs, ys, label=name, **style)
            if len(points) <= 20:
                filled = [colours[name] if measured else "white" for _, _, measured in points]
                axis.scatter(xs, ys, s=24, c=filled, edgecolors=colours[name], zorder=3)
        axis.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
        for scale, log in ((axis.xaxis, panel.log_x), (axis.yaxis, panel.log_y)):
            if log:
                mark_decades(scale)
        if panel.x_ticks is not None:
            axis.set_xticks(panel.x_ticks, [f"{x:g}" for x in panel.x_ticks])
            axis.xaxis.set_minor_locator(NullLocator())
        if not panel.log_y:
            axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
        make_plain(axis)
        legend |= {line.get_label(): line for line in axis.get_lines()}
    if len(names) > 1:
        figure.legend(legend.values(), legend.keys(), loc="outside right upper", frameon=False)
    figure.supxlabel(caption, fontsize=9, color="#555555")
    return to_png(figure)


def panels_by_parameter(races: Sequence[Race]) -> Iterator[tuple[str, list[Panel]]]:
    """For every parameter that takes several values while the others stay, its name and a panel for each such
    set.

    Attention shows useful FLOP/s, a training step milliseconds per window. A way that did not run has a
    hollow point where its race estimates it; of several races in one place the median counts.
    """
    placed = [(axis, value, race) for race in races for axis, value in places_of(race)]
    for axis, group in grouped(placed, lambda item: item[0]):
        panels = []
        for fixed, same in grouped(group, lambda item, axis=axis: _others(item[2], axis)):
            xs = sorted({x for _, x, _ in same})
            if len(xs) > 1:
                unit, unit_name = _unit([race for _, _, race in same])
                log_x, log_y = axis not in LINEAR, unit < 1
                panel = Panel(
                    _title(dict(fixed)), AXES[axis], unit_name, log_x=log_x, log_y=log_y, x_ticks=xs
                )
                heights = [(name, x, height) for _, x, race in same for name, height in _heights(race, unit)]
                for (name, x), found in grouped(heights, lambda item: item[:2]):
                    measured = [y for _, _, (y, is_measured) in found if is_measured]
                    ys = measured or [y for _, _, (y, _) in found]
                    panel.add(name, x, statistics.median(ys), measured=bool(measured))
                panels.append(panel)
        if panels:
            yield AXES[axis], panels


def _title(fixed: dict[str, Any]) -> str:
    missing = f"{fixed['missing']:.0%} missing" if "missing" in fixed else ""
    names = [str(fixed[name]) for name in ("preset", "window", "direction") if name in fixed]
    return ", ".join(filter(None, (fixed["suite"].replace("_", " "), *names, missing)))


def places_of(race: Race) -> Iterator[tuple[str, float]]:
    """The axes on which a race has a place; a suite that changes one at a time names it."""
    if "axis" in race.params:
        yield race.params["axis"], race.params["value"]
        return
    if race.suite in ("masked_attention", "train_step") and "missing" in race.params:
        missing = race.params["missing"]
        yield "missing", missing if race.suite == "masked_attention" else round(100 * missing, 1)
    if race.suite == "train_step" and "window_tokens" in race.params:
        yield "window_tokens", race.params["window_tokens"]


def _others(race: Race, axis: str) -> tuple[tuple[str, Any], ...]:
    """What must be equal for two races to be on one line."""
    changes = {axis, "axis", "value", *(("window", "num_windows") if axis == "window_tokens" else ())}
    params = {name: value for name, value in race.params.items() if name not in changes}
    return (("suite", race.suite), *sorted(params.items(), key=lambda item: item[0]))


def _unit(races: Sequence[Race]) -> tuple[float, str]:
    if "num_windows" in races[0].params or "useful_flops" not in races[0].extra:
        return 1e-3, "ms a window"
    speeds = [speed for race in races for speed in speeds_of(race).values()]
    return (
        (1e12, "useful TFLOP/s") if speeds and statistics.median(speeds) >= 3e12 else (1e9, "useful GFLOP/s")
    )


def _heights(race: Race, unit: float) -> Iterator[tuple[str, tuple[float, bool]]]:
    """By way, useful FLOP/s or seconds per window in these units, and whether that was measured."""
    if unit >= 1:
        yield from ((name, (speed / unit, True)) for name, speed in speeds_of(race).items())
        return
    for name, way in race.ways.items():
        seconds = way.get("median_seconds") or way.get("estimated_ms", 0.0) / 1e3
        if seconds:
            note = f" ({way['note']})" if way.get("note") else ""
            yield name + note, (seconds / unit / race.params.get("num_windows", 1), "median_seconds" in way)


def speeds_of(race: Race) -> dict[str, float]:
    """Useful FLOP/s of all ways that ran."""
    ran = {name: way["median_seconds"] for name, way in race.ways.items() if "median_seconds" in way}
    return {name: race.extra["useful_flops"] / seconds for name, seconds in ran.items()}


def draw_curves(races: Sequence[Race], name: str, xs: Sequence[str]) -> bytes:
    """One quantity of the races' `curve` against others of it; of the seeds of one variant the mean."""
    panels = [Panel("", f"{x} of training" if x == "seconds" else x, name) for x in xs]
    for variant, group in grouped(races, lambda race: race.params.get("variant", race.ours)):
        curves = [race.extra["curve"] for race in group]
        for panel, x in zip(panels, xs, strict=True):
            low, high = max(min(curve[x]) for curve in curves), min(max(curve[x]) for curve in curves)
            grid = np.linspace(low, high, len(curves[0][x]))
            ys = np.mean([np.interp(grid, curve[x], curve[name]) for curve in curves], axis=0)
            for place, y in zip(grid, ys, strict=True):
                panel.add(variant, float(place), float(y))
    return draw_panels(panels)


def draw_ratio_map(
    cases: Sequence[str], peers: Sequence[str], ratios: Mapping[tuple[str, str], float]
) -> bytes:
    """A row a case, a column a peer: its time over ours, blue above 1; what was not measured stays white."""
    from matplotlib.figure import Figure

    values = np.array([[ratios.get((case, peer), math.nan) for peer in peers] for case in cases])
    width = 1.2 + 0.075 * max(map(len, cases)) + 0.85 * len(peers)
    figure = Figure(figsize=(width, 1.3 + 0.26 * len(cases)), layout="constrained")
    axis = figure.subplots()
    limit = math.log(STRONGEST)
    axis.imshow(np.log(values), cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not math.isnan(value):
            colour = "white" if abs(math.log(value)) > 0.7 * limit else "black"
            text = f"{value:.2f}" if value < 10 else f"{value:.0f}"
            axis.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    axis.set_xticks(range(len(peers)), peers, rotation=30, ha="left", fontsize=8)
    axis.set_yticks(range(len(cases)), cases, fontsize=8)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return to_png(figure)


def draw_rooflines(races: Sequence[Race]) -> Iterator[tuple[str, bytes]]:
    """For every dtype useful FLOP/s against FLOPs per byte, ours and the best peer, under both ceilings."""
    able = [race for race in races if "useful_bytes" in race.extra and speeds_of(race)]
    for dtype, group in grouped(able, lambda race: race.extra["dtype"]):
        rates = [race.extra.get("ceilings", {}) for race in group]
        product = max(found.get("flops_per_second", 0.0) for found in rates)
        copy = max(found.get("bytes_per_second", 0.0) for found in rates)
        if product and copy:
            yield dtype, _draw_roofline(group, product, copy)


def _draw_roofline(races: Sequence[Race], product: float, copy: float) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.2), layout="constrained")
    axis = figure.subplots()
    unit, unit_name = _unit(races)
    intensities = [race.extra["useful_flops"] / race.extra["useful_bytes"] for race in races]
    ridge = product / copy
    low, high = min(min(intensities) / 1.5, ridge / 2), max(intensities) * 1.5
    roof = [low * copy / unit, product / unit, product / unit]
    axis.plot([low, ridge, high], roof, color="#444444", linewidth=1.5)
    beside: dict[str, Any] = {"textcoords": "offset points"}
    note = f"large matrix products: {product / unit:.3g} {unit_name.removeprefix('useful ')}"
    axis.annotate(note, (high, product / unit), (0, 5), ha="right", **beside)
    axis.annotate(f"copies: {copy / 1e9:.3g} GB/s", (low, low * copy / unit), (10, 0), **beside)
    series: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for race, intensity in zip(races, intensities, strict=True):
        ours, *peers = speeds_of(race).values()
        for who, speed in (("ours", ours), *((("best peer", max(peers)),) if peers else ())):
            series.setdefault((who, race.params["direction"]), []).append((intensity, speed / unit))
    for (who, direction), points in series.items():
        colour = OURS_COLOURS[0] if who == "ours" else PEER_COLOURS[0]
        face, marker = colour if who == "ours" else "none", "s" if "backward" in direction else "o"
        look: dict[str, Any] = {"edgecolors": colour, "facecolors": face, "marker": marker, "zorder": 3}
        axis.scatter(*zip(*points, strict=True), s=28, label=f"{who}, {direction}", **look)
    axis.set(xlabel="useful FLOPs per byte that must be moved at the least", ylabel=unit_name)
    mark_decades(axis.xaxis)
    mark_decades(axis.yaxis)
    axis.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    make_plain(axis)
    return to_png(figure)


def is_ours(way: str) -> bool:
    """Whether a line is one of ours, which are drawn bold."""
    return way.startswith("ours") or way == "reference"


def choose_colours(names: Sequence[str]) -> dict[str, str]:
    """Blues for ours, other colours for peers."""
    ours = [name for name in names if is_ours(name)]
    peers = [name for name in names if not is_ours(name)]
    chosen = {name: OURS_COLOURS[place % len(OURS_COLOURS)] for place, name in enumerate(ours)}
    return chosen | {name: PEER_COLOURS[place % len(PEER_COLOURS)] for place, name in enumerate(peers)}


def make_plain(axis: Any) -> None:
    """A light grid, no frame to the right and above."""
    axis.grid(color="#dddddd", linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)


def mark_decades(scale: Any) -> None:
    """A logarithmic xaxis or yaxis with ticks at 1, 2 and 5 of every decade, in plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator

    scale.axes.set(**{f"{scale.axis_name}scale": "log"})
    scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
    scale.set_major_formatter("{x:,g}")
    scale.set_minor_locator(NullLocator())


def to_png(figure: Any) -> bytes:
    """A matplotlib figure as bytes."""
    picture = BytesIO()
    figure.savefig(picture, dpi=130, format="png")
    return picture.getvalue()
