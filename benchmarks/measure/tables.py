"""Tables that all benchmarks print in one style, and the line that says whether something that was aimed at is reached."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # a borrowed GPU machine may lack it, and suites do without
    from rich.table import Table

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)
SMALLEST_WIDTH = 150


def empty_table(names: Iterable[str], numbers: Iterable[str]) -> Table:
    """Columns of names to the left, columns of numbers to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for title in names:
        table.add_column(title, no_wrap=True)
    for title in numbers:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def show(tables: Iterable[Table | str]) -> None:
    """Print them, in a log file too as wide as they need."""
    from rich.console import Console

    console = Console()
    console.width = max(console.width, SMALLEST_WIDTH)
    for table in tables:
        console.print(table, highlight=False)


def grouped(lines: Iterable[Item], key: Callable[[Item], Key]) -> Iterable[tuple[Key, list[Item]]]:
    """Keys in the order of their first line, each with its lines."""
    groups: dict[Key, list[Item]] = {}
    for line in lines:
        groups.setdefault(key(line), []).append(line)
    return groups.items()


def verdict(met: bool | None, text: str) -> str:
    """One line: met, missed, or (None) not measured."""
    return f"{'not measured' if met is None else 'met' if met else 'missed':13}{text}"
