"""The reference against definitions: softmax with a block mask, numerical derivatives, loops over rows."""

import pytest
import torch
from torch import Tensor

from lsm2_kernels import reference
from lsm2_kernels.testing import cu_seqlens_of, make_qkv

pytestmark = pytest.mark.usefixtures("one_thread")


class Attention(torch.autograd.Function):
    """The reference's forward and its backward by formula, for gradcheck."""

    @staticmethod
    def forward(ctx, q, k, v, cu_seqlens_q, cu_seqlens_k, scale):
        out, lse = reference.varlen_attention(q, k, v, cu_seqlens_q, cu_seqlens_k, scale)
        ctx.save_for_backward(q, k, v, out, lse, cu_seqlens_q, cu_seqlens_k)
        ctx.scale = scale
        return out, lse

    @staticmethod
    def backward(ctx, *grad_outputs):
        grad_out, grad_lse = grad_outputs
        q, k, v, out, lse, cu_seqlens_q, cu_seqlens_k = ctx.saved_tensors
        grads = reference.varlen_attention_backward(
            grad_out, grad_lse, q, k, v, out, lse, cu_seqlens_q, cu_seqlens_k, ctx.scale
        )
        return *grads, None, None, None


def dense_attention(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """All rows at once; a query sees a key of the same sequence, and padding sees nothing."""
    group = q.shape[1] // k.shape[1]
    sequence_q = torch.bucketize(torch.arange(q.shape[0]), cu_seqlens_q[1:], right=True)
    sequence_k = torch.bucketize(torch.arange(k.shape[0]), cu_seqlens_k[1:], right=True)
    sees = (sequence_q[:, None] == sequence_k) & (sequence_k < len(cu_seqlens_k) - 1)
    scores = torch.einsum("qhd,khd->hqk", q, k.repeat_interleave(group, dim=1)) * scale
    scores = scores.masked_fill(~sees, -torch.inf)
    probability = scores.softmax(-1).nan_to_num(0.0)
    return torch.einsum("hqk,khd->qhd", probability, v.repeat_interleave(group, dim=1)), scores.logsumexp(-1)


@pytest.mark.parametrize("num_kv_heads", [4, 2, 1], ids=lambda n: f"kv_heads{n}")
@pytest.mark.parametrize(
    ("lengths_q", "lengths_k"), [([3, 0, 5, 1], None), ([3, 2, 0, 4], [1, 0, 6, 2])], ids=["self", "cross"]
)
def test_forward_is_masked_softmax(lengths_q, lengths_k, num_kv_heads):
    inputs = make_qkv(
        lengths_q, lengths_k, num_heads=4, num_kv_heads=num_kv_heads, head_dim=8, dtype=torch.float64
    )
    q, k, v = (
        torch.cat([x, torch.randn(2, *x.shape[1:], dtype=x.dtype)]) for x in (inputs.q, inputs.k, inputs.v)
    )
    arguments = q, k, v, inputs.cu_seqlens_q, inputs.cu_seqlens_k, 0.3
    for actual, expected in zip(
        reference.varlen_attention(*arguments), dense_attention(*arguments), strict=True
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("num_kv_heads", [2, 1], ids=lambda n: f"kv_heads{n}")
@pytest.mark.parametrize(
    ("lengths_q", "lengths_k"), [([3, 0, 4, 1], None), ([2, 3, 1], [4, 1, 3])], ids=["self", "cross"]
)
def test_backward_is_the_derivative(lengths_q, lengths_k, num_kv_heads):
    inputs = make_qkv(
        lengths_q, lengths_k, num_heads=2, num_kv_heads=num_kv_heads, head_dim=8, dtype=torch.float64
    )
    q, k, v = (x.requires_grad_() for x in (inputs.q, inputs.k, inputs.v))

    def attention(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return Attention.apply(q, k, v, inputs.cu_seqlens_q, inputs.cu_seqlens_k, 0.4)

    assert torch.autograd.gradcheck(attention, (q, k, v))


def test_no_keys_and_rows_past_the_end():
    inputs = make_qkv([2, 3], [0, 4], num_heads=2, head_dim=8, dtype=torch.float64, tail=2)
    arguments = inputs.q, inputs.k, inputs.v, inputs.cu_seqlens_q, inputs.cu_seqlens_k
    out, lse = reference.varlen_attention(*arguments[:3], *arguments[3:], 0.3)
    dq, dk, dv = reference.varlen_attention_backward(
        inputs.grad_out, inputs.grad_lse, *arguments[:3], out, lse, *arguments[3:], 0.3
    )
    nothing = torch.tensor([True, True, False, False, False, True, True])
    assert (lse == -torch.inf).equal(nothing.expand(2, -1))
    for x in (out, dq):
        assert (x == 0).all(dim=(1, 2)).equal(nothing)
    assert dk[:4].isfinite().all() and dv[:4].isfinite().all()
    assert not dk[4:].any() and not dv[4:].any()


def test_qkvpacked_is_the_same_attention():
    inputs = make_qkv([3, 5], num_heads=2, head_dim=8, dtype=torch.float64)
    offsets = inputs.cu_seqlens_q
    qkv = torch.stack([inputs.q, inputs.k, inputs.v], dim=1)
    separate = reference.varlen_attention(inputs.q, inputs.k, inputs.v, offsets, offsets, 0.3)
    packed = reference.varlen_attention_qkvpacked(qkv, offsets, 0.3)
    assert all(torch.equal(a, b) for a, b in zip(packed, separate, strict=True))
    grads = reference.varlen_attention_backward(
        inputs.grad_out, None, inputs.q, inputs.k, inputs.v, *separate, offsets, offsets, 0.3
    )
    assert torch.stack(grads, dim=1).equal(
        reference.varlen_attention_qkvpacked_backward(inputs.grad_out, None, qkv, *packed, offsets, 0.3)
    )


@pytest.mark.parametrize(
    "offsets", [[1, 3], [0, 4, 2], [0, 9]], ids=["not_from_0", "decreasing", "past_the_end"]
)
def test_wrong_offsets_raise(offsets):
    q = torch.zeros(5, 1, 8)
    with pytest.raises(RuntimeError, match="cu_seqlens"):
        reference.varlen_attention(q, q, q, torch.tensor(offsets), torch.tensor(offsets), 1.0)


def test_pack_and_unpack_row_by_row():
    x = torch.arange(12.0).view(6, 2)
    indices = torch.tensor([4, 0, 6, -1, 5])
    assert reference.pack(x, indices).tolist() == [[8, 9], [0, 1], [0, 0], [0, 0], [10, 11]]
    rows = torch.arange(10.0).view(5, 2) + 1
    assert reference.unpack(rows, indices, None, 6).tolist() == [
        [3, 4],
        [0, 0],
        [0, 0],
        [0, 0],
        [1, 2],
        [9, 10],
    ]
    assert reference.unpack(rows, indices, torch.tensor([-1.0, -2]), 6).tolist() == [
        [3, 4],
        [-1, -2],
        [-1, -2],
        [-1, -2],
        [1, 2],
        [9, 10],
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_bits_depend_on_no_neighbour(dtype):
    def results(lengths: list[int], order: list[int]) -> list[Tensor]:
        inputs = make_qkv(lengths, num_heads=2, head_dim=24, dtype=dtype)
        parts = [rows for rows, _ in inputs.sequences()]
        q, k, v, grad = (
            torch.cat([x[parts[i]] for i in order]) for x in (inputs.q, inputs.k, inputs.v, inputs.grad_out)
        )
        offsets = cu_seqlens_of([lengths[i] for i in order])
        out, lse = reference.varlen_attention(q, k, v, offsets, offsets, 0.2)
        grads = reference.varlen_attention_backward(grad, None, q, k, v, out, lse, offsets, offsets, 0.2)
        place = {i: slice(offsets[at], offsets[at + 1]) for at, i in enumerate(order)}
        return [x[place[i]] for x in (out, lse.T, *grads) for i in sorted(order)]

    lengths = [65, 1, 130, 0, 7]
    for permuted, ordered in zip(
        results(lengths, [2, 4, 3, 0, 1]), results(lengths, [0, 1, 2, 3, 4]), strict=True
    ):
        assert permuted.equal(ordered)


def test_masked_is_attention_among_kept_tokens():
    generator = torch.Generator().manual_seed(0)
    keep = torch.tensor([[True, False, True, True], [False] * 4])
    q, k, v = (torch.randn(2, heads, 4, 8, generator=generator, dtype=torch.float64) for heads in (2, 1, 1))
    for x in (q, k, v):
        x.masked_fill_(~keep[:, None, :, None], torch.nan)
    out, lse = reference.masked_attention(q, k, v, keep, 0.3)
    rows = keep[0].nonzero().squeeze(1)
    scores = 0.3 * q[0][:, rows] @ k[0][:, rows].mT
    torch.testing.assert_close(out[0][:, rows], scores.softmax(-1) @ v[0][:, rows])
    torch.testing.assert_close(lse[0][:, rows], scores.logsumexp(-1))
    assert not out[1].any() and not out[0, :, 1].any()
    assert (lse[1] == -torch.inf).all() and (lse[0, :, 1] == -torch.inf).all()
