"""Ours and what people use now: ways of computing the same attention from the same numbers, with torch alone.

- `ours`: `varlen_attention_qkvpacked` on (T, 3, H, D);
- `sdpa_split`: torch's scaled_dot_product_attention once per sequence, the sequences cut by `qkv.split(lengths)`;
- `sdpa_padded`: one call on the batch padded to its longest sequence, already padded for free, with a broadcast (B, 1, 1, N) key mask
  where lengths differ;
- `torch_varlen`: torch.nn.attention.varlen.varlen_attn, on a GPU (it has no CPU kernel).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence

from benchmarks.measure.agreement import try_each
from lsm2_kernels import _ops, varlen_attention_qkvpacked
from lsm2_kernels.testing import cu_seqlens_of

Call = Callable[[], Any]
NUM_HEADS = 6
OURS = "ours"
DIRECTIONS = FORWARD, BOTH = "forward", "forward+backward"
REFERENCE = "reference"
"""The level where no kernels are compiled."""
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}


@dataclass(frozen=True)
class Problem:
    """Sequences of these lengths: packed qkv (T, 3, H, D), and the gradient (T, H, D) of the output."""

    lengths: list[int]
    qkv: torch.Tensor
    grad: torch.Tensor

    @classmethod
    def random(
        cls,
        sequence_lengths: list[int],
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        num_heads: int = NUM_HEADS,
    ) -> Self:
        """Standard normal numbers, drawn on the device."""
        generator = torch.Generator(device).manual_seed(0)
        shape = sum(sequence_lengths), 3, num_heads, head_dim
        qkv = torch.randn(shape, generator=generator, device=device, dtype=dtype)
        return cls(sequence_lengths, qkv, torch.randn(qkv[:, 0].shape, generator=generator, device=device, dtype=dtype))

    @cached_property
    def cu_seqlens(self) -> torch.Tensor:
        """(N + 1,) int32."""
        return cu_seqlens_of(self.lengths, device=self.qkv.device)

    @cached_property
    def keep(self) -> torch.Tensor:
        """(B, N) bool: which rows of the padded batch are there."""
        lengths = torch.tensor(self.lengths, device=self.qkv.device)
        return torch.arange(max(self.lengths), device=self.qkv.device)[None] < lengths[:, None]

    def pad(self, packed: torch.Tensor) -> torch.Tensor:
        """(T, ...) -> (B, N, ...), padded with zeros."""
        return pad_sequence(list(packed.split(self.lengths)), batch_first=True)

    def unpad(self, padded: torch.Tensor) -> torch.Tensor:
        """(B, N, ...) -> (T, ...)."""
        return padded[self.keep]


@dataclass(frozen=True)
class Way:
    """One way of computing the attention of a problem, from tensors that lie in the layout it likes best."""

    forward: Call
    """-> out, in the way's own layout."""
    forward_and_backward: Call | None
    """-> the gradient of qkv, in the way's own layout; None where there is no backward pass."""
    to_packed: Callable[[Any], torch.Tensor]
    """Either of these results -> (T, H, D) or (T, 3, H, D)."""
    preparation: str = ""
    """What was computed once per batch before, and how long that took."""
    metadata: Call | None = None
    """Computes anew, from the lengths alone, what every batch needs before; None where that is nothing."""
    context: Callable[[], AbstractContextManager[object]] = nullcontext
    """What a call must run in; entered before the clock starts."""

    def call(self, *, backward: bool) -> Call:
        """What is timed: the forward pass alone, or forward and backward."""
        if not backward:
            return self.forward
        if self.forward_and_backward is None:
            raise NotImplementedError("no backward pass")
        return self.forward_and_backward


def torch_way(
    attend: Callable[[torch.Tensor], torch.Tensor],
    qkv: torch.Tensor,
    grad: torch.Tensor,
    to_packed: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
) -> Way:
    """A way that torch differentiates: `attend` takes qkv to out, both in the layout that `to_packed` takes apart."""
    leaf = qkv.detach().requires_grad_()
    return Way(lambda: attend(qkv), lambda: torch.autograd.grad(attend(leaf), leaf, grad)[0], to_packed)


def ours(problem: Problem) -> Way:
    """Packed qkv (T, 3, H, D) -> out (T, H, D) by this package."""
    cu_seqlens = problem.cu_seqlens
    return torch_way(lambda qkv: varlen_attention_qkvpacked(qkv, cu_seqlens), problem.qkv, problem.grad)


def at_level(level: str, call: Call) -> Call:
    """The call with the CPU kernels of this instruction set."""
    if level == REFERENCE:
        return call
    number = _ops.INSTRUCTION_SETS.index(level)

    def run() -> Any:
        torch.ops.lsm2_kernels._cpu_level(number)
        return call()

    return run


def sdpa_split(problem: Problem) -> Way:
    """Packed qkv (T, 3, H, D) -> out (T, H, D), one SDPA call per sequence."""

    def attend(qkv: torch.Tensor) -> torch.Tensor:
        outs = []
        for part in qkv.split(problem.lengths):
            q, k, v = part.permute(1, 2, 0, 3).unsqueeze(1)  # each (1, H, n, D)
            outs.append(scaled_dot_product_attention(q, k, v)[0].transpose(0, 1))
        return torch.cat(outs)

    return torch_way(attend, problem.qkv, problem.grad)


def sdpa_padded(problem: Problem) -> Way:
    """Padded qkv (B, N, 3, H, D) -> out (B, N, H, D), one SDPA call with a key mask; without one where all lengths are equal."""
    key_mask = problem.keep[:, None, None, :] if len(set(problem.lengths)) > 1 else None

    def attend(qkv: torch.Tensor) -> torch.Tensor:
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return scaled_dot_product_attention(q, k, v, attn_mask=key_mask).transpose(1, 2)

    return torch_way(attend, problem.pad(problem.qkv), problem.pad(problem.grad), problem.unpad)


def torch_varlen(problem: Problem) -> Way:
    """Packed qkv (T, 3, H, D) -> out (T, H, D) by torch's own variable-length attention."""
    from torch.nn.attention.varlen import varlen_attn

    cu_seqlens, longest = problem.cu_seqlens, max(problem.lengths)

    def attend(qkv: torch.Tensor) -> torch.Tensor:
        q, k, v = qkv.unbind(1)
        out = varlen_attn(q, k, v, cu_seqlens, cu_seqlens, longest, longest)
        assert isinstance(out, torch.Tensor)
        return out

    return torch_way(attend, problem.qkv, problem.grad)


def enter(
    makers: Mapping[str, Callable[[Any], Way]], problem: Problem, our_way: Way, *, backward: bool
) -> tuple[dict[str, Way], dict[str, str]]:
    """The peers that give what ours does, and of the others what is wrong."""

    def checked(make: Callable[[Any], Way]) -> Way:
        peer = make(problem)
        check(peer, our_way, problem.qkv.dtype, backward=backward)
        return peer

    return try_each({name: functools.partial(checked, make) for name, make in makers.items()})


def check(peer: Way, our_way: Way, dtype: torch.dtype, *, backward: bool) -> None:
    """Raise AssertionError unless the peer's result is ours, to the dtype's tolerance."""
    tolerance = TOLERANCES[dtype]
    theirs, expected = (way.to_packed(way.call(backward=backward)()) for way in (peer, our_way))
    torch.testing.assert_close(theirs, expected, atol=tolerance, rtol=tolerance)
