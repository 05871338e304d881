"""pack and unpack of random shapes, dtypes, masks and indices, right or outside."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lsm2_kernels import Packing, _ops, pack, unpack

from .fuzzing import DTYPES, examples, seeds

pytestmark = pytest.mark.usefixtures("one_thread")

any_dtype = st.sampled_from(
    [*DTYPES, torch.float64, torch.complex64, torch.int64, torch.int32, torch.uint8, torch.bool]
)
row_shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)


def numbers(seed: int, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randint(0, 100, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@examples(100)
@given(
    batch_size=st.integers(0, 4),
    seq_len=st.integers(0, 20),
    row_shape=row_shapes,
    dtype=any_dtype,
    kept=st.sampled_from([0.0, 0.3, 1.0]),
    unused=st.none() | st.integers(0, 7),
    has_fill=st.booleans(),
    is_transposed=st.booleans(),
    seed=seeds,
)
def test_pack_and_unpack(
    batch_size: int,
    seq_len: int,
    row_shape: tuple[int, ...],
    dtype: torch.dtype,
    kept: float,
    unused: int | None,
    has_fill: bool,
    is_transposed: bool,
    seed: int,
) -> None:
    keep = torch.rand(batch_size, seq_len, generator=torch.Generator().manual_seed(seed)) < kept
    num_kept = int(keep.sum())
    packing = Packing.from_mask(keep, capacity=None if unused is None else num_kept + unused)
    x = numbers(seed, dtype, batch_size, seq_len, *row_shape)
    if is_transposed:
        x = x.transpose(0, -1).contiguous().transpose(0, -1)
    if dtype.is_floating_point:
        x.requires_grad_()
    packed = pack(x, packing)
    assert packed.dtype == dtype and packed.shape == (num_kept + (unused or 0), *row_shape)
    assert torch.equal(packed[:num_kept], x[keep]) and not packed[num_kept:].any()
    fill = numbers(seed + 1, dtype, *row_shape) if has_fill else None
    back = unpack(packed, packing, fill=fill)
    expected = torch.zeros_like(x) if fill is None else fill.expand(x.shape).clone()
    expected[keep] = x.detach()[keep]
    assert torch.equal(back, expected)
    if dtype.is_floating_point:
        grad = numbers(seed + 2, dtype, *x.shape)
        expected = torch.zeros_like(grad)
        expected[keep] = grad[keep]
        assert torch.equal(torch.autograd.grad(back, x, grad)[0], expected)


indices_of_any_size = st.one_of(
    st.integers(-2, 12), st.sampled_from([-(2**63), 2**63 - 1, 2**62, -(2**31), 2**31, 2**32])
)


@examples(100)
@given(
    indices=st.lists(indices_of_any_size, max_size=12),
    num_rows=st.integers(0, 11),
    row_shape=row_shapes,
    dtype=any_dtype,
    is_strided=st.booleans(),
    has_fill=st.booleans(),
    seed=seeds,
)
def test_indices_outside_name_no_row(
    indices: list[int],
    num_rows: int,
    row_shape: tuple[int, ...],
    dtype: torch.dtype,
    is_strided: bool,
    has_fill: bool,
    seed: int,
) -> None:
    index = torch.tensor(indices, dtype=torch.int64)
    if is_strided:
        index = index.repeat_interleave(3)[1::3]
    x = numbers(seed, dtype, num_rows, *row_shape)
    zero = torch.zeros(row_shape, dtype=dtype)
    packed = _ops.pack(x, index)
    assert torch.equal(
        packed, torch.stack([x[i] if 0 <= i < num_rows else zero for i in indices] or [zero])[: len(indices)]
    )

    fill = numbers(seed + 1, dtype, *row_shape) if has_fill else None
    distinct = list(dict.fromkeys(indices))
    x = numbers(seed, dtype, len(distinct), *row_shape)
    unpacked = _ops.unpack(x, torch.tensor(distinct, dtype=torch.int64), fill, num_rows)
    rows = dict(zip(distinct, x, strict=True))
    wanted = [rows.get(i, zero if fill is None else fill) for i in range(num_rows)]
    assert torch.equal(unpacked, torch.stack(wanted or [zero])[:num_rows])
