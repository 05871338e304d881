"""Pictures of races: speed against the arithmetic intensity under the machine's ceilings, and against one axis of the problem."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from benchmarks.attention.problem import DIRECTIONS, OURS
from benchmarks.measure.axes import make_plain, mark_decades
from benchmarks.measure.results import Race
from benchmarks.measure.tables import grouped

COLOURS = {OURS: "#0b4fb3"}
PEER_COLOURS = ("#c8441b", "#e6a100", "#1b9e77", "#7b5ea7", "#8a6d3b", "#d16ba5")
MARKERS = dict(zip(DIRECTIONS, "os", strict=True))
AXES = {
    "length": "tokens in a sequence",
    "batch": "simulated days in a batch",
    "heads": "heads",
    "head_dim": "head dim",
    "missing": "percent of a day's 3744 tokens missing",
}


@dataclass(frozen=True)
class Point:
    """A way in a race: where on an axis, and how fast."""

    way: str
    direction: str
    x: float
    flops_per_second: float


def points_of(race: Race, x: float) -> list[Point]:
    """Of all ways that ran."""
    flops = race.extra["useful_flops"]
    ran = {name: way["median_seconds"] for name, way in race.ways.items() if "median_seconds" in way}
    return [Point(name, race.params["direction"], x, flops / seconds) for name, seconds in ran.items()]


def place_on_axis(race: Race) -> tuple[str, float] | None:
    """Which axis a race belongs to, and where; None for one that stands for itself."""
    if "axis" in race.params:
        return race.params["axis"], race.params["value"]
    return ("missing", race.params["missing"]) if race.suite == "masked_attention" else None


def draw_axes(races: Sequence[Race]) -> Iterable[tuple[str, bytes]]:
    """For every axis that was measured, what it is and a PNG: forward to the left, forward and backward to the right."""
    placed = [(place, race) for race in races if (place := place_on_axis(race)) is not None]
    for axis, group in grouped(placed, lambda item: item[0][0]):
        points = [point for (_, x), race in group for point in points_of(race, x)]
        yield AXES[axis], _draw_axis(axis, points)


def _draw_axis(name: str, points: Sequence[Point]) -> bytes:
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(11, 3.9), layout="constrained")
    unit, unit_name = _unit(points)
    colours = _colours(points)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, direction in zip(panels, MARKERS, strict=True):
        for way, group in grouped([point for point in points if point.direction == direction], lambda point: point.way):
            ordered = sorted(group, key=lambda point: point.x)
            ys = [point.flops_per_second / unit for point in ordered]
            width = 2.6 if way == OURS else 1.5
            panel.plot([point.x for point in ordered], ys, "o-", color=colours[way], linewidth=width, markersize=4, label=way)
        xs = sorted({point.x for point in points})
        panel.set(title=direction, xlabel=AXES[name], ylim=(0, 1.08 * max(point.flops_per_second for point in points) / unit))
        if name != "missing":
            panel.set_xscale("log")
        panel.set_xticks(xs, [f"{x:g}" for x in xs])
        panel.xaxis.set_minor_locator(NullLocator())
        make_plain(panel)
    panels[0].set_ylabel(f"useful {unit_name}")
    panels[1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    return _png(figure)


def draw_rooflines(races: Sequence[Race]) -> Iterable[tuple[str, bytes]]:
    """For every dtype a PNG: useful FLOP/s against useful FLOPs per useful byte, of ours and of the best peer, and the ceilings."""
    for dtype, group in grouped([race for race in races if "useful_bytes" in race.extra], lambda race: race.extra["dtype"]):
        products, copies = (_best_rate(group, rate) for rate in ("flops_per_second", "bytes_per_second"))
        if products is not None and copies is not None:
            yield dtype, _draw_roofline(group, products, copies)


def _best_rate(races: Sequence[Race], rate: str) -> float | None:
    """Of the races that measured it."""
    return max((race.extra["ceilings"][rate] for race in races if rate in race.extra["ceilings"]), default=None)


def _draw_roofline(races: Sequence[Race], product: float, copy: float) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.2), layout="constrained")
    axis = figure.subplots()
    points = [best for race in races for best in _ours_and_best_peer(race)]
    unit, unit_name = _unit(points)
    low, high = min(point.x for point in points) / 1.5, max(point.x for point in points) * 1.5
    ridge = product / copy
    low = min(low, ridge / 2)
    axis.plot([low, ridge, high], [low * copy / unit, product / unit, product / unit], color="#444444", linewidth=1.5)
    axis.annotate(
        f"large matrix products: {product / unit:.3g} {unit_name}", (high, product / unit), (0, 5), ha="right", textcoords="offset points"
    )
    axis.annotate(f"copies: {copy / 1e9:.3g} GB/s", (low, low * copy / unit), (10, 0), textcoords="offset points")
    for way, colour in ((OURS, COLOURS[OURS]), ("best peer", PEER_COLOURS[0])):
        for direction, marker in MARKERS.items():
            chosen = [point for point in points if (point.way, point.direction) == (way, direction)]
            face = colour if way == OURS else "none"
            xs, ys = [point.x for point in chosen], [point.flops_per_second / unit for point in chosen]
            axis.scatter(xs, ys, marker=marker, edgecolors=colour, facecolors=face, s=28, label=f"{way}, {direction}", zorder=3)
    axis.set(xscale="log", yscale="log", xlabel="useful FLOPs per byte that must be moved at the least", ylabel=f"useful {unit_name}")
    mark_decades(axis.xaxis)
    mark_decades(axis.yaxis)
    axis.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    make_plain(axis)
    return _png(figure)


def _ours_and_best_peer(race: Race) -> list[Point]:
    ours, *peers = points_of(race, race.extra["useful_flops"] / race.extra["useful_bytes"])
    best = max(peers, key=lambda point: point.flops_per_second, default=None)
    return [ours] if best is None else [ours, Point("best peer", best.direction, best.x, best.flops_per_second)]


def _unit(points: Sequence[Point]) -> tuple[float, str]:
    middle = statistics.median(point.flops_per_second for point in points)
    return (1e12, "TFLOP/s") if math.log10(middle) >= 12.5 else (1e9, "GFLOP/s")


def _colours(points: Sequence[Point]) -> dict[str, str]:
    peers = [way for way in dict.fromkeys(point.way for point in points) if way not in COLOURS]
    return COLOURS | {way: PEER_COLOURS[place % len(PEER_COLOURS)] for place, way in enumerate(peers)}


def _png(figure: Any) -> bytes:
    picture = BytesIO()
    figure.savefig(picture, dpi=130, format="png")
    return picture.getvalue()
