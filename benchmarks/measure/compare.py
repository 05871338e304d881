"""Has anything become slower? `python -m benchmarks.measure.compare BEFORE AFTER`

Both are files of results, JSON of `make bench` and of programs or CSV of benchmarks/results, or folders of
them. The peers of a race run the same code in both, so what they changed by, on (geometric) average, is the
machine's drift, and is taken out of ours. The noise is the larger of two: what the distances between the 20th
and 80th percentiles of ours and of the peers, in both files, leave uncertain; and, of at least 8 benchmarks,
four standard deviations of what they changed by, estimated from the middle half of them, as most are presumed
unchanged. A change beyond the noise and beyond 5 % is marked; the exit status is 1 if one of them is a
regression. Files of different machines are refused.
"""

import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.measure.options import make_parser
from benchmarks.measure.results import find_results
from benchmarks.measure.tables import empty_table, show

SMALLEST_CHANGE = 0.05
Medians = dict[str, dict[str, dict[str, float]]]
DEVIATIONS, FEWEST_FOR_SPREAD = 4, 8
DEVIATIONS_IN_MIDDLE_HALF = 1.349
"""Of a normal distribution, from the first quartile to the third."""


@dataclass(frozen=True)
class Change:
    """One benchmark, before and after; factors are after over before: above 1 is slower."""

    name: str
    before: float
    """Median seconds of ours."""
    after: float
    drift: float
    """Of the machine, by the peers; 1 where there are none."""
    noise: float
    """The factor by which ours may seem to differ with nothing changed."""

    @property
    def factor(self) -> float:
        """Of ours, without the machine's drift."""
        return self.after / self.before / self.drift

    @property
    def verdict(self) -> str:
        """Regression, gain, or nothing that can be told from noise."""
        threshold = max(self.noise, 1 + SMALLEST_CHANGE)
        return "REGRESSION" if self.factor > threshold else "gain" if self.factor < 1 / threshold else ""


def read_medians(path: Path) -> Medians:
    """By benchmark, by way, ours first: median, p20 and p80 seconds; what has no time is left out."""
    medians = {}
    for results in find_results([path]):
        for race in results.races:
            ways = {
                name: way for name, way in race.ways.items() if {"median_seconds", "p20_seconds"} <= set(way)
            }
            if race.ours in ways:
                medians[f"{race.suite}: {race.case}"] = ways
    return medians


def compare(before: dict[str, dict[str, float]], after: dict[str, dict[str, float]], name: str) -> Change:
    """Ours, the first way, and the peers that are in both."""
    ours = next(iter(before))
    peers = [way for way in before if way in after and way != ours]
    factors = [after[way]["median_seconds"] / before[way]["median_seconds"] for way in peers]
    # Logarithms: errors of factors add in squares.
    of_ours = sum(_uncertainty(ways[ours]) ** 2 for ways in (before, after))
    of_drift = (
        sum(_uncertainty(ways[way]) ** 2 for ways in (before, after) for way in peers)
        / max(1, len(peers)) ** 2
    )
    return Change(
        name,
        before[ours]["median_seconds"],
        after[ours]["median_seconds"],
        statistics.geometric_mean(factors) if factors else 1.0,
        math.exp(math.sqrt(of_ours + of_drift)),
    )


def find_spread(changes: Sequence[Change]) -> float:
    """The factor by which benchmarks seem to differ, most presumed unchanged; 1 for few of them."""
    if len(changes) < FEWEST_FOR_SPREAD:
        return 1.0
    first, _, third = statistics.quantiles((math.log(change.factor) for change in changes), n=4)
    return math.exp(DEVIATIONS * (third - first) / DEVIATIONS_IN_MIDDLE_HALF)


def compare_all(before: Medians, after: Medians) -> list[Change]:
    """Every benchmark that is in both."""
    both = [name for name in before if name in after and next(iter(before[name])) in after[name]]
    changes = [compare(before[name], after[name], name) for name in both]
    spread = find_spread(changes)
    return [replace(change, noise=max(change.noise, spread)) for change in changes]


def _uncertainty(way: dict[str, float]) -> float:
    """Of the median, as a logarithm: half of the way from the 20th to the 80th percentile."""
    return math.log(way["p80_seconds"] / way["p20_seconds"]) / 2


def machines_of(path: Path) -> set[str]:
    """Their names without the version of torch, which may change."""
    return {str(run.machine.get("machine")) for run in find_results([path])}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    args = parser.parse_args(arguments)
    if machines_of(args.before) != machines_of(args.after):
        machines = "; ".join(" and ".join(sorted(machines_of(path))) for path in (args.before, args.after))
        parser.error(f"these are results of different machines: {machines}")
    before, after = read_medians(args.before), read_medians(args.after)
    changes = compare_all(before, after)
    table = empty_table(("benchmark",), ("before ms", "after ms", "machine", "ours", "noise", ""))
    for change in sorted(changes, key=lambda change: -change.factor):
        times = f"{1e3 * change.before:.3g}", f"{1e3 * change.after:.3g}"
        factors = (f"{factor:.2f}x" for factor in (change.drift, change.factor, change.noise))
        table.add_row(change.name, *times, *factors, change.verdict)
    show([table])
    for name in sorted(before.keys() ^ after.keys()):
        print(f"only in {args.before if name in before else args.after}: {name}")
    verdicts = [change.verdict for change in changes]
    found = f"{verdicts.count('REGRESSION')} regressions, {verdicts.count('gain')} gains"
    print(f"{len(changes)} compared: {found}; factors: after / before")
    sys.exit("REGRESSION" in verdicts)


if __name__ == "__main__":
    main()
