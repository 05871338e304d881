"""A picture of what benchmarks.step.race measured. `python -m benchmarks.step.figure JSON [JSON ...] --out FILE.png`

Time per window against the missing fraction, and against the length of the window; hollow markers are estimates, not measurements.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Literal

from benchmarks.measure.axes import make_plain, mark_decades
from benchmarks.measure.results import find_results
from benchmarks.step.tables import TARGET_MISSING, Result, results_of

COLOURS = {
    "ours_cross": "#0b4fb3",
    "ours_joint": "#2f86d9",
    "ours_full": "#79b8ea",
    "padded": "#e6a100",
    "paper": "#c8441b",
    "dense": "#5b1a10",
    "nested": "#1b9e77",
    "nested_cross": "#77c79f",
    "flex": "#7b5ea7",
    "flex_cross": "#b9a3d6",
}
LABEL_GAP = 0.045
"""Of the height of a panel, between the lower edges of two labels."""
Point = tuple[float, float, bool]
"""Where, milliseconds per window, and whether they were measured."""


def draw(path: Path | IO[bytes], results: Sequence[Result], machine: str) -> None:
    """Write a PNG: a row per preset, missing fractions to the left, windows to the right."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    presets = list(dict.fromkeys(result.case.preset for result in results))
    figure = Figure(figsize=(13, 5.2 * len(presets)), layout="constrained")
    rows = figure.subplots(len(presets), 2, squeeze=False)
    for preset, (left, right) in zip(presets, rows, strict=True):
        of_preset = choose_batch_size([result for result in results if result.case.preset == preset])
        windows = {result.case.window_tokens: result.case.window for result in of_preset}
        window = min(windows)
        fractions = sorted({result.case.missing for result in of_preset})
        missing = min(fractions, key=lambda fraction: abs(fraction - TARGET_MISSING))
        _draw_lines(left, [result for result in of_preset if result.case.window_tokens == window], "missing")
        left.set(title=f"{preset}: one {windows[window]}", xlabel="percent of the tokens missing, mean over the batch")
        left.set_xticks([100 * fraction for fraction in fractions], [f"{100 * fraction:.0f}" for fraction in fractions])
        of_missing = [result for result in of_preset if result.case.missing == missing]
        longest = {
            result.way for result in of_missing if result.case.window_tokens == max(windows)
        }  # others would be points without a line
        _draw_lines(right, [result for result in of_missing if result.way in longest], "window_tokens")
        right.set(title=f"{preset}: {missing:.0%} missing", xlabel="tokens in a window", xscale="log")
        right.set_xticks(list(windows), [f"{tokens:,}\na {name}" for tokens, name in windows.items()])
        right.xaxis.set_minor_locator(NullLocator())
    caption = "forward, loss and backward under bf16 autocast, no optimizer; hollow: estimated, not run; flex on a CPU: forward alone"
    figure.supxlabel(f"{machine}. {caption}", fontsize=9, color="#555555")
    figure.savefig(path, dpi=130, format="png")


def choose_batch_size(results: Sequence[Result]) -> list[Result]:
    """Where days were measured in batches of several sizes, those of the size that was measured most often; longer windows all."""
    sizes = Counter(result.case.num_windows for result in results if result.case.window == "day")
    usual = max(sizes, key=lambda size: sizes[size], default=None)
    return [result for result in results if result.case.window != "day" or result.case.num_windows == usual]


def _draw_lines(axis: Any, results: Sequence[Result], by: Literal["missing", "window_tokens"]) -> None:
    lines: dict[str, list[Point]] = {}
    for result in results:
        ms = result.ms or result.estimated_ms
        if ms is not None:
            where = 100 * result.case.missing if by == "missing" else result.case.window_tokens
            lines.setdefault(result.way, []).append((where, ms / result.case.num_windows, result.ms is not None))
    for way, points in lines.items():
        points.sort()
        colour, is_ours = COLOURS.get(way.removesuffix("_compiled"), "#777777"), way.startswith("ours")
        style = "--" if way.endswith("_compiled") else ":" if way.startswith("flex") else "-"
        axis.plot([x for x, _, _ in points], [y for _, y, _ in points], style, color=colour, linewidth=2.6 if is_ours else 1.5)
        for x, y, is_measured in points:
            axis.plot(x, y, "o", color=colour, markerfacecolor=colour if is_measured else "white", markersize=5, zorder=3)
    heights = [y for points in lines.values() for _, y, _ in points]
    low, high = 0.7 * min(heights), 1.4 * max(heights)
    axis.set(ylabel="milliseconds per window", yscale="log", ylim=(low, high))
    mark_decades(axis.yaxis)
    make_plain(axis)
    last = -1.0
    for way, (x, y, _) in sorted(((way, points[-1]) for way, points in lines.items()), key=lambda end: end[1][1]):
        last = max(math.log(y / low) / math.log(high / low), last + LABEL_GAP)
        _label_end(axis, way, (x, y), last)


def _label_end(axis: Any, way: str, point: tuple[float, float], height: float) -> None:
    """The line's name to the right of its last point, at a height in fractions of the panel."""
    axis.annotate(
        way,
        point,
        (1.03, height),
        textcoords="axes fraction",
        va="center",
        fontsize=9,
        color=COLOURS.get(way.removesuffix("_compiled"), "#777777"),
        weight="bold" if way.startswith("ours") else "normal",
        arrowprops={"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.6},
        annotation_clip=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=Path, metavar="JSON", help="files of --json; of a way measured twice the last counts")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    files = find_results(args.reports)
    results = {(result.case, result.way): result for file in files for result in results_of(file.races)}
    draw(args.out, list(results.values()), ", ".join(dict.fromkeys(file.machine_name for file in files)))


if __name__ == "__main__":
    main()
