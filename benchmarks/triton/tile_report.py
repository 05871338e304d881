"""The tiles that tile_sweep tries, what it finds of each, and the choice among them as rows to paste."""

from __future__ import annotations

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
CANDIDATES = {  # block_m, block_n, num_warps, num_stages; dkdv owns block_n keys, the others block_m queries
    "forward": [
        *(
            (128, 64, 8, 2),
            (128, 64, 8, 3),
            (128, 64, 8, 4),
            (128, 64, 4, 2),
            (128, 64, 4, 3),
            (128, 128, 8, 2),
            (128, 128, 8, 3),
        ),
        *(
            (128, 32, 4, 3),
            (128, 32, 8, 3),
            (64, 64, 4, 2),
            (64, 64, 4, 3),
            (64, 64, 4, 4),
            (64, 128, 4, 2),
            (64, 128, 4, 3),
        ),
        *((64, 32, 4, 3), (64, 32, 4, 4), (256, 64, 8, 2), (256, 64, 8, 3), (256, 32, 8, 3)),
    ],
    "dq": [
        *(
            (128, 64, 8, 1),
            (128, 64, 8, 2),
            (128, 64, 8, 3),
            (128, 64, 4, 2),
            (128, 32, 8, 2),
            (128, 32, 4, 2),
            (128, 32, 4, 3),
        ),
        *(
            (128, 128, 8, 1),
            (128, 128, 8, 2),
            (64, 64, 4, 1),
            (64, 64, 4, 2),
            (64, 64, 4, 3),
            (64, 32, 4, 2),
            (64, 32, 4, 3),
        ),
        *((64, 128, 4, 1), (64, 128, 4, 2), (64, 128, 8, 2), (256, 32, 8, 2), (256, 64, 8, 2)),
    ],
    "dkdv": [
        *(
            (64, 128, 8, 1),
            (64, 128, 8, 2),
            (64, 128, 8, 3),
            (64, 128, 4, 2),
            (32, 128, 8, 2),
            (32, 128, 8, 3),
            (32, 128, 4, 2),
        ),
        *(
            (16, 128, 4, 3),
            (64, 64, 4, 1),
            (64, 64, 4, 2),
            (64, 64, 4, 3),
            (64, 64, 8, 2),
            (32, 64, 4, 2),
            (32, 64, 4, 3),
        ),
        *((128, 64, 8, 1), (128, 64, 8, 2), (128, 64, 4, 2), (128, 128, 8, 1), (128, 128, 8, 2)),
    ],
}


@dataclass
class Candidate:
    """A tile for one kernel, head dim and pattern: its medians once it has run, or what is wrong with it."""

    head_dim: int
    pattern: str
    kernel: str
    tile: Tile
    is_current: bool
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
        for candidate in group:
            found: dict[str, Any] = {name: getattr(candidate, name) for name in RESOURCES}
            if candidate.pass_ms is None:
                found["error"] = candidate.fault
            else:
                ratio = candidate.pass_ms / (today.pass_ms or math.nan)
                found |= {"median_seconds": candidate.pass_ms / 1e3, "ratio_to_ours": ratio}
            ways[" x ".join(map(str, candidate.tile[:4]))] = found
        params = {"head_dim": today.head_dim, "pattern": today.pattern, "kernel": today.kernel}
        yield Race("tile_sweep", case, params, ways, laps=[today.pass_ms / 1e3] if today.pass_ms else [])


def ranking(candidates: Sequence[Candidate]) -> Iterator[str]:
    """A line per candidate, the fastest first, then those at fault."""
    current = candidates[0]
    yield title(current)
    for candidate in sorted(candidates, key=lambda candidate: candidate.pass_ms or math.inf):
        tile = candidate.tile
        label = f"{tile.block_m:4} x {tile.block_n:3}, {tile.num_warps} warps, {tile.num_stages} stages"
        label += " (today)" if candidate.is_current else "        "
        if candidate.pass_ms is None:
            yield f"  {label}  {candidate.fault}"
            continue
        against = f"{current.pass_ms / candidate.pass_ms:5.2f}x today" if current.pass_ms else ""
        alone = "" if candidate.alone_ms is None else f", alone {candidate.alone_ms:8.3f} ms"
        resources = (
            f"{candidate.registers} registers, {candidate.spills} spills, {candidate.shared_bytes} B shared"
        )
        yield f"  {label}  pass {candidate.pass_ms:8.3f} ms{alone}  {against}  {resources}"


def choose(candidates: Sequence[Candidate], block_n: int | None = None) -> Tile | None:
    """The fastest tile over all patterns, each counted alike; with block_n, of those with so many keys at a
    time.
    """
    slowdowns: dict[Tile, float] = {}
    patterns = {candidate.pattern for candidate in candidates}
    for tile in {candidate.tile for candidate in candidates if block_n in (None, candidate.tile.block_n)}:
        times = [
            candidate.pass_ms
            for candidate in candidates
            if candidate.tile == tile and candidate.pass_ms is not None
        ]
        if len(times) == len(patterns):
            slowdowns[tile] = math.prod(times)
    return min(slowdowns, key=lambda tile: slowdowns[tile], default=None)


def rows_for_tiles(candidates: Sequence[Candidate]) -> Iterator[str]:
    """Lines for TILES: the fastest tile by kernel and padded head dim."""
    rows: dict[str, dict[int, Tile]] = {}
    for head_dim in dict.fromkeys(candidate.head_dim for candidate in candidates):
        for kernel in CANDIDATES:
            of_kernel = [
                candidate
                for candidate in candidates
                if (candidate.head_dim, candidate.kernel) == (head_dim, kernel)
            ]
            is_split = kernel != "dkdv"
            usual = choose(
                [candidate for candidate in of_kernel if candidate.pattern != SHORT or not is_split]
            )
            block_n = None if usual is None else usual.block_n
            short = choose(
                [candidate for candidate in of_kernel if candidate.pattern == SHORT and is_split], block_n
            )
            for name, tile in ((kernel, usual), (f"{kernel}_short", short)):
                if tile is not None:
                    rows.setdefault(name, {})[tiles.padded_head_dim(head_dim)] = tile
    for name, by_size in rows.items():
        entries = ", ".join(
            f"{size}: Tile({', '.join(map(repr, tile[:4]))})" for size, tile in sorted(by_size.items())
        )
        yield f'"{name}": {{{entries}}},'
