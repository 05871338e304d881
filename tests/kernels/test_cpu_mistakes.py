"""The compiled CPU ops refuse wrong masks, offsets, tensors and instruction sets, whoever calls them."""

import pytest
import torch
from torch import Tensor

from lsm2_kernels import _ops
from lsm2_kernels.testing import cu_seqlens_of, make_qkv

from .conftest import supported_instruction_sets

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(
        _ops.cpu_library is None,
        reason=f"{_ops.why_no_cpu_library} (test_build.py fails where a compiler is present)",
    ),
]


def test_wrong_masks_are_refused() -> None:
    q = torch.randn(2, 4, 5, 8)
    for keep in (torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 5), torch.ones(10, dtype=torch.bool)):
        with pytest.raises(RuntimeError, match=r"keep must be bool of shape \(2, 5\)"):
            _ops.masked_attention(q, q, q, keep, 1.0)
    keep = torch.ones(2, 5, dtype=torch.bool)
    for k in (q[:1], q[:, :, :3], q[:, :3], q[..., :4], q.half()):
        with pytest.raises(RuntimeError, match=r"k has|key heads|dtype of q"):
            _ops.masked_attention(q, k, k, keep, 1.0)


@pytest.mark.parametrize(
    ("offsets", "complaint"),
    [
        (torch.tensor([1, 10]), "start with 0"),
        (torch.tensor([0, 8, 5, 10]), "must not decrease"),
        (torch.tensor([-3, 0, 10]), "must not decrease"),
        (torch.tensor([0, 11]), "only 10 tokens"),
        (torch.tensor([0, 2**40]), "only 10 tokens"),
        (torch.tensor([0.0, 10.0]), "int32 or int64"),
        (torch.tensor([[0, 10]]), "shape"),
        (torch.tensor([], dtype=torch.int32), "shape"),
    ],
    ids=["not from 0", "decreasing", "negative", "beyond the end", "far beyond", "floats", "2-d", "empty"],
)
def test_wrong_offsets_are_refused(offsets: Tensor, complaint: str) -> None:
    x = make_qkv([10], head_dim=8)
    good = x.cu_seqlens_q
    out, lse = _ops.varlen_attention(x.q, x.k, x.v, good, good, x.scale)
    qkv = torch.stack([x.q, x.k, x.v], dim=1)
    for pair in ((offsets, good), (good, offsets)):
        with pytest.raises(RuntimeError, match=complaint):
            _ops.varlen_attention(x.q, x.k, x.v, *pair, x.scale)
        with pytest.raises(RuntimeError, match=complaint):
            _ops.varlen_attention_backward(x.grad_out, None, x.q, x.k, x.v, out, lse, *pair, x.scale)
    with pytest.raises(RuntimeError, match=complaint):
        _ops.varlen_attention_qkvpacked(qkv, offsets, x.scale)
    with pytest.raises(RuntimeError, match=complaint):
        _ops.varlen_attention_qkvpacked_backward(x.grad_out, None, qkv, out, lse, offsets, x.scale)


def test_wrong_tensors_are_refused() -> None:
    x = make_qkv([10], num_heads=4, head_dim=8)
    cu = x.cu_seqlens_q

    def refused(match: str, q: Tensor, k: Tensor, v: Tensor, cu_k: Tensor = cu) -> None:
        with pytest.raises(RuntimeError, match=match):
            _ops.varlen_attention(q, k, v, cu, cu_k, 1.0)

    refused("names 1 sequences and cu_seqlens_k 2", x.q, x.k, x.v, cu_seqlens_of([5, 5]))
    refused("float32, bfloat16 or float16", x.q.double(), x.k.double(), x.v.double())
    refused("k must have the dtype of q", x.q, x.k.half(), x.v)
    refused("v has shape", x.q, x.k, x.v[:, :2])
    refused("multiple of 3", x.q, x.k[:, :3], x.v[:, :3])
    refused("multiple of 8", x.q[..., :4], x.k[..., :4], x.v[..., :4])
    refused("k has head dim", torch.randn(10, 4, 16), x.k, x.v)
    out, lse = _ops.varlen_attention(x.q, x.k, x.v, cu, cu, 1.0)
    for name, wrong in (("grad_out", x.grad_out[:5]), ("lse", lse[:, :5])):
        arguments = {"grad_out": x.grad_out, "lse": lse} | {name: wrong}
        with pytest.raises(RuntimeError, match=name):
            _ops.varlen_attention_backward(
                arguments["grad_out"], None, x.q, x.k, x.v, out, arguments["lse"], cu, cu, 1.0
            )


def test_instruction_sets_this_machine_lacks_are_refused() -> None:
    supported = {_ops.INSTRUCTION_SETS.index(name) for name in supported_instruction_sets()}
    for number in (-2, 99, *(set(range(len(_ops.INSTRUCTION_SETS))) - supported)):
        with pytest.raises(RuntimeError, match="no kernels for instruction set"):
            torch.ops.lsm2_kernels._cpu_instruction_set(number)
    assert 0 in supported
