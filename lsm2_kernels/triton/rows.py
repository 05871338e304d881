"""Loads and stores of a block of one sequence's rows; head dims between powers of two are padded with zeros.

Rows of packed tensors lie one after the other. Those of a padded batch are gathered: `positions` says for every packed row which token
of which sequence it is (TOKEN_BITS), so the padded tensors are read and written in place.

Strides are passed in units of 8 elements, of which every head dim is a multiple: so the compiler knows that rows are aligned to 16 bytes,
without a specialisation of the kernel to values of strides or lengths, which would compile it anew for some of them.
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
    """Sequence and token, int64 each, of BLOCK packed rows from `row` on; 0 past num_rows."""
    rows = tl.arange(0, BLOCK)
    position = tl.load(positions + row + rows, mask=rows < num_rows, other=0)
    return position >> TOKEN_BITS, position & TOKEN_MASK


@triton.jit
def view_head(x, batch_stride, row_stride, head_stride, head):
    """One head (int64, as past 2**31 elements the offset needs it) of x: what load_rows and store_rows take."""
    return x + head * head_stride * STRIDE_UNIT, batch_stride, row_stride


@triton.jit
def point_at_rows(view, positions, row, num_rows, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr):
    """Pointers (BLOCK, BLOCK_D) to packed rows from `row` (int64 like the head) on."""
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
def load_rows(view, positions, row, num_rows, BLOCK: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """BLOCK rows from `row` on (BLOCK, BLOCK_D), of which num_rows are there; the others, and columns past HEAD_DIM, are zeros."""
    inside = mark_inside(num_rows, BLOCK, HEAD_DIM, BLOCK_D)
    return tl.load(point_at_rows(view, positions, row, num_rows, BLOCK, BLOCK_D), mask=inside, other=0.0)


@triton.jit
def store_rows(view, positions, row, num_rows, values, BLOCK: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """The first num_rows of values (BLOCK, BLOCK_D), rounded to the dtype of the tensor."""
    inside = mark_inside(num_rows, BLOCK, HEAD_DIM, BLOCK_D)
    base, _, _ = view
    tl.store(point_at_rows(view, positions, row, num_rows, BLOCK, BLOCK_D), values.to(base.dtype.element_ty), mask=inside)


@triton.jit
def view_head_of_numbers(x, batch_stride, head_stride, head):
    """One head of a tensor with one number a row, such as lse: what load_numbers and store_numbers take."""
    return x + head * head_stride, batch_stride


@triton.jit
def point_at_numbers(view, positions, row, num_rows, BLOCK: tl.constexpr):
    """Pointers (BLOCK,) to the numbers of packed rows from `row` on."""
    base, batch_stride = view
    if positions is None:
        return base + row + tl.arange(0, BLOCK)
    else:
        sequence, token = load_positions(positions, row, num_rows, BLOCK)
        return base + sequence * batch_stride + token


@triton.jit
def load_numbers(view, positions, row, num_rows, BLOCK: tl.constexpr):
    """One number a row (BLOCK,), such as lse; zeros past num_rows."""
    return tl.load(point_at_numbers(view, positions, row, num_rows, BLOCK), mask=tl.arange(0, BLOCK) < num_rows, other=0.0)


@triton.jit
def store_numbers(view, positions, row, num_rows, values, BLOCK: tl.constexpr):
    """The first num_rows of values (BLOCK,)."""
    tl.store(point_at_numbers(view, positions, row, num_rows, BLOCK), values, mask=tl.arange(0, BLOCK) < num_rows)


@triton.jit
def replace_missing_keys(x, keys_left, value, BLOCK_N: tl.constexpr, EVERY_BLOCK: tl.constexpr):
    """x (BLOCK_M, BLOCK_N) with `value` in the columns from keys_left on.

    Only the last, ragged block has such columns. With EVERY_BLOCK the others are not spared: there a branch would keep the compiler from
    seeing that one product feeds the next, and it would deal the keys of one row out to several warps.
    """
    if EVERY_BLOCK or keys_left < BLOCK_N:
        x = tl.where(tl.arange(0, BLOCK_N)[None, :] < keys_left, x, value)
    return x
