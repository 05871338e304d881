"""Tiles of the attention kernels: queries and keys per step, by head dim, dtype and architecture.

Where sequences are short on average, forward and dq take smaller tiles of queries with fewer warps. That
changes no bit of a result: the sums of a row go over the keys, by BLOCK_N, within one warp. So a result
depends only on its own sequence.
"""

from typing import Any, NamedTuple

import torch

ARCHITECTURES = ("sm_80", "sm_86", "sm_90", "sm_100", "gfx942")
# Below this mean length, tiles of half the queries save more computation on missing rows than they cost.
SHORT_MEAN_LENGTH = 300
# With tiles of fewer keys than this, dq is left to its own kernel: dkdv's second loop would cost registers
# and save little.
SMALLEST_WHOLE_SEQUENCE = 128
# scores * scale - maximum is one instruction; Triton's default differs between versions.
OPTIONS: dict[str, Any] = {"enable_fp_fusion": True}


class Tile(NamedTuple):
    """BLOCK_M queries by BLOCK_N keys, the compiler's settings, and how float32 products are computed."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int
    precision: str = "ieee"


# By architecture and bytes per element, then by kernel, then by the largest padded head dim that the tile
# serves. Chosen by offline compilation, not yet by timing: within shared memory, without spills, and on sm_90
# without wgmma instructions that wait for one another. Three tf32 products keep float32's accuracy on matrix
# units; beyond head dim 128 their split operands exceed the registers.
TILES: dict[tuple[str, int], dict[str, dict[int, Tile]]] = {
    ("sm_80", 4): {
        "forward": {
            64: Tile(64, 32, 4, 1, "tf32x3"),
            128: Tile(16, 32, 4, 1, "tf32x3"),
            256: Tile(32, 16, 8, 2),
        },
        "dkdv": {
            64: Tile(32, 16, 4, 1, "tf32x3"),
            128: Tile(32, 16, 8, 1, "tf32x3"),
            256: Tile(16, 16, 8, 2),
        },
        "dq": {64: Tile(32, 32, 4, 1, "tf32x3"), 128: Tile(16, 32, 4, 1, "tf32x3"), 256: Tile(32, 16, 8, 2)},
    },
    ("sm_86", 4): {
        "forward": {
            64: Tile(64, 32, 4, 1, "tf32x3"),
            128: Tile(16, 32, 4, 1, "tf32x3"),
            256: Tile(32, 16, 8, 2),
        },
        "dkdv": {
            64: Tile(32, 16, 4, 1, "tf32x3"),
            128: Tile(32, 16, 8, 1, "tf32x3"),
            256: Tile(16, 16, 8, 1),
        },
        "dq": {64: Tile(32, 32, 4, 1, "tf32x3"), 128: Tile(16, 32, 8, 1, "tf32x3"), 256: Tile(32, 16, 8, 2)},
    },
    ("sm_90", 4): {
        "forward": {
            64: Tile(64, 32, 4, 1, "tf32x3"),
            128: Tile(16, 32, 4, 1, "tf32x3"),
            256: Tile(32, 16, 8, 2),
        },
        "dkdv": {
            64: Tile(16, 64, 4, 1, "tf32x3"),
            128: Tile(32, 16, 8, 1, "tf32x3"),
            256: Tile(16, 16, 8, 2),
        },
        "dq": {64: Tile(64, 32, 4, 1, "tf32x3"), 128: Tile(16, 32, 8, 1, "tf32x3"), 256: Tile(32, 16, 8, 2)},
    },
    ("sm_100", 4): {
        "forward": {
            64: Tile(64, 32, 8, 1, "tf32x3"),
            128: Tile(32, 16, 4, 2, "tf32x3"),
            256: Tile(32, 16, 8, 2),
        },
        "dkdv": {
            64: Tile(32, 16, 4, 1, "tf32x3"),
            128: Tile(32, 16, 8, 1, "tf32x3"),
            256: Tile(16, 16, 8, 2),
        },
        "dq": {64: Tile(32, 32, 4, 2, "tf32x3"), 128: Tile(16, 32, 8, 1, "tf32x3"), 256: Tile(32, 16, 8, 2)},
    },
    ("gfx942", 4): {
        "forward": {64: Tile(64, 32, 4, 2), 128: Tile(64, 32, 4, 1), 256: Tile(32, 16, 4, 1)},
        "dkdv": {64: Tile(32, 32, 4, 1), 128: Tile(32, 32, 4, 1), 256: Tile(16, 16, 4, 1)},
        "dq": {64: Tile(32, 32, 4, 1), 128: Tile(32, 32, 4, 1), 256: Tile(16, 16, 4, 1)},
    },
    ("sm_80", 2): {
        "forward": {64: Tile(128, 64, 4, 3), 128: Tile(128, 64, 8, 2), 256: Tile(64, 32, 8, 2)},
        "dkdv": {64: Tile(32, 64, 4, 2), 128: Tile(64, 64, 8, 2), 256: Tile(32, 32, 8, 2)},
        "dq": {64: Tile(128, 64, 8, 2), 128: Tile(128, 32, 8, 2), 256: Tile(32, 32, 8, 2)},
    },
    ("sm_86", 2): {
        "forward": {64: Tile(128, 64, 4, 2), 128: Tile(128, 64, 8, 2), 256: Tile(64, 64, 8, 1)},
        "dkdv": {64: Tile(32, 128, 8, 2), 128: Tile(64, 64, 8, 2), 256: Tile(32, 32, 8, 1)},
        "dq": {64: Tile(128, 32, 4, 2), 128: Tile(128, 32, 8, 2), 256: Tile(64, 32, 8, 1)},
    },
    ("sm_90", 2): {
        "forward": {64: Tile(128, 64, 4, 3), 128: Tile(128, 64, 8, 3), 256: Tile(64, 64, 8, 2)},
        "forward_short": {64: Tile(64, 64, 4, 3), 128: Tile(64, 64, 4, 2)},
        "dkdv": {64: Tile(64, 128, 8, 2), 128: Tile(32, 128, 8, 2), 256: Tile(32, 32, 8, 2)},
        "dq": {64: Tile(128, 128, 8, 2), 128: Tile(128, 64, 8, 2), 256: Tile(128, 32, 8, 1)},
        "dq_short": {64: Tile(64, 128, 4, 2), 128: Tile(64, 64, 4, 2)},
    },
    ("sm_100", 2): {
        "forward": {64: Tile(128, 64, 4, 3), 128: Tile(128, 64, 8, 3), 256: Tile(64, 64, 8, 2)},
        "dkdv": {64: Tile(64, 128, 8, 2), 128: Tile(32, 128, 8, 2), 256: Tile(32, 32, 8, 2)},
        "dq": {64: Tile(64, 64, 4, 2), 128: Tile(128, 64, 8, 2), 256: Tile(64, 32, 8, 2)},
    },
    ("gfx942", 2): {
        "forward": {64: Tile(128, 64, 4, 2), 128: Tile(128, 64, 4, 2), 256: Tile(64, 32, 4, 2)},
        "dkdv": {64: Tile(64, 64, 4, 1), 128: Tile(32, 64, 4, 1), 256: Tile(16, 32, 4, 1)},
        "dq": {64: Tile(64, 64, 4, 2), 128: Tile(64, 32, 4, 1), 256: Tile(32, 32, 4, 1)},
    },
}


def architecture_of(major: int, minor: int) -> str:
    """The architecture whose tiles serve an NVIDIA GPU of this compute capability.

    Those without tiles of their own have little shared memory, like sm_86.
    """
    return f"sm_{10 * major}" if (major, minor) in ((8, 0), (9, 0)) or major == 10 else "sm_86"


def tile_name(kernel: str, mean_length: float) -> str:
    """The kernel's name in TILES for sequences of this mean number of queries."""
    return f"{kernel}_short" if mean_length < SHORT_MEAN_LENGTH and kernel in ("forward", "dq") else kernel


def tile_for(kernel: str, head_dim: int, dtype: torch.dtype, architecture: str) -> Tile:
    """The tile of a kernel: "forward", "delta", "dkdv", "dq", "forward_short" or "dq_short"."""
    block_d = padded_head_dim(head_dim)
    if kernel == "delta":
        return Tile(2048 // block_d, 0, 8, 1)
    tables = TILES[architecture, dtype.itemsize]
    by_size = tables[kernel.removesuffix("_short")] | tables.get(kernel, {})
    return by_size[min(size for size in by_size if size >= block_d)]


def attention_settings(
    kernel: str, head_dim: int, dtype: torch.dtype, architecture: str, group: int, mean_length: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Constants and compiler options of an attention kernel.

    `group` query heads share a key head; `mean_length` is the mean number of queries of a sequence.
    """
    tile = tile_for(tile_name(kernel, mean_length), head_dim, dtype, architecture)
    constants: dict[str, Any] = {
        "HEAD_DIM": head_dim,
        "BLOCK_D": padded_head_dim(head_dim),
        "BLOCK_M": tile.block_m,
    }
    if kernel != "delta":
        constants |= {"BLOCK_N": tile.block_n, "GROUP": group, "PRECISION": tile.precision}
    if kernel == "dkdv":
        constants["DQ_OF_ONE_TILE"] = keys_of_one_tile(head_dim, dtype, architecture) > 0
    if kernel == "dq":
        constants["KEYS_OF_ONE_TILE"] = keys_of_one_tile(head_dim, dtype, architecture)
    if kernel in ("forward", "dq"):
        # Helps only with mma.sync, where the compiler can keep a row within one warp.
        keeps_rows = dtype.itemsize == 4 or tile.block_m >= constants["BLOCK_D"]
        constants["MASK_EVERY_BLOCK"] = architecture in ("sm_80", "sm_86") and keeps_rows
    return constants, OPTIONS | {"num_warps": tile.num_warps, "num_stages": tile.num_stages}


def keys_of_one_tile(head_dim: int, dtype: torch.dtype, architecture: str) -> int:
    """The most keys of a sequence for which dkdv, within one tile, computes dq too; 0 where it never does."""
    keys = tile_for("dkdv", head_dim, dtype, architecture).block_n
    return keys if dtype.itemsize == 2 and keys >= SMALLEST_WHOLE_SEQUENCE else 0


def padded_head_dim(head_dim: int) -> int:
    """The power of two, at least 16, that tl.dot computes with."""
    return max(16, 1 << (head_dim - 1).bit_length())
