"""torch.library.opcheck of every op: schema, derivatives, shapes without data, symbolic sizes."""

import pytest
import torch

from lsm2_kernels import _ops
from lsm2_kernels.testing import cu_seqlens_of, make_qkv


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["self", "cross_gqa"])
def test_attention(device, kind, dtype):
    arguments = {"self": {}, "cross_gqa": {"lengths_k": [2, 4, 0, 6], "num_kv_heads": 2}}[kind]
    inputs = make_qkv([3, 0, 5, 1], num_heads=4, head_dim=8, device=device, dtype=dtype, **arguments)
    qkv = inputs.q, inputs.k, inputs.v
    rest = inputs.cu_seqlens_q, inputs.cu_seqlens_k, inputs.scale
    torch.library.opcheck(_ops.varlen_attention, (*(x.clone().requires_grad_() for x in qkv), *rest))
    out, lse = _ops.varlen_attention(*qkv, *rest)
    for grad_lse in (inputs.grad_lse, None):
        torch.library.opcheck(
            _ops.varlen_attention_backward, (inputs.grad_out, grad_lse, *qkv, out, lse, *rest)
        )


def test_strided_attention(device):
    offsets = cu_seqlens_of([3, 6], device=device)
    q, k, v = torch.randn(9, 3, 2, 8, device=device).unbind(1)
    torch.library.opcheck(
        _ops.varlen_attention, (*(x.requires_grad_() for x in (q, k, v)), offsets, offsets, 0.3)
    )


def test_qkvpacked(device):
    offsets = cu_seqlens_of([3, 0, 6], device=device)
    qkv = torch.randn(9, 3, 2, 8, device=device)
    torch.library.opcheck(_ops.varlen_attention_qkvpacked, (qkv.clone().requires_grad_(), offsets, 0.3))
    out, lse = _ops.varlen_attention_qkvpacked(qkv, offsets, 0.3)
    for grad_lse in (torch.randn_like(lse), None):
        torch.library.opcheck(
            _ops.varlen_attention_qkvpacked_backward,
            (torch.randn_like(out), grad_lse, qkv, out, lse, offsets, 0.3),
        )


def test_masked(device):
    q, k, v = (
        torch.randn(2, 4, 5, 8, device=device),
        *torch.randn(2, 2, 5, 2, 8, device=device).transpose(2, 3),
    )
    keep = torch.tensor([[True, False, True, True, False], [False] * 5], device=device)
    torch.library.opcheck(
        _ops.masked_attention, (*(x.clone().requires_grad_() for x in (q, k, v)), keep, 0.3)
    )
    out, lse = _ops.masked_attention(q, k, v, keep, 0.3)
    for grad_lse in (torch.randn_like(lse), None):
        torch.library.opcheck(
            _ops.masked_attention_backward, (torch.randn_like(out), grad_lse, q, k, v, keep, out, lse, 0.3)
        )


@pytest.mark.parametrize("trailing", [(4,), (2, 8)], ids=str)
def test_pack_and_unpack(device, trailing):
    indices = torch.tensor([0, 3, 9, 10], device=device)
    x, rows, fill = (
        torch.randn(*shape, device=device, requires_grad=True)
        for shape in ((10, *trailing), (4, *trailing), trailing)
    )
    torch.library.opcheck(_ops.pack, (x, indices))
    torch.library.opcheck(_ops.unpack, (rows, indices, None, 10))
    torch.library.opcheck(_ops.unpack, (rows, indices, fill, 10))
