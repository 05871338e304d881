"""Attention by the ops themselves, without the checks and the autograd of the public functions."""

from dataclasses import fields

import torch

from lsm2_kernels import _ops
from lsm2_kernels.testing import AttentionInputs, AttentionResults


def attend(x: AttentionInputs) -> AttentionResults:
    offsets = x.cu_seqlens_q, x.cu_seqlens_k
    out, lse = _ops.varlen_attention(x.q, x.k, x.v, *offsets, x.scale)
    return AttentionResults(
        out,
        lse,
        *_ops.varlen_attention_backward(x.grad_out, x.grad_lse, x.q, x.k, x.v, out, lse, *offsets, x.scale),
    )


def assert_same_bits(actual: AttentionResults, expected: AttentionResults) -> None:
    for field in fields(AttentionResults):
        a, b = getattr(actual, field.name), getattr(expected, field.name)
        assert torch.equal(a.nan_to_num(nan=12345.0), b.nan_to_num(nan=12345.0)), (
            f"{field.name} differs by {(a - b).abs().max()}"
        )
