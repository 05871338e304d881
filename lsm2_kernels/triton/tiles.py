"""How many queries and keys a program takes at a time: by head dim, dtype and architecture alone, never by lengths.

So the order of every sum, hence every bit of a result, depends on nothing but a sequence's own rows.
"""

from typing import NamedTuple

import torch

ARCHITECTURES = ("sm_80", "sm_90", "sm_100", "gfx942")
OPTIONS = {"enable_fp_fusion": True}  # scores * scale - pivot is one instruction; Triton's default differs between versions
INVERT_BLOCK = 1024
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Tile(NamedTuple):
    """BLOCK_M queries by BLOCK_N keys, and the compiler's settings."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


# By architecture and bytes of an element; then by kernel; then by the largest padded head dim that a tile serves.
# Chosen by offline compilation, spill-free and within shared memory (python -m benchmarks.aot), not yet by timing.
TILES = {
    ("sm_80", 2): {
        "forward": {64: Tile(128, 64, 4, 3), 128: Tile(128, 64, 8, 2), 256: Tile(64, 32, 8, 2)},
        "dkdv": {64: Tile(32, 64, 4, 2), 128: Tile(64, 64, 8, 2), 256: Tile(32, 32, 8, 2)},
        "dq": {64: Tile(128, 64, 8, 2), 128: Tile(64, 32, 4, 2), 256: Tile(32, 32, 8, 2)},
    },
    ("sm_80", 4): {
        "forward": {64: Tile(64, 32, 4, 2), 128: Tile(64, 32, 8, 2), 256: Tile(16, 16, 8, 1)},
        "dkdv": {64: Tile(16, 64, 8, 2), 128: Tile(16, 16, 4, 1), 256: Tile(16, 16, 8, 1)},
        "dq": {64: Tile(64, 32, 8, 2), 128: Tile(32, 16, 8, 1), 256: Tile(16, 16, 8, 1)},
    },
    ("sm_90", 2): {
        "forward": {64: Tile(128, 64, 4, 3), 128: Tile(128, 64, 8, 3), 256: Tile(64, 64, 8, 2)},
        "dkdv": {64: Tile(64, 128, 8, 2), 128: Tile(32, 128, 8, 2), 256: Tile(32, 32, 8, 2)},
        "dq": {64: Tile(128, 64, 8, 2), 128: Tile(128, 64, 8, 2), 256: Tile(64, 32, 8, 2)},
    },
    ("sm_90", 4): {
        "forward": {64: Tile(64, 32, 4, 2), 128: Tile(64, 32, 8, 2), 256: Tile(16, 16, 8, 1)},
        "dkdv": {64: Tile(16, 64, 8, 2), 128: Tile(16, 16, 4, 1), 256: Tile(16, 16, 8, 1)},
        "dq": {64: Tile(64, 32, 8, 2), 128: Tile(32, 16, 8, 1), 256: Tile(16, 16, 8, 1)},
    },
    ("sm_100", 2): {
        "forward": {64: Tile(128, 64, 4, 3), 128: Tile(128, 64, 8, 3), 256: Tile(64, 64, 8, 2)},
        "dkdv": {64: Tile(64, 128, 8, 2), 128: Tile(32, 128, 8, 2), 256: Tile(32, 32, 8, 2)},
        "dq": {64: Tile(128, 64, 8, 2), 128: Tile(128, 64, 8, 2), 256: Tile(64, 32, 8, 2)},
    },
    ("sm_100", 4): {
        "forward": {64: Tile(64, 32, 4, 2), 128: Tile(64, 32, 8, 2), 256: Tile(16, 16, 8, 1)},
        "dkdv": {64: Tile(16, 64, 8, 2), 128: Tile(16, 16, 4, 1), 256: Tile(16, 16, 8, 1)},
        "dq": {64: Tile(64, 32, 8, 2), 128: Tile(32, 16, 8, 1), 256: Tile(16, 16, 8, 1)},
    },
    ("gfx942", 2): {
        "forward": {64: Tile(128, 64, 4, 2), 128: Tile(128, 64, 4, 2), 256: Tile(64, 32, 4, 2)},
        "dkdv": {64: Tile(64, 64, 4, 1), 128: Tile(32, 64, 4, 1), 256: Tile(16, 32, 4, 1)},
        "dq": {64: Tile(64, 64, 4, 2), 128: Tile(64, 32, 4, 1), 256: Tile(32, 32, 4, 1)},
    },
    ("gfx942", 4): {
        "forward": {64: Tile(64, 32, 4, 2), 128: Tile(64, 32, 4, 1), 256: Tile(32, 16, 4, 1)},
        "dkdv": {64: Tile(32, 32, 4, 1), 128: Tile(32, 32, 4, 1), 256: Tile(16, 16, 4, 1)},
        "dq": {64: Tile(32, 32, 4, 1), 128: Tile(32, 32, 4, 1), 256: Tile(16, 16, 4, 1)},
    },
}


def tile_for(kernel: str, head_dim: int, dtype: torch.dtype, architecture: str) -> Tile:
    """Tile of kernel "forward", "delta", "dkdv" or "dq"."""
    block_d = padded_head_dim(head_dim)
    if kernel == "delta":
        return Tile(4096 // block_d, 0, 4, 1)
    by_size = TILES[architecture, dtype.itemsize][kernel]
    return by_size[min(size for size in by_size if size >= block_d)]


def attention_settings(
    kernel: str, head_dim: int, dtype: torch.dtype, architecture: str, group: int
) -> tuple[dict[str, int | str], dict[str, int | bool]]:
    """Constants of an attention kernel for `group` query heads a key head, and its compile options."""
    tile = tile_for(kernel, head_dim, dtype, architecture)
    constants: dict[str, int | str] = {"HEAD_DIM": head_dim, "BLOCK_D": padded_head_dim(head_dim), "BLOCK_M": tile.block_m}
    if kernel != "delta":
        precision = "ieee" if architecture.startswith("gfx") else "tf32x3"  # of float32 products only
        constants |= {"BLOCK_N": tile.block_n, "GROUP": group, "PRECISION": precision}
    return constants, OPTIONS | {"num_warps": tile.num_warps, "num_stages": tile.num_stages}


def gather_settings(width: int) -> tuple[dict[str, int], dict[str, int | bool]]:
    """Constants of the gather of rows of `width` elements, about 4096 elements a program, and its compile options."""
    block_width = min(1024, max(16, 1 << (width - 1).bit_length()))
    return {"BLOCK_ROWS": 4096 // block_width, "BLOCK_WIDTH": block_width}, OPTIONS | {"num_warps": 4}


def padded_head_dim(head_dim: int) -> int:
    """The power of two, at least 16, that tl.dot computes with."""
    return max(16, 1 << (head_dim - 1).bit_length())
