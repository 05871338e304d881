"""The table and the picture of benchmarks.science.time_to_quality. `python -m benchmarks.science.time_to_quality_report JSON [JSON ...] --plot FILE.png`"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
from rich.table import Table

from benchmarks.measure.axes import make_plain, mark_decades
from benchmarks.measure.results import Race, Results, find_results
from benchmarks.measure.tables import empty_table, grouped, show
from benchmarks.measure.timing import summarise

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

    def to_race(self, params: dict[str, Any]) -> Race:
        """As it is saved, with the store and so on."""
        case = ", ".join(map(str, (params["store"], params["preset"], self.variant, f"seed {self.seed}")))
        extra = {name: value for name, value in asdict(self).items() if name not in ("variant", "seed", "step_seconds")}
        params |= {"variant": self.variant, "seed": self.seed}
        return Race("time_to_quality", case, params, {"ours": summarise([self.step_seconds])}, extra, [self.step_seconds])

    @classmethod
    def of_race(cls, race: Race) -> Run:
        """The run that to_race took."""
        return cls(race.params["variant"], race.params["seed"], race.laps[0], **race.extra)

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


def runs_of(files: Sequence[Results]) -> dict[str, list[Run]]:
    """Those that benchmarks.science.time_to_quality saved, by store, preset and machine."""
    runs: dict[str, list[Run]] = {}
    for file in files:
        for race in file.races:
            if race.suite == "time_to_quality" and "variant" in race.params:
                title = f"{race.params['store']}, {race.params['preset']}. {file.machine_name}"
                runs.setdefault(title, []).append(Run.of_race(race))
    return runs


@dataclass(frozen=True)
class Comparison:
    """A variant against the reference, seed by seed with the same people held out; numbers are means over the seeds."""

    step_seconds: float
    error: float
    """After the same time: the longest that both trained."""
    after_time: list[float]
    """Error minus the reference's after the same time, by seed."""
    after_days: list[float]
    """The same after as many days as both saw."""
    sooner: float
    """How many times less time it took to reach what the reference reached at its end (median over the seeds); 0: it never did."""
    probe: float


def compare_with_reference(runs: Sequence[Run]) -> dict[str, Comparison]:
    """By variant, in the order of their first runs."""
    by_variant = {variant: list(group) for variant, group in grouped(runs, lambda run: run.variant)}
    step_seconds = {name: statistics.median(run.step_seconds for run in group) for name, group in by_variant.items()}
    of_reference = step_seconds[REFERENCE]
    references = {run.seed: run for run in by_variant[REFERENCE]}
    all_trained = min(run.steps[-1] for run in references.values()) * of_reference
    result = {}
    for name, group in by_variant.items():
        time = step_seconds[name]
        pairs = [(run, references[run.seed], min(all_trained, run.steps[-1] * time)) for run in group]
        errors = [run.error_after(seconds / time) for run, _, seconds in pairs]
        wanted = [reference.error_after(seconds / of_reference) for _, reference, seconds in pairs]
        days = [(run, reference, min(run.steps[-1], reference.steps[-1])) for run, reference, _ in pairs]
        needed = [run.seconds_to(reference.errors[-1], time) for run, reference, _ in pairs]
        result[name] = Comparison(
            time,
            statistics.mean(errors),
            [error - other for error, other in zip(errors, wanted, strict=True)],
            [run.error_after(steps) - reference.error_after(steps) for run, reference, steps in days],
            statistics.median(
                reference.steps[-1] * of_reference / seconds for (_, reference, _), seconds in zip(pairs, needed, strict=True)
            ),
            statistics.mean(run.probe for run in group),
        )
    return result


def table(runs: Sequence[Run], title: str) -> Table:
    """A row per variant; `vs reference` after the same time and after the same days: mean and standard deviation over the seeds."""
    columns = ("ms a step", "error", "vs reference", "after as many days", "sooner", "probe")
    result = empty_table(("variant",), columns)
    result.title = title
    for name, comparison in compare_with_reference(runs).items():
        result.add_row(
            name,
            f"{1e3 * comparison.step_seconds:.0f}",
            f"{comparison.error:.3f}",
            mean_and_spread(comparison.after_time),
            mean_and_spread(comparison.after_days),
            f"{comparison.sooner:.1f}x" if comparison.sooner else "never",
            f"{comparison.probe:.3f}",
        )
    return result


def draw(path: Path | IO[bytes], runs: Sequence[Run], title: str) -> None:
    """Write a PNG: error against seconds of training, and against days seen; means over the seeds."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

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
        make_plain(axis)
    axes[1].set_xscale("log")
    mark_decades(axes[1].xaxis)
    axes[1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    figure.supxlabel(title, fontsize=9, color="#555555")
    figure.savefig(path, dpi=130, format="png")


def mean_and_spread(values: Sequence[float], digits: int = 3) -> str:
    """With a sign, and how many seeds there are where it is one."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else " (one seed)"
    return f"{statistics.mean(values):+.{digits}f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=Path, metavar="JSON", help="files of --json, of one store and preset")
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    args = parser.parse_args()
    by_title = runs_of(find_results(args.reports))
    if len(by_title) != 1:
        parser.error(f"these are not runs of one store and preset on one machine: {'; '.join(by_title) or 'no runs'}")
    ((title, runs),) = by_title.items()
    show([table(runs, title)])
    if args.plot is not None:
        draw(args.plot, runs, title)


if __name__ == "__main__":
    main()
