"""Packing, pack and unpack."""

import pytest
import torch
from torch.utils import _pytree

from lsm2_kernels import Packing, pack, unpack

KEEP = torch.tensor([[True, False, True, True], [False, False, False, False], [False, True, False, True]])


def test_from_mask(device):
    packing = Packing.from_mask(KEEP.to(device))
    assert packing.indices.tolist() == [0, 2, 3, 9, 11]
    assert packing.cu_seqlens.tolist() == [0, 3, 3, 5]
    assert (packing.indices.dtype, packing.cu_seqlens.dtype, packing.num_kept.dtype) == (
        torch.int64,
        torch.int32,
        torch.int64,
    )
    assert (packing.num_kept.item(), packing.batch_size, packing.seq_len) == (5, 3, 4)


@pytest.mark.parametrize("capacity", [5, 7, 12, 40])
def test_capacity_leaves_unused_indices_past_the_end(device, capacity):
    packing = Packing.from_mask(KEEP.to(device), capacity=capacity)
    assert packing.indices.tolist() == [0, 2, 3, 9, 11] + [12] * (capacity - 5)
    assert packing.cu_seqlens.tolist() == [0, 3, 3, 5]
    x = torch.randn(3, 4, 2, device=device)
    assert not pack(x, packing)[5:].any()
    assert unpack(torch.full((capacity, 2), 3.0, device=device), packing)[..., 0].equal(
        torch.where(KEEP, 3.0, 0.0).to(device)
    )


def test_capacity_too_small(device):
    if device.type == "cpu":
        with pytest.raises(ValueError, match=r"capacity is 4; 5 tokens are to be kept"):
            Packing.from_mask(KEEP, capacity=4)
        return
    packing = Packing.from_mask(KEEP.to(device), capacity=4)
    assert packing.indices.tolist() == [0, 2, 3, 9]
    assert packing.cu_seqlens.tolist() == [0, 3, 3, 4]
    assert packing.num_kept.item() == 5


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("capacity", [None, 2])
def test_nothing_to_pack(device, shape, capacity):
    packing = Packing.from_mask(torch.ones(shape, dtype=torch.bool, device=device), capacity=capacity)
    assert packing.cu_seqlens.tolist() == [0] * (shape[0] + 1)
    x = torch.randn(*shape, 8, device=device, requires_grad=True)
    packed = pack(x, packing)
    assert packed.shape == (capacity or 0, 8) and not packed.any()
    back = unpack(packed, packing)
    assert back.shape == x.shape
    back.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("trailing", [(1,), (7,), (3, 8), (384,)], ids=str)
def test_round_trip(device, dtype, trailing):
    keep = torch.rand(5, 67, generator=torch.Generator().manual_seed(0)).to(device) < 0.4
    x = torch.randn(5, 67, *trailing, device=device).to(dtype).requires_grad_()
    packing = Packing.from_mask(keep)
    packed = pack(x, packing)
    assert packed.equal(x[keep])
    kept = keep.view(5, 67, *[1] * len(trailing))
    back = unpack(packed, packing)
    assert back.equal(x * kept)
    grad = torch.randn_like(back)
    assert torch.autograd.grad(back, x, grad)[0].equal(grad * kept)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
def test_integers_such_as_token_ids(device, dtype):
    ids = torch.arange(12, device=device, dtype=dtype).view(3, 4)
    packing = Packing.from_mask(KEEP.to(device), capacity=6)
    packed = pack(ids, packing)
    assert packed.dtype == dtype and packed.tolist() == [0, 2, 3, 9, 11, 0]
    assert unpack(packed, packing, fill=torch.tensor(-1, device=device)).tolist() == [
        [0, -1, 2, 3],
        [-1] * 4,
        [-1, 9, -1, 11],
    ]


def test_strided_input_and_gradient(device):
    packing = Packing.from_mask(KEEP.to(device))
    x = torch.randn(3, 6, 4, device=device).transpose(1, 2)[..., ::2]  # (3, 4, 3), no dimension contiguous
    leaf = x.detach().requires_grad_()
    packed = pack(leaf, packing)
    assert packed.equal(x[KEEP.to(device)])
    grad = torch.randn(3, 5, device=device).T
    assert torch.autograd.grad(packed, leaf, grad)[0][KEEP.to(device)].equal(grad)
    assert unpack(grad, packing)[KEEP.to(device)].equal(grad)


def test_fill_and_its_gradient(device):
    packing = Packing.from_mask(KEEP.to(device), capacity=6)
    x, fill = (torch.randn(shape, device=device, requires_grad=True) for shape in ((6, 3), (3,)))
    filled = unpack(x, packing, fill=fill)
    assert filled[~KEEP].equal(fill.expand(7, 3))
    assert filled[KEEP].equal(x[:5])
    grad = torch.randn_like(filled)
    grad_x, grad_fill = torch.autograd.grad(filled, (x, fill), grad)
    torch.testing.assert_close(grad_fill, grad[~KEEP].sum(0))
    assert grad_x[:5].equal(grad[KEEP]) and not grad_x[5:].any()


def test_gradient_of_fill_ignores_kept_rows(device):
    packing = Packing.from_mask(KEEP.to(device))
    fill = torch.zeros(2, device=device, requires_grad=True)
    grad = torch.ones(3, 4, 2, device=device)
    grad[KEEP] = torch.nan
    unpack(torch.zeros(5, 2, device=device), packing, fill=fill).backward(grad)
    assert fill.grad is not None and fill.grad.tolist() == [7, 7]


def test_fill_is_cast_to_the_rows(device):
    packing = Packing.from_mask(KEEP.to(device))
    fill = torch.full((2,), 1.5, device=device, requires_grad=True)
    filled = unpack(torch.zeros(5, 2, device=device, dtype=torch.bfloat16), packing, fill=fill)
    assert filled.dtype == torch.bfloat16 and filled[0, 1].tolist() == [1.5, 1.5]
    filled.float().sum().backward()
    assert fill.grad is not None and fill.grad.dtype == torch.float32


def test_values_not_kept_are_harmless(device):
    x = torch.randn(3, 4, 2, device=device)
    x[~KEEP] = torch.nan
    packing = Packing.from_mask(KEEP.to(device), capacity=8)
    packed = pack(x.requires_grad_(), packing)
    assert packed.isfinite().all()
    packed[:5].sum().backward()
    assert x.grad is not None and x.grad[..., 0].equal(KEEP.to(device, torch.float32))
    rows = torch.full((8, 2), torch.nan, device=device)
    rows[:5] = 1
    assert unpack(rows, packing)[..., 0].equal(KEEP.to(device, torch.float32))


def test_second_derivatives(device):
    packing = Packing.from_mask(KEEP.to(device), capacity=6)
    x, fill = (torch.randn(shape, device=device, requires_grad=True) for shape in ((3, 4, 2), (2,)))
    value = unpack(pack(x, packing) ** 3, packing, fill=fill**3).sum()
    grad_x, grad_fill = torch.autograd.grad(value, (x, fill), create_graph=True)
    second_x, second_fill = torch.autograd.grad(grad_x.sum() + grad_fill.sum(), (x, fill))
    torch.testing.assert_close(second_x, 6 * x * KEEP.to(device)[..., None])
    torch.testing.assert_close(second_fill, 7 * 6 * fill)


def test_packing_is_a_pytree_and_moves():
    packing = Packing.from_mask(KEEP)
    leaves, spec = _pytree.tree_flatten(packing)
    assert len(leaves) == 3
    again = _pytree.tree_unflatten([leaf + 0 for leaf in leaves], spec)
    assert (
        isinstance(again, Packing)
        and (again.batch_size, again.seq_len) == (3, 4)
        and again.indices.equal(packing.indices)
    )
    moved = packing.to("meta")
    assert (
        moved.indices.is_meta and moved.cu_seqlens.is_meta and moved.num_kept.is_meta and moved.seq_len == 4
    )
    with pytest.raises(AttributeError):
        packing.seq_len = 5  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory needs a GPU")
def test_pinned_packing_copies_to_a_gpu():
    pinned = Packing.from_mask(KEEP).pin_memory()
    assert pinned.indices.is_pinned() and pinned.cu_seqlens.is_pinned() and pinned.num_kept.is_pinned()
    assert pinned.to("cuda", non_blocking=True).indices.tolist() == [0, 2, 3, 9, 11]
