"""A picture of ratios: a row per case, a column per peer, blue where ours is faster, red where the peer is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

STRONGEST = 8.0
"""The ratio from which on colours grow no stronger."""


def draw_ratio_map(path: Path | IO[bytes], cases: Sequence[str], peers: Sequence[str], ratios: Mapping[tuple[str, str], float]) -> None:
    """Write a PNG of ratios by (case, peer), each the peer's time over ours; cells that were not measured stay white."""
    from matplotlib.figure import Figure

    values = np.array([[ratios.get((case, peer), math.nan) for peer in peers] for case in cases])
    labels = max(map(len, cases))
    figure = Figure(figsize=(1.2 + 0.075 * labels + 0.85 * len(peers), 1.3 + 0.26 * len(cases)), layout="constrained")
    axis = figure.subplots()
    limit = math.log(STRONGEST)
    axis.imshow(np.log(values), cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not math.isnan(value):
            strong = abs(math.log(value)) > 0.7 * limit
            text = f"{value:.2f}" if value < 10 else f"{value:.0f}"
            axis.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if strong else "black")
    axis.set_xticks(range(len(peers)), peers, rotation=30, ha="left", fontsize=8)
    axis.set_yticks(range(len(cases)), cases, fontsize=8)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.savefig(path, dpi=130, format="png")
