"""The compiled CPU kernels give the same bits for every layout, number of threads and order of sequences."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lsm2_kernels import _ops
from lsm2_kernels.testing import AttentionInputs, AttentionResults, cu_seqlens_of, make_qkv

from .attend_by_ops import assert_same_bits, attend

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(
        _ops.cpu_library is None,
        reason=f"{_ops.why_no_cpu_library} (test_build.py fails where a compiler is present)",
    ),
]

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def test_a_thousand_short_sequences_equal_each_on_its_own() -> None:
    lengths = [1 + i % 23 for i in range(1000)]
    inputs = make_qkv(lengths, num_heads=1, head_dim=8)
    together = attend(inputs)
    for rows, _ in inputs.sequences()[::97]:
        alone = cu_seqlens_of([rows.stop - rows.start])
        out, lse = _ops.varlen_attention(
            inputs.q[rows], inputs.k[rows], inputs.v[rows], alone, alone, inputs.scale
        )
        assert torch.equal(out, together.out[rows])
        assert torch.equal(lse, together.lse[:, rows])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_strided_views_give_the_bits_of_contiguous_tensors(instruction_set: str, dtype: torch.dtype) -> None:
    inputs = make_qkv([5, 100, 31], num_heads=3, head_dim=24, dtype=dtype)

    def with_gaps(x: Tensor) -> Tensor:  # heads before tokens, and unused columns on both sides
        wide = torch.full((x.shape[1], x.shape[0], x.shape[2] + 16), torch.nan, dtype=x.dtype)
        wide[:, :, 8:-8] = x.transpose(0, 1)
        return wide[:, :, 8:-8].transpose(0, 1)

    assert inputs.grad_lse is not None
    strided = replace(
        inputs,
        **{name: with_gaps(getattr(inputs, name)) for name in ("q", "k", "v", "grad_out")},
        grad_lse=inputs.grad_lse.T.contiguous().T,
        cu_seqlens_q=inputs.cu_seqlens_q.repeat_interleave(2)[::2],
    )
    assert_same_bits(attend(strided), attend(inputs))


@pytest.mark.parametrize("name", ["q", "k", "v", "grad_out"])
def test_a_last_dimension_with_gaps_is_copied(name: str) -> None:
    inputs = make_qkv([5, 40], head_dim=16)
    spread = getattr(inputs, name).repeat_interleave(2, dim=-1)[..., ::2]
    assert_same_bits(attend(replace(inputs, **{name: spread})), attend(inputs))


def test_an_expanded_gradient(instruction_set: str) -> None:
    inputs = make_qkv([5, 100], head_dim=16)
    expanded = torch.ones(()).expand(inputs.q.shape)  # what out.sum().backward() sends
    assert_same_bits(
        attend(replace(inputs, grad_out=expanded)), attend(replace(inputs, grad_out=expanded.contiguous()))
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_qkvpacked_gives_the_bits_of_separate_tensors(instruction_set: str, dtype: torch.dtype) -> None:
    x = make_qkv([0, 65, 200, 1], num_heads=3, head_dim=40, dtype=dtype, tail=2)
    separate = attend(x)
    qkv = torch.stack([x.q, x.k, x.v], dim=1)
    out, lse = _ops.varlen_attention_qkvpacked(qkv, x.cu_seqlens_q, x.scale)
    dqkv = _ops.varlen_attention_qkvpacked_backward(
        x.grad_out, x.grad_lse, qkv, out, lse, x.cu_seqlens_q, x.scale
    )
    assert_same_bits(AttentionResults(out, lse, *dqkv.unbind(1)), separate)


@pytest.mark.parametrize("layout", ["heads before tokens", "tokens before heads"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_masked_attention_gives_the_bits_of_packed_tokens(
    instruction_set: str, dtype: torch.dtype, layout: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    keep = torch.rand(4, 150, generator=generator) < torch.tensor([[0.5], [0.0], [1.0], [0.1]])

    def padded(num_heads: int) -> Tensor:  # NaN where not kept
        x = (
            torch.randn(4, num_heads, 150, 24, generator=generator)
            .to(dtype)
            .masked_fill(~keep[:, None, :, None], torch.nan)
        )
        return x if layout == "heads before tokens" else x.transpose(1, 2).contiguous().transpose(1, 2)

    def packed(x: Tensor) -> Tensor:
        return x.transpose(1, 2)[keep]

    q, k, v, grad_out = padded(4), padded(2), padded(2), padded(4)
    grad_lse = torch.randn(4, 4, 150, generator=generator)
    out, lse = _ops.masked_attention(q, k, v, keep, 0.2)
    grads = _ops.masked_attention_backward(grad_out, grad_lse, q, k, v, keep, out, lse, 0.2)
    for x in (out, *grads):
        assert not x.transpose(1, 2)[~keep].any()
    assert (lse.transpose(1, 2)[~keep] == -torch.inf).all()
    offsets = cu_seqlens_of(keep.sum(1).tolist())
    kept_grad_lse = grad_lse.transpose(1, 2)[keep].T
    inputs = AttentionInputs(
        packed(q), packed(k), packed(v), offsets, offsets, 0.2, packed(grad_out), kept_grad_lse
    )
    assert_same_bits(
        AttentionResults(packed(out), lse.transpose(1, 2)[keep].T, *map(packed, grads)), attend(inputs)
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_number_of_threads_gives_the_same_bits(instruction_set: str, dtype: torch.dtype) -> None:
    inputs = make_qkv([300, 7, 130, 64, 1061], head_dim=32, num_heads=4, num_kv_heads=2, dtype=dtype)
    alone = attend(inputs)
    for threads in (2, 7):
        torch.set_num_threads(threads)
        assert_same_bits(attend(inputs), alone)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_permuted_sequences_give_permuted_bits(instruction_set: str, dtype: torch.dtype) -> None:
    x = make_qkv([300, 7, 0, 130, 64, 65], [20, 270, 3, 64, 0, 100], head_dim=16, dtype=dtype)
    order = [4, 0, 5, 2, 3, 1]
    rows = [x.sequences()[i] for i in order]
    of_q, of_k = (
        torch.cat([torch.arange(r.start, r.stop) for r in side]) for side in zip(*rows, strict=True)
    )
    assert x.grad_lse is not None
    permuted = AttentionInputs(
        x.q[of_q],
        x.k[of_k],
        x.v[of_k],
        cu_seqlens_of([q.stop - q.start for q, _ in rows]),
        cu_seqlens_of([k.stop - k.start for _, k in rows]),
        x.scale,
        x.grad_out[of_q],
        x.grad_lse[:, of_q],
    )
    straight = attend(x)
    expected = AttentionResults(
        straight.out[of_q], straight.lse[:, of_q], straight.dq[of_q], straight.dk[of_k], straight.dv[of_k]
    )
    assert_same_bits(attend(permuted), expected)
