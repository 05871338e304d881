"""Rows gathered by index: pack is one gather; unpack turns its indices round and is the same gather, so that every row is written once.

Attention gathers by itself: locate_tokens tells it where.
"""

import triton
import triton.language as tl

from .rows import TOKEN_BITS, UNSPECIALISED


@triton.jit(do_not_specialize=UNSPECIALISED)
def gather_rows(
    x, indices, fill, out, x_row_stride, width, num_rows, num_indices, BLOCK_ROWS: tl.constexpr, BLOCK_WIDTH: tl.constexpr
):  # fmt: skip
    """out (num_indices, width) = rows of x (num_rows, width) named by indices; `fill` (width,) or zeros where an index is outside."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.program_id(1) * BLOCK_WIDTH + tl.arange(0, BLOCK_WIDTH)
    index = tl.load(indices + row, mask=row < num_indices, other=-1).to(tl.int64)
    named = (index >= 0) & (index < num_rows)
    in_width = (column < width)[None, :]
    values = tl.load(x + index[:, None] * x_row_stride + column[None, :], mask=named[:, None] & in_width, other=0)
    if fill is not None:
        filling = tl.load(fill + column, mask=column < width, other=0)
        values = tl.where(named[:, None], values, filling[None, :])
    tl.store(out + row[:, None] * width + column[None, :], values, mask=(row < num_indices)[:, None] & in_width)


@triton.jit(do_not_specialize=UNSPECIALISED)
def invert_indices(indices, inverse, num_rows, num_indices, BLOCK: tl.constexpr):
    """inverse (num_rows,), -1 before, gets at each index its position in indices (the last one); indices outside are ignored."""
    position = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    index = tl.load(indices + position, mask=position < num_indices, other=-1)
    tl.atomic_max(inverse + index, position, mask=(index >= 0) & (index < num_rows), sem="relaxed")


@triton.jit(do_not_specialize=UNSPECIALISED)
def locate_tokens(keep, cu_seqlens, positions, seq_len, num_sequences, BLOCK: tl.constexpr):
    """positions (B * N,): the kept tokens of all sequences in their order, then the others; grid (B,).

    keep is (B, N), not 0 where a token is kept, and cu_seqlens (B + 1,) the running count of those.
    """
    sequence = tl.program_id(0).to(tl.int64)
    row_of_kept = tl.load(cu_seqlens + sequence)
    row_of_other = tl.load(cu_seqlens + num_sequences) + sequence * seq_len - row_of_kept
    for start in range(0, seq_len, BLOCK):
        token = start + tl.arange(0, BLOCK)
        inside = token < seq_len
        kept = (tl.load(keep + sequence * seq_len + token, mask=inside, other=0) != 0).to(tl.int32)
        kept_before = tl.cumsum(kept, 0) - kept
        row = tl.where(kept != 0, row_of_kept + kept_before, row_of_other + tl.arange(0, BLOCK) - kept_before)
        tl.store(positions + row, (sequence << TOKEN_BITS) + token, mask=inside)
        num_kept = tl.sum(kept, 0)
        row_of_kept += num_kept
        row_of_other += BLOCK - num_kept
