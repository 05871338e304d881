"""A progress bar for reading and writing days."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")


def counted(
    items: Iterable[Item], description: str, progress: bool, total: int | None = None
) -> Iterator[Item]:
    """The items, counted in a bar on the terminal if `progress`; `total` says how many there are where `len` cannot."""
    if not progress:
        yield from items
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bar:
        yield from bar.track(
            items,
            total=total if total is not None else len(items) if isinstance(items, Sized) else None,
            description=description,
        )
