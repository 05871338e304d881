"""What is printed while a command works: plain lines, and a bar for what takes more than a few seconds."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

from rich.console import Console
from rich.text import Text

Item = TypeVar("Item")
WIDTH_OF_FILES = 120
"""Columns of what is printed into a file or a pipe."""


class PlainConsole(Console):
    """A console that takes strings literally: names come from data and may hold markup or control characters.

    A reader that has gone (`| head`) ends the output and not the work.
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, markup=False, emoji=False, highlight=False)
        if not self.is_terminal:
            self.width = WIDTH_OF_FILES

    def render_str(self, text: str, **options: Any) -> Text:
        """The text with its control characters replaced, whatever else it holds."""
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> None:
        """Send the rest of the output nowhere."""
        self.quiet = True
        discard(self.file.fileno())


def say(text: str, *, stderr: bool = False) -> None:
    """Print a line of text literally, at once; a reader that has gone is no error."""
    stream = sys.stderr if stderr else sys.stdout
    try:
        print(printable(text), file=stream, flush=True)
    except BrokenPipeError:
        discard(stream.fileno())


def printable(text: str) -> str:
    """The text with control characters and broken Unicode replaced, but for line ends and tabs."""
    kept = (
        c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )
    return "".join(kept)


def discard(descriptor: int) -> None:
    """Let everything written to an open file descriptor vanish from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def counted(
    items: Iterable[Item], description: str, progress: bool, total: int | None = None
) -> Iterator[Item]:
    """The items, counted in a bar on the terminal if `progress`; `total` says how many where `len` cannot."""
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
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = PlainConsole(stderr=True)
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield from bar.track(items, total=total, description=description)
