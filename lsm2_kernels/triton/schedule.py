"""Which rows of which sequence a program owns, read from cu_seqlens on the device: no list, no longest length, no host sync.

Sequence i owns the tiles from cu_seqlens[i] // BLOCK + i on: at least as many as it needs, so tiles never straddle sequences,
and num_rows // BLOCK + num_sequences + 1 programs, known from shapes alone, are always enough. The rows past cu_seqlens[-1]
are one more sequence, number num_sequences, without a partner on the other side: its programs write the zeros that belong there.

Programs start in the order of their tiles, all heads of one before the next, so sequences that come first in the batch start first. No
list puts the longest first: `python -m benchmarks.schedule` shows what that would gain, and a batch in that order gains it for nothing.
"""

import triton
import triton.language as tl

SEARCH_WIDTH = tl.constexpr(32)  # a warp


def num_tiles(num_rows: int, num_sequences: int, block: int) -> int:
    """Programs that cover `num_rows` packed rows, tail included, whatever the lengths are."""
    return num_rows // block + num_sequences + 1


@triton.jit
def identify_program(num_heads):
    """Tile and head (int64) of this program."""
    program = tl.program_id(0)
    return program // num_heads, (program % num_heads).to(tl.int64)


@triton.jit
def load_offset(cu_seqlens, index, num_rows):
    """First row of sequence `index`, int64; inside the tensor even where cu_seqlens is wrong."""
    offset = tl.load(cu_seqlens + index).to(tl.int64)
    return tl.minimum(tl.maximum(offset, 0), num_rows)


@triton.jit
def load_bounds(cu_seqlens, sequence, num_sequences, num_rows):
    """First row (int64) and length (int32) of a sequence; the tail, number num_sequences, has length 0 here."""
    start = load_offset(cu_seqlens, sequence, num_rows)
    end = load_offset(cu_seqlens, tl.minimum(sequence + 1, num_sequences), num_rows)
    return start, tl.maximum(end - start, 0).to(tl.int32)


@triton.jit
def find_tile(cu_seqlens, tile, num_sequences, num_rows, BLOCK: tl.constexpr):
    """Sequence of a tile, its first row (int64) and length, and the tile's first row in it: past the length if it has none.

    The sequence is the last that starts at or before the tile. It is looked for among SEARCH_WIDTH at a time: two loads that wait for one
    another find it among a thousand, where halving would take ten.
    """
    low = tile * 0
    high = low + num_sequences
    while low < high:
        stride = tl.cdiv(high - low, SEARCH_WIDTH)
        candidate = low + (1 + tl.arange(0, SEARCH_WIDTH)) * stride
        first_tile = load_offset(cu_seqlens, tl.minimum(candidate, num_sequences), num_rows) // BLOCK + candidate
        num_before = tl.sum(((candidate <= high) & (first_tile <= tile)).to(tl.int32), 0)
        low += num_before * stride
        high = tl.minimum(high, low + stride - 1)
    start, length = load_bounds(cu_seqlens, low, num_sequences, num_rows)
    length = tl.where(low == num_sequences, num_rows - start, length).to(tl.int32)
    row = (tile - low - start // BLOCK) * BLOCK
    return low, start, length, tl.maximum(row, 0).to(tl.int32)
