"""How fast is packed attention against what people use now?

Ours is `varlen_attention_qkvpacked` on (T, 3, H, D). Peers compute the same result from the same numbers:
- `sdpa_split`: torch's scaled_dot_product_attention once per sequence, the sequences cut by `qkv.split(lengths)`;
- `sdpa_padded`: one call on the batch padded to its longest sequence, with a broadcast (B, 1, 1, N) key mask, already padded for free;
- `torch_varlen`: torch.nn.attention.varlen.varlen_attn, on a GPU (it has no CPU kernel).
Every peer is first checked against ours.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence

from benchmarks.lengths import PATTERNS, lengths, useful_flops
from benchmarks.timing import race
from lsm2_kernels import varlen_attention_qkvpacked

NUM_HEADS = 6
Attention = Callable[[torch.Tensor], torch.Tensor]


def offsets(sequence_lengths: list[int], device: torch.device) -> torch.Tensor:
    """cu_seqlens (N + 1,) int32."""
    return torch.tensor([0, *sequence_lengths], device=device).cumsum(0).to(torch.int32)


def sdpa_split(sequence_lengths: list[int]) -> Attention:
    """Packed qkv (T, 3, H, D) -> out (T, H, D), one SDPA call per sequence."""

    def attend(qkv: torch.Tensor) -> torch.Tensor:
        outs = []
        for part in qkv.split(sequence_lengths):
            q, k, v = part.permute(1, 2, 0, 3).unsqueeze(1)  # each (1, H, n, D)
            outs.append(scaled_dot_product_attention(q, k, v)[0].transpose(0, 1))
        return torch.cat(outs)

    return attend


def sdpa_padded(sequence_lengths: list[int], device: torch.device) -> Attention:
    """Padded qkv (B, N, 3, H, D) -> out (B, N, H, D), one SDPA call with a key mask."""
    keep = torch.arange(max(sequence_lengths), device=device)[None] < torch.tensor(sequence_lengths, device=device)[:, None]
    key_mask = keep[:, None, None, :]

    def attend(qkv: torch.Tensor) -> torch.Tensor:
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return scaled_dot_product_attention(q, k, v, attn_mask=key_mask).transpose(1, 2)

    return attend


def torch_varlen(sequence_lengths: list[int], device: torch.device) -> Attention:
    """Packed qkv (T, 3, H, D) -> out (T, H, D) by torch's own variable-length attention."""
    from torch.nn.attention.varlen import varlen_attn

    cu_seqlens, longest = offsets(sequence_lengths, device), max(sequence_lengths)

    def attend(qkv: torch.Tensor) -> torch.Tensor:
        q, k, v = qkv.unbind(1)
        out = varlen_attn(q, k, v, cu_seqlens, cu_seqlens, longest, longest)
        assert isinstance(out, torch.Tensor)
        return out

    return attend


def call(attend: Attention, qkv: torch.Tensor, grad: torch.Tensor, *, backward: bool) -> Callable[[], object]:
    """One timed call: the forward alone, or forward and backward."""
    if not backward:
        return lambda: attend(qkv)
    qkv = qkv.detach().requires_grad_()
    return lambda: torch.autograd.grad(attend(qkv), qkv, grad)


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward+backward"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("head_dim", [64, 32])
@pytest.mark.parametrize("pattern", PATTERNS)
def bench_attention(benchmark, device, pattern, head_dim, dtype, backward):
    on_gpu = device.type == "cuda"
    sequence_lengths = lengths(pattern, batches=32 if on_gpu else 1)
    cu_seqlens = offsets(sequence_lengths, device)
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(sum(sequence_lengths), 3, NUM_HEADS, head_dim, generator=generator).to(device, dtype)
    grad = torch.randn(sum(sequence_lengths), NUM_HEADS, head_dim, generator=generator).to(device, dtype)
    padded_qkv = pad_sequence(list(qkv.split(sequence_lengths)), batch_first=True)
    padded_grad = pad_sequence(list(grad.split(sequence_lengths)), batch_first=True)

    def ours(packed: torch.Tensor) -> torch.Tensor:
        return varlen_attention_qkvpacked(packed, cu_seqlens)

    padded = sdpa_padded(sequence_lengths, device)
    packed_peers = {"sdpa_split": sdpa_split(sequence_lengths)}
    if on_gpu and dtype == torch.bfloat16:
        packed_peers["torch_varlen"] = torch_varlen(sequence_lengths, device)

    expected = ours(qkv)
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-4
    for attend in packed_peers.values():
        torch.testing.assert_close(attend(qkv), expected, atol=tolerance, rtol=tolerance)
    unpadded = torch.cat([row[:n] for row, n in zip(padded(padded_qkv), sequence_lengths, strict=True)])
    torch.testing.assert_close(unpadded, expected, atol=tolerance, rtol=tolerance)

    ways = {name: call(attend, qkv, grad, backward=backward) for name, attend in packed_peers.items()}
    ways["sdpa_padded"] = call(padded, padded_qkv, padded_grad, backward=backward)
    flops = useful_flops(sequence_lengths, NUM_HEADS, head_dim, backward=backward)
    race(benchmark, call(ours, qkv, grad, backward=backward), ways, rounds=20 if on_gpu else 9, useful_flops=flops)
