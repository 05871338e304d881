"""torch.compile with fullgraph and dynamic shapes: the bits of eager, one compilation for every length."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils import _pytree

from lsm2_kernels import Packing, masked_attention, pack, unpack, varlen_attention, varlen_attention_qkvpacked
from lsm2_kernels.testing import make_qkv, random_lengths

# No size may equal another by accident, lest the compiler takes them for one and compiles again: heads 3,
# head dim 16, N from 6, T from 60.
NUM_CALLS = 4


def varlen(q, k, v, cu_seqlens):
    return varlen_attention(q, k, v, cu_seqlens, return_lse=True)


def cross(q, k, v, cu_seqlens):
    return varlen_attention(q * 2, k, v, cu_seqlens, cu_seqlens.clone(), scale=0.5)


def qkvpacked(q, k, v, cu_seqlens):
    return varlen_attention_qkvpacked(torch.stack((q, k, v), dim=1), cu_seqlens) + 1


def pack_and_unpack(x, packing, fill):
    return unpack(pack(x, packing) * 2, packing, fill=fill)


def from_mask_with_capacity(x, keep, fill):
    packing = Packing.from_mask(keep, capacity=x.shape[0] * x.shape[1])
    return pack_and_unpack(x, packing, fill), packing


def from_mask(x, keep, fill):
    packing = Packing.from_mask(keep)
    return pack_and_unpack(x, packing, fill), packing.num_kept


def packed_arguments(call: int, device: torch.device):
    inputs = make_qkv(random_lengths(6 + call, 10, 40, seed=call), num_heads=3, head_dim=16, device=device)
    return *(x.requires_grad_() for x in (inputs.q, inputs.k, inputs.v)), inputs.cu_seqlens_q


def padded_arguments(call: int, device: torch.device):
    batch_size, seq_len = 5 + call, 20 + 7 * call
    qkv = (torch.randn(batch_size, 3, seq_len, 16, device=device, requires_grad=True) for _ in range(3))
    return *qkv, torch.rand(batch_size, seq_len, device=device) < 0.5


def packing_arguments(call: int, device: torch.device):
    x = torch.randn(5 + call, 20 + 7 * call, 16, device=device, requires_grad=True)
    keep = torch.rand(x.shape[:2], device=device) < 0.5
    return x, keep, torch.randn(16, device=device, requires_grad=True)


def given_packing_arguments(call: int, device: torch.device):
    x, keep, fill = packing_arguments(call, device)
    return x, Packing.from_mask(keep), fill


CASES = {
    "varlen": (varlen, packed_arguments),
    "cross": (cross, packed_arguments),
    "qkvpacked": (qkvpacked, packed_arguments),
    "masked": (masked_attention, padded_arguments),
    "given_packing": (pack_and_unpack, given_packing_arguments),
    "from_mask_with_capacity": (from_mask_with_capacity, packing_arguments),
    "from_mask": (from_mask, packing_arguments),
}


def tensors(tree: object) -> list[torch.Tensor]:
    return [leaf for leaf in _pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def results_and_gradients(function, arguments) -> list[torch.Tensor]:
    results = tensors(function(*arguments))
    differentiable = [x for x in results if x.requires_grad]
    leaves = [x for x in tensors(arguments) if x.requires_grad]
    return results + list(
        torch.autograd.grad(differentiable, leaves, [torch.ones_like(x) for x in differentiable])
    )


@pytest.mark.parametrize("case", CASES)
def test_compiles_once_for_all_lengths(device, case):
    function, make_arguments = CASES[case]
    torch.manual_seed(0)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=counter)
    for call in range(NUM_CALLS):
        arguments = make_arguments(call, device)
        for actual, expected in zip(
            results_and_gradients(compiled, arguments),
            results_and_gradients(function, arguments),
            strict=True,
        ):
            assert torch.equal(actual, expected)
    assert counter.frame_count == 1


def test_compiles_under_autocast(device):
    compiled = torch.compile(varlen, fullgraph=True, dynamic=True, backend="aot_eager")
    q, k, v, cu_seqlens = packed_arguments(0, device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        out, lse = compiled(q, k, v, cu_seqlens)
        expected = varlen(q, k, v, cu_seqlens)
    assert out.dtype == torch.bfloat16 and out.equal(expected[0]) and lse.equal(expected[1])


def test_inductor(device):
    """The default backend, with the kernels between generated code on both sides."""
    compiled = torch.compile(qkvpacked, fullgraph=True, dynamic=True)
    for call in range(2):
        arguments = packed_arguments(call, device)
        for actual, expected in zip(
            results_and_gradients(compiled, arguments),
            results_and_gradients(qkvpacked, arguments),
            strict=True,
        ):
            torch.testing.assert_close(actual, expected)


def test_wrong_offsets_raise_when_compiled():
    """The check in the op itself is left; only on a CPU, as a GPU would have to be waited for."""
    compiled = torch.compile(varlen, fullgraph=True, dynamic=True, backend="aot_eager")
    q, k, v, cu_seqlens = packed_arguments(0, torch.device("cpu"))
    with pytest.raises(RuntimeError, match="cu_seqlens"):
        compiled(q, k, v, cu_seqlens + 1)


def test_too_small_capacity_raises_when_compiled():
    compiled = torch.compile(
        lambda keep: Packing.from_mask(keep, capacity=3), fullgraph=True, backend="aot_eager"
    )
    assert compiled(torch.tensor([[True, False, True], [False, False, True]])).indices.tolist() == [0, 2, 5]
    with pytest.raises(RuntimeError, match="capacity"):
        compiled(torch.ones(2, 3, dtype=torch.bool))
