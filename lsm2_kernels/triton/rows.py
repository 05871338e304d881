"""Loads and stores of a block of rows of one sequence; head dims between powers of two are padded with zeros.

Rows of packed tensors follow one another. Rows of a padded batch are gathered: `positions` holds the sequence
and the token of every packed row (TOKEN_BITS), so that padded tensors are read and written in place.

Strides are passed in units of 8 elements, which divide every head dim: so the compiler knows that rows are
aligned to 16 bytes without specialising the kernel to values of strides or lengths, which would compile it
again for some of them.
"""

import triton
import triton.language as tl

STRIDE_UNIT = tl.constexpr(8)
TOKEN_BITS = tl.constexpr(32)  # a position is sequence << TOKEN_BITS | token
TOKEN_MASK = tl.constexpr(2**32 - 1)
UNSPECIALISED = [
    *(f"{tensor}_batch_stride" for tensor in ("q", "k", "v", "out", "grad", "lse", "dq", "dk", "dv")),
    *(f"{tensor}_row_stride" for tensor in ("q", "k", "v", "out", "grad", "dq", "dk", "dv")),
    *(f"{tensor}_head_stride" for tensor in ("q", "k", "v", "out", "grad", "lse", "dq", "dk", "dv")),
    *("num_heads", "num_queries", "num_keys", "num_sequences", "num_rows", "num_indices", "seq_len"),
]


@triton.jit
def load_positions(positions, row, num_rows, BLOCK: tl.constexpr):
    """Sequence and token (BLOCK,), int64 each, of the packed rows from `row` on; 0 past num_rows."""
    rows = tl.arange(0, BLOCK)
    position = tl.load(positions + row + rows, mask=rows < num_rows, other=0)
    return position >> TOKEN_BITS, position & TOKEN_MASK


@triton.jit
def view_head(x, batch_stride, row_stride, head_stride, head):
    """One head of x, for load_rows and store_rows; `head` is int64, as offsets can exceed 2**31 elements."""
    return x + head * head_stride * STRIDE_UNIT, batch_stride, row_stride


@triton.jit
def point_at_rows(view, positions, row, num_rows, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr):
    """Pointers (BLOCK, BLOCK_D) to the packed rows from `row`, int64, on."""
    base, batch_stride, row_stride = view
    columns = tl.arange(0, BLOCK_D)[None, :]
    if positions is None:
        first = base + row * row_stride * STRIDE_UNIT
        return first + (tl.arange(0, BLOCK)[:, None] * (row_stride * STRIDE_UNIT) + columns)
    else:
        sequence, token = load_positions(positions, row, num_rows, BLOCK)
        offset = (sequence * batch_stride + token * row_stride) * STRIDE_UNIT
        return base + offset[:, None] + columns


@triton.jit
def mark_inside(num_rows, BLOCK: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """True (BLOCK, BLOCK_D) in the first num_rows rows and HEAD_DIM columns."""
    inside = tl.arange(0, BLOCK)[:, None] < num_rows
    if HEAD_DIM < BLOCK_D:
        inside = inside & (tl.arange(0, BLOCK_D)[None, :] < HEAD_DIM)
    return inside


@triton.jit
def load_rows(
    view, positions, row, num_rows, BLOCK: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr
):
    """Rows from `row` on (BLOCK, BLOCK_D); zeros in the rows past num_rows and the columns past HEAD_DIM."""
    inside = mark_inside(num_rows, BLOCK, HEAD_DIM, BLOCK_D)
    return tl.load(point_at_rows(view, positions, row, num_rows, BLOCK, BLOCK_D), mask=inside, other=0.0)


@triton.jit
def store_rows(
    view, positions, row, num_rows, values, BLOCK: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr
):
    """Store the first num_rows of values (BLOCK, BLOCK_D), rounded to the dtype of the tensor."""
    inside = mark_inside(num_rows, BLOCK, HEAD_DIM, BLOCK_D)
    base, _, _ = view
    tl.store(
        point_at_rows(view, positions, row, num_rows, BLOCK, BLOCK_D),
        values.to(base.dtype.element_ty),
        mask=inside,
    )


@triton.jit
def view_head_of_numbers(x, batch_stride, head_stride, head):
    """One head of a tensor with one number per row, such as lse, for load_numbers and store_numbers."""
    return x + head * head_stride, batch_stride


@triton.jit
def point_at_numbers(view, positions, row, num_rows, BLOCK: tl.constexpr):
    """Pointers (BLOCK,) to the numbers of the packed rows from `row` on."""
    base, batch_stride = view
    if positions is None:
        return base + row + tl.arange(0, BLOCK)
    else:
        sequence, token = load_positions(positions, row, num_rows, BLOCK)
        return base + sequence * batch_stride + token


@triton.jit
def load_numbers(view, positions, row, num_rows, BLOCK: tl.constexpr):
    """One number per row (BLOCK,), such as lse; zeros past num_rows."""
    return tl.load(
        point_at_numbers(view, positions, row, num_rows, BLOCK),
        mask=tl.arange(0, BLOCK) < num_rows,
        other=0.0,
    )


@triton.jit
def store_numbers(view, positions, row, num_rows, values, BLOCK: tl.constexpr):
    """Store the first num_rows of values (BLOCK,)."""
    tl.store(
        point_at_numbers(view, positions, row, num_rows, BLOCK), values, mask=tl.arange(0, BLOCK) < num_rows
    )


@triton.jit
def replace_missing_keys(x, keys_left, value, BLOCK_N: tl.constexpr, EVERY_BLOCK: tl.constexpr):
    """x (BLOCK_M, BLOCK_N) with `value` in the columns from keys_left on, which only the last block has.

    With EVERY_BLOCK all blocks are masked: a branch would hide from the compiler that one product feeds the
    next, and it would split the keys of a row over several warps.
    """
    if EVERY_BLOCK or keys_left < BLOCK_N:
        x = tl.where(tl.arange(0, BLOCK_N)[None, :] < keys_left, x, value)
    return x
