"""Attention of random shapes, lengths, strides and scales is right to a few roundings."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lsm2_kernels import masked_attention, varlen_attention, varlen_attention_qkvpacked
from lsm2_kernels.testing import AttentionInputs, AttentionResults, cu_seqlens_of, exact_attention, make_qkv

from .fuzzing import DTYPES, LAYOUTS_BY_FIELD, LAYOUTS_OF_PADDED, examples, seeds, sliced

pytestmark = pytest.mark.usefixtures("one_thread")

RESULTS = ("out", "lse", "dq", "dk", "dv")

lengths = st.one_of(st.sampled_from([0, 0, 1, 15, 16, 17, 63, 64, 65, 130]), st.integers(0, 40))
head_dims = st.one_of(
    st.sampled_from([8, 32, 64, 72, 128, 256]), st.integers(1, 32).map(lambda eighths: 8 * eighths)
)
scales = st.sampled_from([None, None, 0.0, -0.2, 0.01, 2.0])


@dataclass(frozen=True)
class Case:
    """What to compute, in a form that a failure can print."""

    options: dict[str, Any]
    layouts: dict[str, str]
    scale: float | None

    def inputs(self, dtype: torch.dtype) -> AttentionInputs:
        x = make_qkv(**self.options, dtype=dtype)
        fields = {
            name: LAYOUTS_BY_FIELD[name][layout](getattr(x, name)) for name, layout in self.layouts.items()
        }
        return replace(x, **fields, scale=x.scale if self.scale is None else self.scale)


@st.composite
def cases(draw: Callable[[Any], Any], is_self_attention: bool = False) -> Case:
    pairs = draw(st.lists(st.tuples(lengths, lengths), min_size=1, max_size=4))
    num_kv_heads = draw(st.integers(1, 3))
    options = {
        "lengths_q": [q for q, _ in pairs],
        "lengths_k": None if is_self_attention or draw(st.booleans()) else [k for _, k in pairs],
        "num_heads": num_kv_heads * (1 if is_self_attention else draw(st.integers(1, 3))),
        "num_kv_heads": num_kv_heads,
        "head_dim": draw(head_dims),
        "offsets_dtype": draw(st.sampled_from([torch.int32, torch.int64])),
        "tail": draw(st.sampled_from([0, 0, 1, 5, 70])),
        "with_grad_lse": draw(st.booleans()),
        "seed": draw(seeds),
    }
    names = [name for name in LAYOUTS_BY_FIELD if name != "grad_lse" or options["with_grad_lse"]]
    layouts = {name: draw(st.sampled_from(sorted(LAYOUTS_BY_FIELD[name]))) for name in names}
    return Case(options, layouts, draw(scales))


# What is right


def assert_right(inputs: AttentionInputs, actual: AttentionResults) -> None:
    """Every number is within some roundings of the terms of its sum; rows of no sequence are 0."""
    exact = exact_attention(inputs)
    allowed = AttentionResults(*(torch.zeros_like(getattr(exact, name)) for name in RESULTS))
    for rows_q, rows_k in inputs.sequences():
        if rows_q.start < rows_q.stop and rows_k.start < rows_k.stop:
            _allow_roundings(inputs, rows_q, rows_k, allowed)
    for name in RESULTS:
        result, wanted, error = getattr(actual, name), getattr(exact, name), getattr(allowed, name)
        assert result.shape == wanted.shape, name
        assert result.dtype == (torch.float32 if name == "lse" else inputs.q.dtype), name
        finite = wanted.isfinite()
        assert torch.equal(result[~finite].double(), wanted[~finite]), (
            f"{name} is not -inf where there are no keys"
        )
        limits = torch.finfo(result.dtype)
        surplus = (
            (result.double() - wanted).abs() - error - limits.eps * wanted.abs() - limits.tiny * (error > 0)
        )
        worst = surplus[finite].max().item() if finite.any() else 0.0
        assert worst <= 0, (
            f"{name} is off by {worst:.3g} more than allowed, {error[finite].max():.3g} at most"
        )


def _allow_roundings(
    inputs: AttentionInputs, rows_q: slice, rows_k: slice, allowed: AttentionResults
) -> None:
    num_kv_heads = inputs.k.shape[1]
    group = inputs.q.shape[1] // num_kv_heads
    q, k, v, grad = (
        x.double().transpose(0, 1)
        for x in (inputs.q[rows_q], inputs.k[rows_k], inputs.v[rows_k], inputs.grad_out[rows_q])
    )
    k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
    grad_lse = q.new_zeros(q.shape[:2]) if inputs.grad_lse is None else inputs.grad_lse[:, rows_q].double()
    probability = (inputs.scale * q @ k.mT).softmax(-1)
    # The error of a score, a float32 sum of D terms, is a relative error of probabilities. These may be
    # rounded to q's dtype, to 0 where they are among the smallest numbers. Where all terms of a sum are
    # alike, so are the roundings, half an eps each.
    single, limits = torch.finfo(torch.float32), torch.finfo(inputs.q.dtype)
    score_error = 8 * single.eps * (1 + abs(inputs.scale) * (q.abs() @ k.abs().mT).amax(-1, keepdim=True))
    sum_error = single.eps / 2 * max(q.shape[1] * group, k.shape[1])
    smallest = max(limits.tiny * limits.eps, 64 * single.tiny)
    error = probability * (score_error + sum_error + 2 * limits.eps) + smallest
    terms = grad.abs() @ v.abs().mT
    grad_score_error = (
        abs(inputs.scale)
        * error
        * (terms + (probability * terms).sum(-1, keepdim=True) + grad_lse.abs()[..., None])
    )

    def over_groups(x: Tensor) -> Tensor:
        return x.unflatten(0, (num_kv_heads, group)).sum(1).transpose(0, 1)

    allowed.out[rows_q] = (error @ v.abs()).transpose(0, 1)
    # lse is float32 always, but its exponentials may be taken for no more than weights in q's dtype.
    allowed.lse[:, rows_q] = score_error.squeeze(-1) + sum_error + limits.eps / 256
    allowed.dq[rows_q] = (grad_score_error @ k.abs()).transpose(0, 1)
    allowed.dk[rows_k] = over_groups(grad_score_error.mT @ q.abs())
    allowed.dv[rows_k] = over_groups(error.mT @ grad.abs())


def gradients(inputs: AttentionInputs, out: Tensor, lse: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    if inputs.grad_lse is None:
        return torch.autograd.grad(out, leaves, inputs.grad_out)
    return torch.autograd.grad((out, lse), leaves, (inputs.grad_out, inputs.grad_lse))


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@examples(60)
@given(case=cases())
def test_varlen_attention(dtype: torch.dtype, case: Case) -> None:
    x = case.inputs(dtype)
    leaves = [tensor.detach().requires_grad_() for tensor in (x.q, x.k, x.v)]
    out, lse = varlen_attention(*leaves, x.cu_seqlens_q, x.cu_seqlens_k, scale=x.scale, return_lse=True)
    assert_right(x, AttentionResults(out.detach(), lse.detach(), *gradients(x, out, lse, leaves)))


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@examples(25)
@given(
    case=cases(is_self_attention=True),
    layout=st.sampled_from(["contiguous", "heads_first", "part_last", "inside_a_larger_tensor"]),
)
def test_varlen_attention_qkvpacked(dtype: torch.dtype, case: Case, layout: str) -> None:
    x = case.inputs(dtype)
    qkv = torch.stack([x.q, x.k, x.v], dim=1)
    if layout == "heads_first":
        qkv = qkv.transpose(0, 2).contiguous().transpose(0, 2)
    elif layout == "part_last":
        qkv = qkv.transpose(1, 2).contiguous().transpose(1, 2)
    elif layout == "inside_a_larger_tensor":
        qkv = sliced(qkv, 1)
    qkv = qkv.requires_grad_()
    out, lse = varlen_attention_qkvpacked(qkv, x.cu_seqlens_q, scale=x.scale, return_lse=True)
    (dqkv,) = gradients(x, out, lse, [qkv])
    x = replace(x, **dict(zip("qkv", qkv.detach().unbind(1), strict=True)))
    assert_right(x, AttentionResults(out.detach(), lse.detach(), *dqkv.unbind(1)))


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@examples(25)
@given(
    batch_size=st.integers(0, 4),
    seq_len=st.one_of(st.integers(0, 20), st.sampled_from([64, 70])),
    num_kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    head_dim=head_dims,
    kept=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    layout=st.tuples(*[st.sampled_from(sorted(LAYOUTS_OF_PADDED))] * 4),
    is_keep_strided=st.booleans(),
    seed=seeds,
)
def test_masked_attention(
    dtype: torch.dtype,
    batch_size: int,
    seq_len: int,
    num_kv_heads: int,
    group: int,
    head_dim: int,
    kept: float,
    layout: tuple[str, ...],
    is_keep_strided: bool,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    keep = torch.rand(batch_size, seq_len, generator=generator) < kept
    num_heads = num_kv_heads * group
    tensors = []
    for heads, name in zip([num_heads, num_kv_heads, num_kv_heads, num_heads], layout, strict=True):
        x = torch.randn(batch_size, heads, seq_len, head_dim, generator=generator).to(dtype)
        if name != "one_token":  # its first sequence stands for all, whichever tokens those keep
            x.transpose(1, 2)[~keep] = torch.nan
        tensors.append(LAYOUTS_OF_PADDED[name](x))
    if is_keep_strided:
        keep = keep.repeat_interleave(2, dim=1)[:, ::2]
    *qkv, grad_out = tensors
    leaves = [x.detach().requires_grad_() for x in qkv]
    out = masked_attention(*leaves, keep)
    padded = out.detach(), *torch.autograd.grad(out, leaves, grad_out)
    for x in padded:
        assert not x.transpose(1, 2)[~keep].any()

    offsets = cu_seqlens_of(keep.sum(1).tolist())
    q, k, v, grad = (x.detach().transpose(1, 2)[keep] for x in (*qkv, grad_out))
    inputs = AttentionInputs(q, k, v, offsets, offsets, head_dim**-0.5, grad, None)
    out, dq, dk, dv = (x.transpose(1, 2)[keep] for x in padded)
    assert_right(inputs, AttentionResults(out, exact_attention(inputs).lse.float(), dq, dk, dv))
