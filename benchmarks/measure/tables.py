"""Tables of any races, for a terminal and for a page, in one style."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks.measure.results import Race

if TYPE_CHECKING:
    from rich.table import Table

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)
Cell = Callable[[Race, Mapping[str, Any], float], str | None]
SMALLEST_WIDTH = 180


def grouped(lines: Iterable[Item], key: Callable[[Item], Key]) -> Iterable[tuple[Key, list[Item]]]:
    """Keys in the order of their first line, each with its lines."""
    groups: dict[Key, list[Item]] = {}
    for line in lines:
        groups.setdefault(key(line), []).append(line)
    return groups.items()


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of a page."""
    lines = ["|".join(f" {cell} " if cell else " " for cell in cells) for cells in (header, *rows)]
    lines.insert(1, "|".join(["---"] * len(header)))
    return "".join(f"|{line}|\n" for line in lines)


def empty_table(names: Iterable[str], numbers: Iterable[str], title: str = "") -> Table:
    """Columns of names to the left, columns of numbers to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False, title=title or None)
    for name in names:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def show(tables: Iterable[Table | str]) -> None:
    """Print them, in a log file too as wide as they need."""
    from rich.console import Console

    console = Console()
    console.width = max(console.width, SMALLEST_WIDTH)
    for table in tables:
        console.print(table, highlight=False, markup=False)


def useful_flops(race: Race, way: Mapping[str, Any]) -> float | None:
    """Of the way where ways differ, else of the race."""
    return way.get("useful_flops", race.extra.get("useful_flops"))


def product_share(race: Race, flops: float | None, seconds: float) -> str | None:
    """Percent of the rate of a large matrix product in the same race."""
    rate = race.extra.get("ceilings", {}).get("flops_per_second")
    return None if flops is None or not rate else f"{100 * flops / seconds / rate:.0f}"


def floor_seconds(race: Race) -> float | None:
    """What products and exponentials need at the machine's rates, without overlap; None where unknown."""
    rates = race.extra.get("ceilings", {})
    if "exponentials_per_second" not in rates:
        return None
    products = race.extra["useful_flops"] / rates["flops_per_second"]
    return products + race.extra["useful_exponentials"] / rates["exponentials_per_second"]


def _number(name: str, form: str, scale: float = 1.0) -> Cell:
    def show_number(race: Race, way: Mapping[str, Any], seconds: float) -> str | None:
        number = way.get(name)
        return None if number is None else f"{number if form == 'd' else number / scale:{form}}"

    return show_number


COLUMNS: dict[str, Cell] = {
    "ms": lambda race, way, seconds: f"{1e3 * seconds:.4g}",
    "p20 to p80": lambda race, way, seconds: (
        f"{1e3 * way['p20_seconds']:.3g} to {1e3 * way['p80_seconds']:.3g}" if "p20_seconds" in way else None
    ),
    "useful GFLOP/s": lambda race, way, seconds: (
        f"{flops / seconds / 1e9:.3g}" if (flops := useful_flops(race, way)) else None
    ),
    "% product": lambda race, way, seconds: product_share(race, useful_flops(race, way), seconds),
    "total % product": lambda race, way, seconds: product_share(race, way.get("total_flops"), seconds),
    "% floor": lambda race, way, seconds: (
        f"{100 * floor / seconds:.0f}" if (floor := floor_seconds(race)) else None
    ),
    "useful TFLOP": _number("useful_flops", ".3g", 1e12),
    "total TFLOP": _number("total_flops", ".3g", 1e12),
    "days/s": _number("days_per_second", ".3g"),
    "visible/s": _number("visible_tokens_per_second", ".0f"),
    "peak MB": _number("peak_bytes", ".0f", 1e6),
    "prepare ms": _number("metadata_ms", ".2f"),
    "alone ms": _number("alone_ms", ".3f"),
    "registers": _number("registers", "d"),
    "spills": _number("spills", "d"),
    "shared bytes": _number("shared_bytes", "d"),
    "ratio": lambda race, way, seconds: f"{way['ratio_to_ours']:.2f}x" if way.get("ratio_to_ours") else None,
}
"""Of a way that ran, from its race, its numbers and its seconds; a column without any number is left out."""


def race_tables(races: Sequence[Race], by: str = "median_seconds") -> Iterator[Table]:
    """A table for each race, a row for each way, those that did not run too."""
    for race in races:
        cells = {
            name: [cell(race, way, way[by]) or "" if by in way else "" for cell in COLUMNS.values()]
            for name, way in race.ways.items()
        }
        used = [place for place in range(len(COLUMNS)) if any(row[place] for row in cells.values())]
        table = empty_table(("way",), [list(COLUMNS)[place] for place in used], race.case)
        table.add_column("note", overflow="fold", min_width=24)
        for name, way in race.ways.items():
            note = str(way.get("error") or way.get("note") or "")
            table.add_row(name, *(cells[name][place] for place in used), note)
        yield table


def best_ratio(race: Race, leave_out: Sequence[str] = ()) -> tuple[float, str] | None:
    """The closest that any other way comes to ours, and which; ways of ours are no others."""
    others = {name: ratio for name, ratio in race.ratios.items() if not name.startswith("ours")}
    return min(((ratio, name) for name, ratio in others.items() if name not in leave_out), default=None)


def summary_table(races: Sequence[Race], over: str, by: str = "median_seconds") -> Table:
    """A row for races that differ in one parameter alone: the best peer's mean and least ratio, and rates."""
    table = empty_table(("races",), ("mean ratio", "least", "useful GFLOP/s", "% product", "% floor"))
    able = [race for race in races if by in race.ways[race.ours] and best_ratio(race)]
    for key, group in grouped(able, lambda race: tuple((k, v) for k, v in race.params.items() if k != over)):
        ratios = [best[0] for race in group if (best := best_ratio(race))]
        seconds = [race.ways[race.ours][by] for race in group]
        means = []
        for head in ("useful GFLOP/s", "% product", "% floor"):
            cells = [
                COLUMNS[head](race, race.ways[race.ours], time)
                for race, time in zip(group, seconds, strict=True)
            ]
            numbers = [float(cell) for cell in cells if cell]
            means.append(f"{statistics.geometric_mean(numbers):.0f}" if numbers and min(numbers) > 0 else "")
        named = ", ".join(f"{name} {value}" for name, value in key)
        table.add_row(named, f"{statistics.geometric_mean(ratios):.2f}x", f"{min(ratios):.2f}x", *means)
    return table


@dataclass(frozen=True)
class Target:
    """What was aimed at in the races with these parameters: so many times the speed of a peer."""

    params: Mapping[str, Any]
    wanted: float
    peer: str
    ours: str

    def verdict(self, races: Sequence[Race]) -> str:
        """One line: met, missed or not measured."""
        case = f"{', '.join(map(str, self.params.values()))}, {self.ours}"
        what = f"{case}: wanted {self.wanted:g}x the speed of {self.peer}"
        values = [value for race in races if (value := self._value(race)) is not None]
        if not values:
            return f"{'not measured':13}{what}, is unknown"
        return f"{'met' if values[0] >= self.wanted else 'missed':13}{what}, is {values[0]:.3g}"

    def _value(self, race: Race) -> float | None:
        if any(race.params.get(name) != value for name, value in self.params.items()):
            return None
        ours, peer = (race.ways.get(way, {}) for way in (self.ours, self.peer))
        if "median_seconds" not in ours or "median_seconds" not in peer:
            return None
        # A peer that ran in a race of its own has its ratio to ours there.
        return peer["ratio_to_ours"] / ours["ratio_to_ours"]


def count_met(verdicts: Sequence[str]) -> str:
    """The last part of a headline."""
    return f"{sum(line.startswith('met') for line in verdicts)} of {len(verdicts)} targets met"
