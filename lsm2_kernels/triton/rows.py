"""Loads and stores of a block of one sequence's rows; head dims between powers of two are padded with zeros.

Strides are passed in units of 8 elements, of which every head dim is a multiple: so the compiler knows that rows are aligned to 16 bytes,
without a specialisation of the kernel to values of strides or lengths, which would compile it anew for some of them.
"""

import triton
import triton.language as tl

STRIDE_UNIT = tl.constexpr(8)
UNSPECIALISED = [
    *(f"{tensor}_row_stride" for tensor in ("q", "k", "v", "out", "grad", "dq", "dk", "dv")),
    *(f"{tensor}_head_stride" for tensor in ("q", "k", "v", "grad", "dq", "dk", "dv")),
    *("num_queries", "num_keys", "num_sequences", "num_rows", "num_indices"),
]


@triton.jit
def point_at_head(base, head, head_stride):
    """Pointer to a head (int64, as past 2**31 elements the offset needs it) of the first row."""
    return base + head * head_stride * STRIDE_UNIT


@triton.jit
def point_at_rows(base, row, row_stride, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr):
    """Pointers (BLOCK, BLOCK_D) to rows from `row` (int64 like the head) on."""
    first = base + row * row_stride * STRIDE_UNIT
    return first + tl.arange(0, BLOCK)[:, None] * row_stride * STRIDE_UNIT + tl.arange(0, BLOCK_D)[None, :]


@triton.jit
def mark_inside(num_rows, BLOCK: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """True (BLOCK, BLOCK_D) in the first num_rows rows and HEAD_DIM columns."""
    inside = tl.arange(0, BLOCK)[:, None] < num_rows
    if HEAD_DIM < BLOCK_D:
        inside = inside & (tl.arange(0, BLOCK_D)[None, :] < HEAD_DIM)
    return inside


@triton.jit
def load_rows(base, row, row_stride, num_rows, BLOCK: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """BLOCK rows from `row` on (BLOCK, BLOCK_D), of which num_rows are there; the others, and columns past HEAD_DIM, are zeros."""
    inside = mark_inside(num_rows, BLOCK, HEAD_DIM, BLOCK_D)
    return tl.load(point_at_rows(base, row, row_stride, BLOCK, BLOCK_D), mask=inside, other=0.0)


@triton.jit
def store_rows(base, row, row_stride, num_rows, values, BLOCK: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """The first num_rows of values (BLOCK, BLOCK_D), rounded to the dtype of the tensor."""
    inside = mark_inside(num_rows, BLOCK, HEAD_DIM, BLOCK_D)
    tl.store(point_at_rows(base, row, row_stride, BLOCK, BLOCK_D), values.to(base.dtype.element_ty), mask=inside)


@triton.jit
def load_numbers(base, row, num_rows, BLOCK: tl.constexpr):
    """One number a row (BLOCK,), such as lse; zeros past num_rows."""
    rows = tl.arange(0, BLOCK)
    return tl.load(base + row + rows, mask=rows < num_rows, other=0.0)


@triton.jit
def store_numbers(base, row, num_rows, values, BLOCK: tl.constexpr):
    """The first num_rows of values (BLOCK,)."""
    rows = tl.arange(0, BLOCK)
    tl.store(base + row + rows, values, mask=rows < num_rows)
