"""Names of the races of training steps, what was aimed at, and the table of memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.measure.results import Race
from benchmarks.measure.tables import Target, empty_table, grouped

if TYPE_CHECKING:
    from rich.table import Table

OURS = "ours_cross"
"""What ratios refer to: the default decoder."""
TARGET_CASE: dict[str, Any] = {"window": "day", "missing": 0.49}
TARGETS = tuple(
    Target({"preset": preset} | TARGET_CASE, wanted, peer, ours)
    for preset, ours, peer, wanted in (
        ("base", "ours_cross", "paper", 5),
        ("base", "ours_cross", "dense", 12),
        ("base", "ours_joint", "paper", 4),
        ("base", "ours_full", "paper", 2.5),
        ("tiny", "ours_cross", "paper", 3),
    )
)
"""Ours should be at least so many times as fast as a peer on days, about half of whose tokens are missing."""


def make_title(params: Mapping[str, Any], dtype: str) -> str:
    """Of a race."""
    windows = f"{params['num_windows']} {params['window']}{'s' if params['num_windows'] > 1 else ''}"
    tokens = f"{windows} of {params['window_tokens']} tokens"
    return f"{params['preset']}, {tokens}, {params['missing']:.0%} missing, {dtype}"


def memory_tables(races: Sequence[Race]) -> Iterator[Table]:
    """By preset and window: peak MB a window by missing fraction, and what one more token adds."""
    for (preset, window), group in grouped(
        races, lambda race: (race.params["preset"], race.params["window"])
    ):
        tokens: dict[float, float] = {}
        peaks: dict[str, dict[float, float]] = {}
        for race in group:
            missing, windows = race.params["missing"], race.params["num_windows"]
            for name, way in race.ways.items():
                if way.get("peak_bytes") is not None:
                    peaks.setdefault(name, {})[missing] = way["peak_bytes"] / windows
                if name == OURS and "visible_tokens" in way:
                    tokens[missing] = (way["visible_tokens"] + way["query_tokens"]) / windows
        columns = sorted({missing for of_way in peaks.values() for missing in of_way})
        heads = [f"{x:.0%} missing" + (f"\n{tokens[x]:.0f} tokens" if x in tokens else "") for x in columns]
        table = empty_table(("way",), [*heads, "kB a token more"], f"{preset}: peak MB a {window}")
        for name, of_way in peaks.items():
            measured = [x for x in columns if x in of_way and x in tokens]
            slope = ""
            if len(measured) > 1 and tokens[measured[0]] != tokens[measured[-1]]:
                bytes_more = of_way[measured[0]] - of_way[measured[-1]]
                slope = f"{bytes_more / (tokens[measured[0]] - tokens[measured[-1]]) / 1e3:.1f}"
            table.add_row(name, *(f"{of_way[x] / 1e6:.0f}" if x in of_way else "" for x in columns), slope)
        yield table
