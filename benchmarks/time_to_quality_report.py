"""The table and the picture of benchmarks.time_to_quality. `python -m benchmarks.time_to_quality_report JSON [JSON ...] --plot FILE.png`"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
from rich.table import Table

from benchmarks.tables import empty_table, grouped, show

REFERENCE = "reference"


@dataclass(frozen=True)
class Run:
    """One variant trained with one seed: how its error fell."""

    variant: str
    seed: int
    step_seconds: float
    """Median, when all variants took turns."""
    batch_days: int
    curve: list[tuple[int, dict[str, float]]]
    """Steps done, and by task the error over that of the mean fill."""
    probe: float

    @property
    def steps(self) -> list[int]:
        """At the validations."""
        return [steps for steps, _ in self.curve]

    @property
    def errors(self) -> list[float]:
        """At the validations, the mean over the tasks."""
        return [statistics.mean(tasks.values()) for _, tasks in self.curve]

    def error_after(self, steps: float) -> float:
        """On straight lines between the validations; NaN before the first."""
        return float(np.interp(steps, self.steps, self.errors, left=math.nan))

    def seconds_to(self, error: float, step_seconds: float) -> float:
        """Until this error is reached, on straight lines between the validations; infinite if it never is."""
        if self.errors[0] <= error:
            return self.steps[0] * step_seconds
        for (before, after), (high, low) in zip(pairwise(self.steps), pairwise(self.errors), strict=True):
            if low <= error:
                return step_seconds * (before + (after - before) * (high - error) / (high - low))
        return math.inf


def table(runs: Sequence[Run], title: str) -> Table:
    """A row per variant: errors after the same time and after the same number of days, the time to the reference's last error, the probe.

    The same time and number of days are the most that all variants reached. `vs reference`: mean and standard deviation of the differences
    of each seed; "-" before the first validation.
    """
    by_variant = {variant: list(group) for variant, group in grouped(runs, lambda run: run.variant)}
    step_seconds = {name: statistics.median(run.step_seconds for run in group) for name, group in by_variant.items()}
    references = {run.seed: run for run in by_variant[REFERENCE]}
    equal_steps = min(run.steps[-1] for run in runs)
    equal_seconds = min(run.steps[-1] * step_seconds[run.variant] for run in runs)
    after_seconds, after_days = f"after {equal_seconds:.0f} s", f"after {equal_steps * runs[0].batch_days} days"
    columns = ("ms a step", "steps", after_seconds, "vs reference", after_days, "vs reference", "seconds to reference's", "probe")
    result = empty_table(("variant",), columns)
    result.title = title
    for name, group in by_variant.items():
        cells = []
        for steps, steps_of_reference in (
            (equal_seconds / step_seconds[name], equal_seconds / step_seconds[REFERENCE]),
            (equal_steps, equal_steps),
        ):
            errors = [run.error_after(steps) for run in group]
            differences = [run.error_after(steps) - references[run.seed].error_after(steps_of_reference) for run in group]
            cells += ["-", "-"] if math.isnan(sum(differences)) else [f"{statistics.mean(errors):.3f}", _mean_and_spread(differences)]
        reached = statistics.median(
            run.seconds_to(references[run.seed].error_after(equal_seconds / step_seconds[REFERENCE]), step_seconds[name]) for run in group
        )
        result.add_row(
            name,
            f"{1e3 * step_seconds[name]:.0f}",
            str(group[0].steps[-1]),
            *cells,
            "never" if math.isinf(reached) else f"{reached:.0f}",
            f"{statistics.mean(run.probe for run in group):.3f}",
        )
    return result


def draw(path: Path | IO[bytes], runs: Sequence[Run], title: str) -> None:
    """Write a PNG: error against seconds of training, and against days seen; means over the seeds."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(13, 6), layout="constrained")
    axes = figure.subplots(1, 2)
    for number, (variant, group) in enumerate(grouped(runs, lambda run: run.variant)):
        # Seeds of separate runs were validated after other numbers of steps.
        steps = np.linspace(max(run.steps[0] for run in group), min(run.steps[-1] for run in group), len(group[0].steps))
        errors = np.mean([[run.error_after(count) for count in steps] for run in group], axis=0)
        seconds = statistics.median(run.step_seconds for run in group)
        colour = "black" if variant == REFERENCE else colormaps["tab20"](number % 20)
        for axis, places in zip(axes, (steps * seconds, steps * group[0].batch_days), strict=True):
            axis.plot(places, errors, "o-", color=colour, linewidth=2.6 if variant == REFERENCE else 1.4, markersize=3, label=variant)
    for axis, label in zip(axes, ("seconds of training", "days seen"), strict=True):
        axis.set(xlabel=label, ylabel="squared error over that of the mean, held-out people")
        axis.grid(color="#dddddd", linewidth=0.5)
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].set_xscale("log")
    axes[1].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes[1].xaxis.set_major_formatter("{x:,g}")
    axes[1].xaxis.set_minor_locator(NullLocator())
    axes[1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    figure.supxlabel(title, fontsize=9, color="#555555")
    figure.savefig(path, dpi=130, format="png")


def _mean_and_spread(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):+.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=Path, metavar="JSON", help="files of --json, of one store and preset")
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    args = parser.parse_args()
    reports = [json.loads(path.read_text()) for path in args.reports]
    titles = {f"{report['store']}, {report['preset']}. {report['machine_name']}" for report in reports}
    if len(titles) > 1:
        parser.error(f"these are not runs of one store and preset on one machine: {'; '.join(sorted(titles))}")
    runs = [Run(**run) for report in reports for run in report["runs"]]
    show([table(runs, min(titles))])
    if args.plot is not None:
        draw(args.plot, runs, min(titles))


if __name__ == "__main__":
    main()
