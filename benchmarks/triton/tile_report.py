"""The tiles that tile_sweep tries, what it finds of each, and the choice among them as rows to paste."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.measure.results import Race
from benchmarks.measure.tables import grouped
from lsm2_kernels.triton import tiles
from lsm2_kernels.triton.tiles import Tile

SHORT = "short"
"""The pattern for which the tiles of forward_short and dq_short are used."""
CANDIDATES = {
    name: [tuple(map(int, tile.split("x"))) for tile in listed.split()]
    for name, listed in {
        "forward": """
            128x64x8x2 128x64x8x3 128x64x8x4 128x64x4x2 128x64x4x3 128x128x8x2 128x128x8x3
            128x32x4x3 128x32x8x3 64x64x4x2 64x64x4x3 64x64x4x4 64x128x4x2 64x128x4x3 64x32x4x3
            64x32x4x4 256x64x8x2 256x64x8x3 256x32x8x3
        """,
        "dq": """
            128x64x8x1 128x64x8x2 128x64x8x3 128x64x4x2 128x32x8x2 128x32x4x2 128x32x4x3 128x128x8x1
            128x128x8x2 64x64x4x1 64x64x4x2 64x64x4x3 64x32x4x2 64x32x4x3 64x128x4x1 64x128x4x2
            64x128x8x2 256x32x8x2 256x64x8x2
        """,
        "dkdv": """
            64x128x8x1 64x128x8x2 64x128x8x3 64x128x4x2 32x128x8x2 32x128x8x3 32x128x4x2 16x128x4x3
            64x64x4x1 64x64x4x2 64x64x4x3 64x64x8x2 32x64x4x2 32x64x4x3 128x64x8x1 128x64x8x2
            128x64x4x2 128x128x8x1 128x128x8x2
        """,
    }.items()
}
"""block_m x block_n x num_warps x num_stages; dkdv owns block_n keys, the others block_m queries."""


@dataclass
class Candidate:
    """A tile for one kernel, head dim and pattern: its medians once it has run, or what is wrong with it."""

    head_dim: int
    pattern: str
    kernel: str
    tile: Tile
    pass_ms: float | None = None
    alone_ms: float | None = None
    registers: int | None = None
    spills: int | None = None
    shared_bytes: int | None = None
    fault: str = ""


RESOURCES = ("alone_ms", "registers", "spills", "shared_bytes")


def title(candidate: Candidate) -> str:
    """What it is a candidate for."""
    return f"D {candidate.head_dim}, {candidate.pattern}, {candidate.kernel}"


def races_of(candidates: Sequence[Candidate]) -> Iterator[Race]:
    """As they are saved: today's tile first, then the others, each with the ratio of its pass to today's."""
    for case, group in grouped(candidates, title):
        today = group[0]
        ways: dict[str, dict[str, Any]] = {}
        for candidate in sorted(group, key=lambda one: (one is not today, one.pass_ms or math.inf)):
            found: dict[str, Any] = {name: getattr(candidate, name) for name in RESOURCES}
            if candidate.pass_ms is None:
                found["error"] = candidate.fault
            else:
                ratio = candidate.pass_ms / (today.pass_ms or math.nan)
                found |= {"median_seconds": candidate.pass_ms / 1e3, "ratio_to_ours": ratio}
            ways[" x ".join(map(str, candidate.tile[:4]))] = found
        params = {"head_dim": today.head_dim, "pattern": today.pattern, "kernel": today.kernel}
        yield Race("tile_sweep", case, params, ways, laps=[today.pass_ms / 1e3] if today.pass_ms else [])


def choose(candidates: Sequence[Candidate], block_n: int | None = None) -> Tile | None:
    """The fastest tile over all patterns, each counted alike; block_n: of those with so many keys."""
    slowdowns: dict[Tile, float] = {}
    patterns = {candidate.pattern for candidate in candidates}
    for tile in {one.tile for one in candidates if block_n in (None, one.tile.block_n)}:
        times = [one.pass_ms for one in candidates if one.tile == tile and one.pass_ms is not None]
        if len(times) == len(patterns):
            slowdowns[tile] = math.prod(times)
    return min(slowdowns, key=lambda tile: slowdowns[tile], default=None)


def rows_for_tiles(candidates: Sequence[Candidate]) -> Iterator[str]:
    """Lines for TILES: the fastest tile by kernel and padded head dim."""
    rows: dict[str, dict[int, Tile]] = {}
    for head_dim in dict.fromkeys(candidate.head_dim for candidate in candidates):
        for kernel in CANDIDATES:
            of_kernel = [one for one in candidates if (one.head_dim, one.kernel) == (head_dim, kernel)]
            of_short = [one for one in of_kernel if one.pattern == SHORT and kernel != "dkdv"]
            usual = choose([one for one in of_kernel if one not in of_short])
            short = choose(of_short, None if usual is None else usual.block_n)
            for name, tile in ((kernel, usual), (f"{kernel}_short", short)):
                if tile is not None:
                    rows.setdefault(name, {})[tiles.padded_head_dim(head_dim)] = tile
    for name, by_size in rows.items():
        entries = ", ".join(
            f"{size}: Tile({', '.join(map(repr, tile[:4]))})" for size, tile in sorted(by_size.items())
        )
        yield f'"{name}": {{{entries}}},'
