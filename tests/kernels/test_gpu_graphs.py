"""CUDA graphs replay forward and backward with other masks and offsets, and nothing waits for the device."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from lsm2_kernels import Packing, masked_attention, pack, unpack, varlen_attention, varlen_attention_qkvpacked
from lsm2_kernels.testing import cu_seqlens_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use"),
]

GPU = torch.device("cuda")


def packed_step(x: Tensor, keep: Tensor, fill: Tensor, grad: Tensor) -> list[Tensor]:
    """From qkv (B, N, 3, H, D) by packing with capacity to (B, N, H, D), and the gradients."""
    packing = Packing.from_mask(keep, capacity=x.shape[0] * x.shape[1] // 2)
    out = unpack(varlen_attention_qkvpacked(pack(x, packing), packing.cu_seqlens), packing, fill=fill)
    return [out.detach(), *torch.autograd.grad(out, (x, fill), grad), packing.num_kept]


def masked_step(x: Tensor, keep: Tensor, fill: Tensor, grad: Tensor) -> list[Tensor]:
    """The same by masked_attention."""
    out = masked_attention(*x.permute(2, 0, 3, 1, 4), keep).transpose(1, 2) + fill
    return [out.detach(), *torch.autograd.grad(out, (x, fill), grad)]


def varlen_step(x: Tensor, cu_seqlens: Tensor, fill: Tensor, grad: Tensor) -> list[Tensor]:
    """varlen_attention of all B * N rows, cut into sequences by cu_seqlens."""
    out = varlen_attention(*x.flatten(0, 1).unbind(1), cu_seqlens).view_as(grad) + fill
    return [out.detach(), *torch.autograd.grad(out, (x, fill), grad)]


def step_arguments(batch_size: int = 4, seq_len: int = 700) -> tuple[Tensor, Tensor, Tensor]:
    """x, fill and grad of a step."""
    shapes = (batch_size, seq_len, 3, 2, 64), (2, 64), (batch_size, seq_len, 2, 64)
    x, fill, grad = (torch.randn(shape, device=GPU, dtype=torch.bfloat16) for shape in shapes)
    return x.requires_grad_(), fill.requires_grad_(), grad


def masks() -> Iterator[Tensor]:
    """keep (4, 700): few, many, none at all, one sequence empty, and more than the capacity of half."""
    draw = torch.rand(4, 700, generator=torch.Generator().manual_seed(0))
    yield from (
        draw < 0.1,
        draw < 0.45,
        draw < 0,
        draw < torch.tensor([0.0, 0.5, 0.9, 0.1])[:, None],
        draw < 0.8,
    )


def offsets() -> Iterator[Tensor]:
    """cu_seqlens of 4 sequences in 2800 rows: equal, unequal, with empty ones, with rows past the end."""
    yield from (
        cu_seqlens_of(lengths)
        for lengths in ([700] * 4, [1, 2700, 64, 35], [0, 0, 2800, 0], [63, 65, 0, 128], [0] * 4)
    )


STEPS = {"packed": (packed_step, masks), "masked": (masked_step, masks), "varlen": (varlen_step, offsets)}


@pytest.mark.parametrize("kind", STEPS)
def test_graph_replays_equal_eager(kind):
    """Forward and backward captured once; the mask or the offsets are rewritten in place between replays."""
    step, values = STEPS[kind]
    x, fill, grad = step_arguments()
    static = next(values()).to(GPU)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(x, static, fill, grad)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(x, static, fill, grad)
    for turn, value in enumerate([*values(), *values()]):
        static.copy_(value)
        graph.replay()
        replayed = [result.clone() for result in captured]
        for actual, expected in zip(replayed, step(x, value.to(GPU), fill, grad), strict=True):
            assert torch.equal(actual, expected), turn


@pytest.mark.parametrize("kind", STEPS)
def test_nobody_waits_for_the_device(kind):
    step, values = STEPS[kind]
    x, fill, grad = step_arguments()
    static = next(values()).to(GPU)
    step(x, static, fill, grad)  # compiles and loads the kernels
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(x, static, fill, grad)
    finally:
        torch.cuda.set_sync_debug_mode("default")
