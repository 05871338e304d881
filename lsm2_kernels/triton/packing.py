"""Gathers rows by index: pack is one gather; unpack inverts its indices first, so it writes each row once.

masked_attention gathers rows within its own kernels: locate_tokens tells them where.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from .rows import TOKEN_BITS, UNSPECIALISED

# Rows are moved as integers of the elements' size: their bits stay, and few kernels serve all dtypes.
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# These kernels fuse nothing, but Triton 3.9 warns where enable_fp_fusion is not given.
OPTIONS: dict[str, Any] = {"enable_fp_fusion": True, "num_warps": 4}


def gather_settings(width: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Constants and options of gather_rows for rows of `width` elements, about 4096 elements per program."""
    block_width = min(1024, max(16, 1 << (width - 1).bit_length()))
    return {"BLOCK_ROWS": 4096 // block_width, "BLOCK_WIDTH": block_width}, OPTIONS


def index_settings() -> tuple[dict[str, Any], dict[str, Any]]:
    """Constants and options of invert_indices and locate_tokens."""
    return {"BLOCK": 1024}, OPTIONS


@triton.jit(do_not_specialize=UNSPECIALISED)
def gather_rows(
    x, indices, fill, out, x_row_stride, width, num_rows, num_indices,
    BLOCK_ROWS: tl.constexpr, BLOCK_WIDTH: tl.constexpr,
):  # fmt: skip
    """Write out (num_indices, width): the rows of x (num_rows, width) that indices name.

    Where an index is outside, the row is `fill` (width,), or zeros if that is None.
    """
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.program_id(1) * BLOCK_WIDTH + tl.arange(0, BLOCK_WIDTH)
    index = tl.load(indices + row, mask=row < num_indices, other=-1).to(tl.int64)
    named = (index >= 0) & (index < num_rows)
    in_width = (column < width)[None, :]
    values = tl.load(
        x + index[:, None] * x_row_stride + column[None, :], mask=named[:, None] & in_width, other=0
    )
    if fill is not None:
        filling = tl.load(fill + column, mask=column < width, other=0)
        values = tl.where(named[:, None], values, filling[None, :])
    tl.store(
        out + row[:, None] * width + column[None, :], values, mask=(row < num_indices)[:, None] & in_width
    )


@triton.jit(do_not_specialize=UNSPECIALISED)
def invert_indices(indices, inverse, num_rows, num_indices, BLOCK: tl.constexpr):
    """Write each index's last position in indices to inverse (num_rows,), -1 before; skip indices outside."""
    position = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    index = tl.load(indices + position, mask=position < num_indices, other=-1)
    tl.atomic_max(inverse + index, position, mask=(index >= 0) & (index < num_rows), sem="relaxed")


@triton.jit(do_not_specialize=UNSPECIALISED)
def locate_tokens(keep, cu_seqlens, positions, seq_len, num_sequences, BLOCK: tl.constexpr):
    """Write positions (B * N,): the kept tokens of all sequences in their order, then the others; grid (B,).

    keep is (B, N), not 0 where a token is kept; cu_seqlens (B + 1,) is the running count of kept tokens.
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
