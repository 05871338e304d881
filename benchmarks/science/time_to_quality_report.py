"""Recipes compared: the table and figure of `benchmarks.science.time_to_quality`, from files of several runs
together.

`python -m benchmarks.science.time_to_quality_report FILE [FILE ...] --plot FILE.png`
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.measure.figures import draw_curves
from benchmarks.measure.options import make_parser
from benchmarks.measure.results import Race, Results, find_results
from benchmarks.measure.tables import empty_table, grouped, show

SUITE = "time_to_quality"
REFERENCE = "reference"


@dataclass(frozen=True)
class Run:
    """One variant trained with one seed: how its error fell."""

    variant: str
    seed: int
    step_seconds: float
    """Median, when all variants took turns."""
    steps: list[float]
    """Done at the validations."""
    errors: list[float]
    """At the validations, the mean over the tasks of the error over that of the mean fill."""
    probe: float

    @classmethod
    def from_race(cls, race: Race) -> Run:
        """The run that `benchmarks.science.time_to_quality` saved."""
        curve, step_seconds = race.extra["curve"], race.ways["ours"]["median_seconds"]
        variant, seed = race.params["variant"], race.params["seed"]
        return cls(variant, seed, step_seconds, curve["steps"], curve["error"], race.extra["probe"])

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


def races_of(files: Sequence[Results]) -> dict[str, list[Race]]:
    """Those of this suite, by store, preset and machine."""
    races: dict[str, list[Race]] = {}
    for file in files:
        for race in file.races:
            if race.suite == SUITE and "curve" in race.extra:
                title = f"{race.params['store']}, {race.params['preset']}. {file.machine_name}"
                races.setdefault(title, []).append(race)
    return races


@dataclass(frozen=True)
class Comparison:
    """A variant against the reference, seed by seed with the same people held out; means over the seeds."""

    step_seconds: float
    error: float
    """After the same time: the longest that both trained."""
    after_time: list[float]
    """Error minus the reference's after the same time, by seed."""
    after_days: list[float]
    """The same after as many days as both saw."""
    sooner: float
    """How many times sooner it had the reference's last error, median over seeds; 0: it never had."""
    probe: float


def compare_with_reference(runs: Sequence[Run]) -> dict[str, Comparison]:
    """By variant, in the order of their first runs."""
    by_variant = {variant: list(group) for variant, group in grouped(runs, lambda run: run.variant)}
    step_seconds = {
        name: statistics.median(run.step_seconds for run in group) for name, group in by_variant.items()
    }
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
        of_references = [reference.steps[-1] * of_reference for _, reference, _ in pairs]
        result[name] = Comparison(
            time,
            statistics.mean(errors),
            [error - other for error, other in zip(errors, wanted, strict=True)],
            [run.error_after(steps) - reference.error_after(steps) for run, reference, steps in days],
            statistics.median(
                theirs / seconds for theirs, seconds in zip(of_references, needed, strict=True)
            ),
            statistics.mean(run.probe for run in group),
        )
    return result


def show_races(races: Sequence[Race], title: str, plot: Path | None) -> None:
    """A row per variant; against the reference after equal time and days: mean and spread over seeds.

    The curves go into the file `plot`.
    """
    columns = ("ms a step", "error", "vs reference", "after as many days", "sooner", "probe")
    result = empty_table(("variant",), columns, title)
    for name, comparison in compare_with_reference([Run.from_race(race) for race in races]).items():
        result.add_row(
            name,
            f"{1e3 * comparison.step_seconds:.0f}",
            f"{comparison.error:.3f}",
            mean_and_spread(comparison.after_time),
            mean_and_spread(comparison.after_days),
            f"{comparison.sooner:.1f}x" if comparison.sooner else "never",
            f"{comparison.probe:.3f}",
        )
    show([result])
    if plot is not None:
        plot.write_bytes(draw_curves(races, "error", ["seconds", "days"]))


def mean_and_spread(values: Sequence[float], digits: int = 3) -> str:
    """With a sign, and how many seeds there are where it is one."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else " (one seed)"
    return f"{statistics.mean(values):+.{digits}f}{spread}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="of results, all of one store and preset")
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    args = parser.parse_args(arguments)
    by_title = races_of(find_results(args.files))
    if len(by_title) != 1:
        parser.error(f"not runs of one store and preset on one machine: {'; '.join(by_title) or 'no runs'}")
    ((title, races),) = by_title.items()
    show_races(races, title, args.plot)


if __name__ == "__main__":
    main()
