"""One problem of attention, the ways of computing it, ours among them, and the check of the others."""

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.measure.agreement import assert_same, try_each
from lsm2_kernels import _ops, varlen_attention_qkvpacked
from lsm2_kernels.testing import cu_seqlens_of

Call = Callable[[], Any]
NUM_HEADS = 6
OURS = "ours"
DIRECTIONS = FORWARD, BOTH = "forward", "forward+backward"
REFERENCE = "reference"
"""The level where no kernels are compiled."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 5e-3}
"""Norm of a difference over that of the result; out and each of q's, k's and v's gradients are held to it."""


class NotApplicable(Exception):
    """The way is not meant for such lengths."""


@dataclass(frozen=True)
class Problem:
    """Sequences of these lengths: packed qkv (T, 3, H, D), and the gradient (T, H, D) of the output.

    The other layouts that ways like are made once, when the first way asks for one.
    """

    lengths: list[int]
    qkv: Tensor
    grad: Tensor

    @classmethod
    def random(
        cls,
        lengths: list[int],
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        num_heads: int = NUM_HEADS,
    ) -> Self:
        """Standard normal numbers, drawn on the device."""
        draw = functools.partial(
            torch.randn, generator=torch.Generator(device).manual_seed(0), device=device, dtype=dtype
        )
        qkv = draw((sum(lengths), 3, num_heads, head_dim))
        return cls(lengths, qkv, draw(qkv[:, 0].shape))

    @cached_property
    def cu_seqlens(self) -> Tensor:
        """(N + 1,) int32."""
        return cu_seqlens_of(self.lengths, device=self.qkv.device)

    @cached_property
    def apart(self) -> list[Tensor]:
        """q, k and v (T, H, D), each contiguous."""
        return [x.contiguous() for x in self.qkv.unbind(1)]

    @cached_property
    def padded(self) -> list[Tensor]:
        """q, k, v and grad (B, H, N, D), the heads of a token side by side in memory."""
        return [self.pad(x).transpose(1, 2) for x in (*self.qkv.unbind(1), self.grad)]

    @cached_property
    def keep(self) -> Tensor:
        """(B, N) bool: which rows of the padded batch are there."""
        return self.key_mask()[:, 0, 0]

    def pad(self, packed: Tensor) -> Tensor:
        """(T, ...) -> (B, N, ...), padded with zeros."""
        return pad_sequence(list(packed.split(self.lengths)), batch_first=True)

    def unpad(self, padded: Tensor) -> Tensor:
        """(B, N, ...) -> (T, ...)."""
        return padded[self.keep]

    def longest(self) -> int:
        """The longest length, as it must be found from cu_seqlens."""
        return int(self.cu_seqlens.diff().max())

    def key_mask(self) -> Tensor:
        """(B, 1, 1, N) bool, as it must be made from cu_seqlens."""
        lengths = self.cu_seqlens.diff()
        return (torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None])[:, None, None, :]


@dataclass(frozen=True)
class Way:
    """One way of computing the attention of a problem, from tensors that lie in the layout it likes best."""

    forward: Call
    """-> out, in the way's own layout."""
    forward_and_backward: Call | None
    """-> the gradient of qkv, in the way's own layout; None where there is no backward pass."""
    to_packed: Callable[[Any], Tensor]
    """Either of these results -> (T, H, D) or (T, 3, H, D)."""
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

    def result(self, *, backward: bool) -> Tensor:
        """(T, H, D) or (T, 3, H, D)."""
        with self.context():
            return self.to_packed(self.call(backward=backward)())


def torch_way(
    attend: Callable[..., Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad: Tensor,
    to_packed: Callable[[Tensor], Tensor] = lambda x: x,
    metadata: Call | None = None,
    context: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Way:
    """A way that torch differentiates: `attend` takes qkv, or q, k and v, to out.

    `to_packed` takes out, and each gradient, from the way's layout to (T, H, D), or (T, 3, H, D) for that of
    qkv.
    """
    tensors = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    leaves = [x.detach().requires_grad_() for x in tensors]

    def pack(result: Tensor | tuple[Tensor, ...]) -> Tensor:
        parts = [to_packed(x) for x in ([result] if isinstance(result, Tensor) else result)]
        return parts[0] if len(parts) == 1 else torch.stack(parts, 1)

    return Way(
        lambda: attend(*tensors),
        lambda: torch.autograd.grad(attend(*leaves), leaves, grad),
        pack,
        metadata,
        context,
    )


def ours(problem: Problem) -> Way:
    """Packed qkv (T, 3, H, D) -> out (T, H, D) by this package."""
    cu_seqlens = problem.cu_seqlens
    return torch_way(lambda qkv: varlen_attention_qkvpacked(qkv, cu_seqlens), problem.qkv, problem.grad)


def set_level(level: str) -> None:
    """Let the CPU kernels use this instruction set."""
    if level != REFERENCE:
        torch.ops.lsm2_kernels._cpu_instruction_set(_ops.INSTRUCTION_SETS.index(level))


def at_level(level: str, call: Call) -> Call:
    """The call with the CPU kernels of this instruction set."""

    def run() -> Any:
        set_level(level)
        return call()

    return run


def enter(
    makers: Mapping[str, Callable[[Problem], Way]], problem: Problem, our_way: Way, *, backward: bool
) -> tuple[dict[str, Way], dict[str, str]]:
    """The peers that give what ours does, and what is wrong with others; not those not applicable."""

    def checked(make: Callable[[Problem], Way]) -> Way | None:
        try:
            peer = make(problem)
        except NotApplicable:
            return None
        check(peer, our_way, problem.qkv.dtype, backward=backward)
        return peer

    peers, errors = try_each({name: functools.partial(checked, make) for name, make in makers.items()})
    return {name: peer for name, peer in peers.items() if peer is not None}, errors


def check(peer: Way, our_way: Way, dtype: torch.dtype, *, backward: bool) -> None:
    """Raise AssertionError unless the peer's result is ours, to the dtype's tolerance."""
    theirs, expected = peer.result(backward=backward), our_way.result(backward=backward)
    assert theirs.shape == expected.shape, f"the result has shape {tuple(theirs.shape)}"
    parts = zip(theirs.unbind(1), expected.unbind(1), strict=True) if backward else [(theirs, expected)]
    for actual, wanted in parts:
        assert_same(actual, wanted, TOLERANCES[dtype], "a gradient" if backward else "out")
