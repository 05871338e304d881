"""The public attention functions: right, exact at the edges, and deterministic."""

import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from lsm2_kernels import masked_attention, varlen_attention, varlen_attention_qkvpacked
from lsm2_kernels.testing import (
    AttentionInputs,
    AttentionResults,
    assert_attention_accurate,
    cu_seqlens_of,
    make_qkv,
    random_lengths,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ODD = [0, 1, 63, 64, 65, 0, 17, 2]
CASES = {
    "odd_lengths": {"lengths_q": ODD},
    "cross": {"lengths_q": ODD, "lengths_k": [5, 0, 64, 1, 129, 3, 0, 1]},
    "one_long": {"lengths_q": [1023]},
    "one_token": {"lengths_q": [1], "num_heads": 3},
    "one_key": {"lengths_q": [257, 1, 40], "lengths_k": [1, 1, 1]},
    "thousand": {"lengths_q": random_lengths(1000, 0, 9), "head_dim": 16},
    "gqa": {"lengths_q": ODD, "num_heads": 6, "num_kv_heads": 2, "head_dim": 32},
    "mqa_cross": {
        "lengths_q": [31, 0, 101],
        "lengths_k": [67, 4, 97],
        "num_heads": 4,
        "num_kv_heads": 1,
        "head_dim": 24,
    },
    "int64_offsets": {"lengths_q": ODD, "offsets_dtype": torch.int64, "head_dim": 8},
    "without_grad_lse": {"lengths_q": [61, 128, 7], "with_grad_lse": False},
    "no_sequence": {"lengths_q": []},
    "only_empty": {"lengths_q": [0, 0, 0]},
}


def attend(inputs: AttentionInputs) -> AttentionResults:
    q, k, v = (x.detach().requires_grad_() for x in (inputs.q, inputs.k, inputs.v))
    out, lse = varlen_attention(
        q, k, v, inputs.cu_seqlens_q, inputs.cu_seqlens_k, scale=inputs.scale, return_lse=True
    )
    results, grads = (
        ((out, lse), (inputs.grad_out, inputs.grad_lse))
        if inputs.grad_lse is not None
        else ((out,), (inputs.grad_out,))
    )
    return AttentionResults(out.detach(), lse.detach(), *torch.autograd.grad(results, (q, k, v), grads))


def same_bits(a: AttentionResults, b: AttentionResults) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("out", "lse", "dq", "dk", "dv"))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_accuracy(device, case, dtype):
    inputs = make_qkv(**CASES[case], dtype=dtype, device=device, tail=3)
    results = attend(inputs)
    assert results.out.dtype == results.dq.dtype == results.dk.dtype == results.dv.dtype == dtype
    assert results.lse.dtype == torch.float32
    assert_attention_accurate(inputs, results)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("head_dim", [8, 40, 72, 96, 128, 200, 256])
def test_accuracy_for_head_dims(device, head_dim, dtype):
    inputs = make_qkv([33, 1, 70], head_dim=head_dim, dtype=dtype, device=device, tail=1)
    assert_attention_accurate(inputs, attend(inputs))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_large_scores(device, dtype):
    inputs = make_qkv([65, 130], dtype=dtype, device=device)
    inputs = AttentionInputs(
        **{**vars(inputs), "scale": 4.0}
    )  # scores of some hundreds: the softmax is nearly one-hot
    assert_attention_accurate(inputs, attend(inputs))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_qkvpacked(device, dtype):
    inputs = make_qkv(ODD, dtype=dtype, device=device, tail=2, num_heads=3)
    qkv = torch.stack([inputs.q, inputs.k, inputs.v], dim=1).requires_grad_()
    out, lse = varlen_attention_qkvpacked(qkv, inputs.cu_seqlens_q, return_lse=True)
    (grad,) = torch.autograd.grad((out, lse), qkv, (inputs.grad_out, inputs.grad_lse))
    assert grad.shape == qkv.shape and grad.is_contiguous()
    assert_attention_accurate(inputs, AttentionResults(out, lse, *grad.unbind(1)))


def test_default_scale_and_offsets(device):
    inputs = make_qkv([5, 9], head_dim=32, device=device)
    explicit = varlen_attention(
        inputs.q, inputs.k, inputs.v, inputs.cu_seqlens_q, inputs.cu_seqlens_q, scale=1 / math.sqrt(32)
    )
    assert varlen_attention(inputs.q, inputs.k, inputs.v, inputs.cu_seqlens_q).equal(explicit)
    mixed = varlen_attention(inputs.q, inputs.k, inputs.v, inputs.cu_seqlens_q, inputs.cu_seqlens_k.long())
    assert mixed.equal(explicit)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_strided_views_give_the_same_bits(device, dtype):
    inputs = make_qkv([33, 8, 70], num_heads=2, head_dim=16, dtype=dtype, device=device)
    expected = attend(inputs)
    qkv = torch.stack([inputs.q, inputs.k, inputs.v], dim=1)
    views = dict(zip("qkv", qkv.unbind(1), strict=True))
    views["v"] = inputs.v.transpose(0, 1).contiguous().transpose(0, 1)
    views["grad_out"] = (
        inputs.grad_out.transpose(1, 2).contiguous().transpose(1, 2)
    )  # not even the last dimension is contiguous
    assert same_bits(attend(AttentionInputs(**{**vars(inputs), **views})), expected)


def test_expanded_gradient(device):
    inputs = make_qkv([5, 9], head_dim=8, device=device)
    q = inputs.q.requires_grad_()
    (expanded,) = torch.autograd.grad(varlen_attention(q, inputs.k, inputs.v, inputs.cu_seqlens_q).sum(), q)
    (explicit,) = torch.autograd.grad(
        varlen_attention(q, inputs.k, inputs.v, inputs.cu_seqlens_q), q, torch.ones_like(q)
    )
    assert expanded.equal(explicit)


def test_gradient_of_lse_alone(device):
    inputs = make_qkv([5, 0, 9], head_dim=8, device=device)
    q, k, v = (x.requires_grad_() for x in (inputs.q, inputs.k, inputs.v))
    out, lse = varlen_attention(q, k, v, inputs.cu_seqlens_q, return_lse=True)
    dq, dk, dv = torch.autograd.grad(lse, (q, k, v), inputs.grad_lse)
    assert not dv.any()
    assert_attention_accurate(
        AttentionInputs(**{**vars(inputs), "grad_out": torch.zeros_like(inputs.q)}),
        AttentionResults(out, lse, dq, dk, dv),
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_past_the_end_influence_nothing(device, dtype):
    """NaN there (make_qkv puts it into q, k, v and both gradients) gives the bits that no such rows give."""
    without = make_qkv([33, 0, 70], [5, 9, 66], dtype=dtype, device=device)
    with_tail = make_qkv([33, 0, 70], [5, 9, 66], dtype=dtype, device=device, tail=70)
    long, short = attend(with_tail), attend(without)
    for name, end in (("out", 103), ("dq", 103), ("dk", 80), ("dv", 80)):
        assert (
            getattr(long, name)[:end].equal(getattr(short, name)) and not getattr(long, name)[end:].any()
        ), name
    assert long.lse[:, :103].equal(short.lse) and (long.lse[:, 103:] == -torch.inf).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_permuted_sequences_give_permuted_bits(device, dtype):
    lengths_q, lengths_k = random_lengths(12, 0, 150, seed=1), random_lengths(12, 0, 150, seed=2)
    inputs = make_qkv(
        lengths_q, lengths_k, num_heads=4, num_kv_heads=2, head_dim=32, dtype=dtype, device=device
    )
    assert inputs.grad_lse is not None
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist()
    sequences = inputs.sequences()
    rows_q = torch.cat([torch.arange(sequences[i][0].start, sequences[i][0].stop) for i in order]).to(device)
    rows_k = torch.cat([torch.arange(sequences[i][1].start, sequences[i][1].stop) for i in order]).to(device)
    permuted = AttentionInputs(
        q=inputs.q[rows_q],
        k=inputs.k[rows_k],
        v=inputs.v[rows_k],
        cu_seqlens_q=cu_seqlens_of([lengths_q[i] for i in order], device=device),
        cu_seqlens_k=cu_seqlens_of([lengths_k[i] for i in order], device=device),
        scale=inputs.scale,
        grad_out=inputs.grad_out[rows_q],
        grad_lse=inputs.grad_lse[:, rows_q],
    )
    before, after = attend(inputs), attend(permuted)
    assert after.out.equal(before.out[rows_q]) and after.lse.equal(before.lse[:, rows_q])
    assert (
        after.dq.equal(before.dq[rows_q])
        and after.dk.equal(before.dk[rows_k])
        and after.dv.equal(before.dv[rows_k])
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_runs_and_thread_counts_give_the_same_bits(device, dtype):
    inputs = make_qkv([301, 0, 77, 5], dtype=dtype, device=device, num_heads=3, num_kv_heads=1)
    expected = attend(inputs)
    before = torch.get_num_threads()
    try:
        for num_threads in (1, 2, 3):
            torch.set_num_threads(num_threads)
            assert same_bits(attend(inputs), expected), num_threads
    finally:
        torch.set_num_threads(before)


def test_second_derivative_raises(device):
    inputs = make_qkv([5, 9], head_dim=8, device=device)
    q = inputs.q.requires_grad_()
    (grad,) = torch.autograd.grad(
        varlen_attention(q, inputs.k, inputs.v, inputs.cu_seqlens_q).sum(), q, create_graph=True
    )
    with pytest.raises(RuntimeError, match="no second derivative"):
        grad.sum().backward()
    qkv = torch.randn(5, 3, 1, 8, device=device, requires_grad=True)
    (grad,) = torch.autograd.grad(
        varlen_attention_qkvpacked(qkv, cu_seqlens_of([5], device=device)).sum(), qkv, create_graph=True
    )
    with pytest.raises(RuntimeError, match="no second derivative"):
        grad.sum().backward()


def test_autocast(device):
    inputs = make_qkv([5, 9], head_dim=8, device=device)
    q = inputs.q.requires_grad_()
    q_bf16, k_bf16, v_bf16 = (x.detach().bfloat16() for x in (inputs.q, inputs.k, inputs.v))
    with torch.autocast(device.type, dtype=torch.bfloat16):
        out = varlen_attention(q, k_bf16, inputs.v, inputs.cu_seqlens_q)
        packed = varlen_attention_qkvpacked(
            torch.stack([inputs.q, inputs.k, inputs.v], dim=1), inputs.cu_seqlens_q
        )
        inside = varlen_attention(q_bf16, k_bf16, v_bf16, inputs.cu_seqlens_q)
    assert (
        out.equal(varlen_attention(q_bf16, k_bf16, v_bf16, inputs.cu_seqlens_q))
        and out.equal(inside)
        and out.equal(packed)
    )
    out.sum().backward()
    assert q.grad is not None and q.grad.dtype == torch.float32


@pytest.mark.parametrize("layout", ["heads_first", "tokens_first"])
@pytest.mark.parametrize("num_kv_heads", [4, 2], ids=lambda n: f"kv_heads{n}")
def test_masked_attention_is_sdpa_on_kept_tokens(device, layout, num_kv_heads):
    generator = torch.Generator().manual_seed(0)
    keep = (torch.rand(3, 70, generator=generator) < 0.5).to(device)
    keep[1] = False
    keep[2] = True
    tokens = [
        torch.randn(3, 70, heads, 16, generator=generator).to(device)
        for heads in (4, num_kv_heads, num_kv_heads)
    ]
    q, k, v = (
        x.transpose(1, 2) if layout == "tokens_first" else x.transpose(1, 2).contiguous() for x in tokens
    )
    grad = torch.randn(3, 4, 70, 16, generator=generator).to(device)
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    # A row whose queries or keys are all hidden has no softmax: SDPA would give NaN, so the plain way hides
    # the hidden queries afterwards.
    mask = keep[:, None, None, :] | ~keep.any(1)[:, None, None, None]
    plain = scaled_dot_product_attention(*leaves, attn_mask=mask, enable_gqa=True) * keep[:, None, :, None]
    expected = torch.autograd.grad(plain, leaves, grad)

    poisoned = q, k, v = [
        x.detach().masked_fill(~keep[:, None, :, None], torch.nan).requires_grad_() for x in (q, k, v)
    ]
    out = masked_attention(q, k, v, keep)
    torch.testing.assert_close(out, plain, rtol=1e-5, atol=1e-5)
    assert not out[~keep[:, None, :].expand(3, 4, 70)].any()
    for actual, wanted in zip(torch.autograd.grad(out, poisoned, grad), expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-5)
        assert not actual[~keep[:, None, :].expand(actual.shape[:3])].any()


@pytest.mark.parametrize("shape", [(0, 2, 5), (2, 2, 0), (1, 2, 1)], ids=str)
def test_masked_attention_of_nothing(device, shape):
    q = torch.randn(*shape, 8, device=device, requires_grad=True)
    out = masked_attention(q, q, q, torch.zeros(shape[0], shape[2], dtype=torch.bool, device=device))
    assert out.shape == q.shape and not out.any()
    out.sum().backward()
    assert q.grad is not None and not q.grad.any()
