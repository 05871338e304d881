"""Finds on the device which rows of which sequence a program computes, from cu_seqlens alone: no host sync.

Sequence i owns the tiles from cu_seqlens[i] // BLOCK + i on. These are at least as many as it needs, so no
tile contains rows of two sequences, and num_rows // BLOCK + num_sequences + 1 programs, known from shapes
alone, are always enough. The rows past cu_seqlens[-1] are one more sequence, number num_sequences, whose
partner on the other side is empty: its programs write zeros there.

Programs start in the order of their tiles, all heads of a tile before the next tile. So sequences start in
the order of the batch: a batch sorted by falling length starts the longest first.
"""

import triton
import triton.language as tl

SEARCH_WIDTH = tl.constexpr(32)  # the lanes of a warp


def num_tiles(num_rows: int, num_sequences: int, block: int) -> int:
    """How many programs cover `num_rows` packed rows, tail included, whatever the lengths are."""
    return num_rows // block + num_sequences + 1


@triton.jit
def identify_program(num_heads):
    """Tile and head (int64) of this program."""
    program = tl.program_id(0)
    return program // num_heads, (program % num_heads).to(tl.int64)


@triton.jit
def load_offset(cu_seqlens, index, num_rows):
    """First row of sequence `index`, int64, clamped to the tensor in case cu_seqlens is wrong."""
    offset = tl.load(cu_seqlens + index).to(tl.int64)
    return tl.minimum(tl.maximum(offset, 0), num_rows)


@triton.jit
def load_bounds(cu_seqlens, sequence, num_sequences, num_rows):
    """First row (int64) and length (int32) of a sequence; length 0 for the tail, number num_sequences."""
    start = load_offset(cu_seqlens, sequence, num_rows)
    end = load_offset(cu_seqlens, tl.minimum(sequence + 1, num_sequences), num_rows)
    return start, tl.maximum(end - start, 0).to(tl.int32)


@triton.jit
def find_tile(cu_seqlens, tile, num_sequences, num_rows, BLOCK: tl.constexpr):
    """Sequence of a tile, that sequence's first row (int64) and length, and the tile's first row within it.

    A tile without rows starts at or past the length. The sequence is the last that starts at or before the
    tile. A search by SEARCH_WIDTH at a time finds it among 1,000 in 2 dependent loads; a binary search needs
    10.
    """
    low = tile * 0
    high = low + num_sequences
    while low < high:
        stride = tl.cdiv(high - low, SEARCH_WIDTH)
        candidate = low + (1 + tl.arange(0, SEARCH_WIDTH)) * stride
        first_tile = (
            load_offset(cu_seqlens, tl.minimum(candidate, num_sequences), num_rows) // BLOCK + candidate
        )
        num_before = tl.sum(((candidate <= high) & (first_tile <= tile)).to(tl.int32), 0)
        low += num_before * stride
        high = tl.minimum(high, low + stride - 1)
    start, length = load_bounds(cu_seqlens, low, num_sequences, num_rows)
    length = tl.where(low == num_sequences, num_rows - start, length).to(tl.int32)
    row = (tile - low - start // BLOCK) * BLOCK
    return low, start, length, tl.maximum(row, 0).to(tl.int32)
