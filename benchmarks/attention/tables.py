"""The cases of benchmarks.attention.race, what it finds in each, as tables and as saved results."""

from __future__ import annotations

import statistics
import textwrap
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.attention.problem import BOTH, OURS
from benchmarks.measure.results import Race
from benchmarks.measure.tables import empty_table, grouped
from benchmarks.measure.timing import compare_laps

if TYPE_CHECKING:  # the suite needs neither rich nor tyro, and a GPU machine may lack them
    from rich.table import Table

LONGEST_NOTE = 300
SHORTEST = "shortest_seconds"
"""What ratios are of."""


@dataclass(frozen=True)
class Case:
    """What is computed, and on how many threads."""

    threads: int
    dtype: str
    head_dim: int
    direction: str
    pattern: str

    @property
    def backward(self) -> bool:
        return self.direction == BOTH

    @property
    def title(self) -> str:
        return f"{self.threads} threads, {self.dtype}, D {self.head_dim}, {self.direction}, {self.pattern}"

    @property
    def machine(self) -> str:
        """What the machine's rates depend on."""
        return f"{self.dtype}, {self.threads} threads"


@dataclass
class Rates:
    """The best that this machine showed so far: FLOP/s of matrix products, exponentials a second."""

    products: float = 0.0
    exponentials: float = 0.0


@dataclass(frozen=True)
class Line:
    """One case at one instruction set: seconds of the laps of ours and of torch's ways, and the useful work."""

    case: Case
    level: str
    laps: dict[str, list[float]]
    """By way, ours first."""
    flops: float
    exponentials: float

    @property
    def shortest(self) -> dict[str, float]:
        """Seconds, by way."""
        return {name: min(times) for name, times in self.laps.items()}

    def summary(self, rates: Rates) -> dict[str, float]:
        """What the seconds mean."""
        floor = self.flops / rates.products + self.exponentials / rates.exponentials
        seconds, *peers = self.shortest.values()
        return {
            "ratio": min(peers) / seconds,
            "useful_gflops": self.flops / seconds / 1e9,
            "share_of_product_rate": self.flops / seconds / rates.products,
            "share_of_floor": floor / seconds,
        }

    def to_race(self, rates: Rates) -> Race:
        """As it is saved."""
        params = asdict(self.case) | {"level": self.level}
        ceilings = {"flops_per_second": rates.products, "exponentials_per_second": rates.exponentials}
        extra = {"useful_flops": self.flops, "useful_exponentials": self.exponentials, "ceilings": ceilings}
        return Race("attention", f"{self.case.title}, {self.level}", params, compare_laps(self.laps, SHORTEST), extra, self.laps[OURS])


@dataclass(frozen=True)
class PeerLine:
    """Other libraries in one case: seconds of the laps of those that ran, ours first, and what they need or why they did not."""

    case: Case
    laps: dict[str, list[float]]
    notes: dict[str, str]

    def to_race(self) -> Race:
        """As it is saved."""
        ways = {name: way | {"note": self.notes.get(name, "")} for name, way in compare_laps(self.laps, SHORTEST).items()}
        ways |= {name: {"error": note} for name, note in self.notes.items() if name not in ways}
        return Race("attention_peers", self.case.title, asdict(self.case), ways, laps=self.laps[OURS])


def table_of(lines: list[Line], rates: dict[str, Rates]) -> Table:
    """A row per line, and after the patterns of each group the geometric mean and the smallest of their ratios."""
    numbers = "ours ms", "split ms", "padded ms", "ratio", "GFLOP/s", "% products", "% floor"
    table = empty_table(("threads", "dtype", "D", "level", "direction", "lengths"), numbers)
    for (case, level), group in grouped(lines, lambda line: (replace(line.case, pattern=""), line.level)):
        names = str(case.threads), case.dtype, str(case.head_dim), level, case.direction
        summaries = [line.summary(rates[case.machine]) for line in group]
        for line, summary in zip(group, summaries, strict=True):
            times = [f"{time * 1e3:.2f}" for time in line.shortest.values()]
            shares = [f"{summary[share] * 100:.0f}" for share in ("share_of_product_rate", "share_of_floor")]
            table.add_row(*names, line.case.pattern, *times, f"{summary['ratio']:.2f}x", f"{summary['useful_gflops']:.0f}", *shares)
        ratios = [summary["ratio"] for summary in summaries]
        mean_and_least = f"{statistics.geometric_mean(ratios):.2f}x, {min(ratios):.2f}x"
        table.add_row(*names, "mean, least", "", "", "", mean_and_least, style="bold", end_section=True)
    return table


def table_of_peers(lines: list[PeerLine]) -> Table:
    """A row per way, with milliseconds and ratio to ours for every pattern, and what the way needs or why it failed."""
    from rich.markup import escape

    patterns = list(dict.fromkeys(line.case.pattern for line in lines))
    table = empty_table(("threads", "dtype", "D", "direction", "way"), [*(f"{pattern} ms" for pattern in patterns), "mean ratio"])
    table.add_column("notes", overflow="fold")
    for case, group in grouped(lines, lambda line: replace(line.case, pattern="")):
        for way in dict.fromkeys(name for line in group for name in line.notes):
            seconds = {line.case.pattern: min(line.laps[way]) for line in group if way in line.laps}
            ratios = {line.case.pattern: seconds[line.case.pattern] / min(line.laps[OURS]) for line in group if way in line.laps}
            cells = [f"{seconds[name] * 1e3:.1f} ({ratios[name]:.2f}x)" if name in ratios else "-" for name in patterns]
            mean = f"{statistics.geometric_mean(ratios.values()):.2f}x" if len(ratios) == len(patterns) else "-"
            notes = {line.notes[way]: line.case.pattern for line in group if line.notes.get(way)}
            note = next(iter(notes)) if len(notes) == 1 else "; ".join(f"{pattern}: {note}" for note, pattern in notes.items())
            names = str(case.threads), case.dtype, str(case.head_dim), case.direction, way
            table.add_row(*names, *cells, mean, escape(textwrap.shorten(note, LONGEST_NOTE)))
        table.add_section()
    return table
