"""How the axes of all pictures look; matplotlib is imported when one is drawn."""

from __future__ import annotations

from typing import Any


def make_plain(axis: Any) -> None:
    """A light grid, no frame to the right and above."""
    axis.grid(color="#dddddd", linewidth=0.5)
    axis.spines[["top", "right"]].set_visible(False)


def mark_decades(scale: Any) -> None:
    """Ticks at 1, 2 and 5 of every decade of a logarithmic xaxis or yaxis, in plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator

    scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
    scale.set_major_formatter("{x:,g}")
    scale.set_minor_locator(NullLocator())
