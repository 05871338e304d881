"""What people use on a GPU for sequences of different lengths, each called as its documentation says is fastest.

Every way gets its inputs in the layout it likes best, so that no copy is charged to it: ours and flash_attn one tensor (T, 3, H, D), the
others q, k and v apart, SDPA on a padded batch already padded. What must be computed for every new batch is `metadata`, timed apart.

- `torch_varlen`: torch.nn.attention.varlen.varlen_attn; `_fa3`, `_fa4`: with that implementation activated;
- `torch_nested`: SDPA on jagged nested tensors, which takes FlashAttention-2; `_cudnn`: with cuDNN demanded;
- `torch_flex`: compiled FlexAttention on the packed batch with a document mask;
- `sdpa_padded`: one call on the padded batch with a broadcast (B, 1, 1, N) key mask; `_cudnn`: with cuDNN demanded;
- `sdpa_flash`, `sdpa_cudnn`, `sdpa_efficient`, `sdpa_math`: where all lengths are equal, one call without a mask, on that backend;
- `flash_attn`, `flash_attn_3`, `flash_attn_4`, `xformers`, `transformer_engine`: the packages, where they are installed.

torch has no public way to give varlen_attn to cuDNN.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.attention.peers_cpu import compiled_flex
from benchmarks.attention.problem import Call, Problem, Way


class NotApplicable(Exception):
    """The way is not meant for such lengths."""


class GpuProblem(Problem):
    """A problem with the other layouts that ways like; each is made once, when the first way asks for it."""

    @cached_property
    def apart(self) -> list[Tensor]:
        """q, k and v (T, H, D), each contiguous."""
        return [x.contiguous() for x in self.qkv.unbind(1)]

    @cached_property
    def padded(self) -> list[Tensor]:
        """q, k, v and grad (B, H, N, D), the heads of a token side by side in memory."""
        return [self.pad(x).transpose(1, 2) for x in (*self.qkv.unbind(1), self.grad)]

    def longest(self) -> int:
        """The longest length, as it must be found from cu_seqlens."""
        return int(self.cu_seqlens.diff().max())

    def key_mask(self) -> Tensor:
        """(B, 1, 1, N) bool, as it must be made from cu_seqlens."""
        lengths = self.cu_seqlens.diff()
        return (torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None])[:, None, None, :]


def way_of(
    attend: Callable[..., Tensor],
    inputs: list[Tensor],
    grad: Tensor,
    to_packed: Callable[[Tensor], Tensor] = lambda x: x,
    metadata: Call | None = None,
    context: Callable[[], Any] | None = None,
) -> Way:
    """A way that torch differentiates: `attend` takes q, k and v to out; `to_packed` takes any of them, or a gradient, to (T, H, D)."""
    leaves = [x.detach().requires_grad_() for x in inputs]

    def pack(result: Tensor | tuple[Tensor, ...]) -> Tensor:
        return to_packed(result) if isinstance(result, Tensor) else torch.stack([to_packed(x) for x in result], 1)

    way = Way(lambda: attend(*inputs), lambda: torch.autograd.grad(attend(*leaves), leaves, grad), pack, metadata=metadata)
    return way if context is None else Way(way.forward, way.forward_and_backward, pack, metadata=metadata, context=context)


@contextmanager
def _flash_implementation(name: str) -> Iterator[None]:
    from torch.nn import attention

    attention.activate_flash_attention_impl(name)
    try:
        yield
    finally:
        attention.restore_flash_attention_impl()


def torch_varlen(problem: GpuProblem, implementation: str | None = None) -> Way:
    """varlen_attn as every torch from 2.10 on has it: without arguments that came or went since."""
    from torch.nn.attention.varlen import varlen_attn

    cu_seqlens, longest = problem.cu_seqlens, problem.longest()

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = varlen_attn(q, k, v, cu_seqlens, cu_seqlens, longest, longest)
        assert isinstance(out, Tensor)
        return out

    context = None if implementation is None else functools.partial(_flash_implementation, implementation)
    return way_of(attend, problem.apart, problem.grad, metadata=problem.longest, context=context)


def torch_nested(problem: GpuProblem, backend: SDPBackend | None = None) -> Way:
    """Jagged (B, n*, H, D) q, k and v."""
    offsets = problem.cu_seqlens.long()
    shortest, longest = min(problem.lengths), max(problem.lengths)

    def attend(*rows: Tensor) -> Tensor:
        jagged = [torch.nested.nested_tensor_from_jagged(x, offsets, min_seqlen=shortest, max_seqlen=longest).transpose(1, 2) for x in rows]
        return _sdpa(backend, *jagged).transpose(1, 2).values()

    def find_extremes() -> list[int]:
        lengths = problem.cu_seqlens.diff()
        return torch.stack([lengths.min(), lengths.max()]).tolist()

    return way_of(attend, problem.apart, problem.grad, metadata=find_extremes)


def torch_flex(problem: GpuProblem) -> Way:
    """q, k, v (1, H, T, D); a query and a key belong together if their sequences are the same."""
    total, _, _, head_dim = problem.qkv.shape
    device = problem.qkv.device
    create_mask, flex = compiled_flex(problem.qkv.dtype, head_dim, torch.get_num_threads())

    def make_mask() -> Any:
        lengths = problem.cu_seqlens.diff()
        sequence = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths, output_size=total)
        return create_mask(lambda b, h, query, key: sequence[query] == sequence[key], None, None, total, total, device=device)

    block_mask = make_mask()
    inputs = [x.transpose(0, 1).contiguous()[None] for x in problem.apart]
    grad = problem.grad.transpose(0, 1).contiguous()[None]
    return way_of(lambda q, k, v: flex(q, k, v, block_mask=block_mask), inputs, grad, lambda x: x[0].transpose(0, 1), make_mask)


def sdpa_padded(problem: GpuProblem, backend: SDPBackend | None = None) -> Way:
    """One call on the batch padded to its longest sequence; which tokens are there must be known to pad them, too."""
    key_mask = problem.key_mask()
    *inputs, grad = problem.padded
    return way_of(
        lambda q, k, v: _sdpa(backend, q, k, v, attn_mask=key_mask),
        inputs,
        grad,
        lambda x: problem.unpad(x.transpose(1, 2)),
        lambda: problem.key_mask().flatten().nonzero(),
    )


def sdpa_equal(problem: GpuProblem, backend: SDPBackend) -> Way:
    """Where all lengths are equal nothing is padded or masked."""
    if len(set(problem.lengths)) > 1:
        raise NotApplicable("lengths differ")
    *inputs, grad = (x.unflatten(0, (len(problem.lengths), -1)).transpose(1, 2) for x in (*problem.apart, problem.grad))
    return way_of(lambda q, k, v: _sdpa(backend, q, k, v), inputs, grad, lambda x: x.transpose(1, 2).flatten(0, 1))


def flash_attn(problem: GpuProblem) -> Way:
    """The flash-attn package on packed qkv, whose backward needs no concatenation."""
    from flash_attn import flash_attn_varlen_qkvpacked_func

    longest = problem.longest()

    def attend(qkv: Tensor) -> Tensor:
        return flash_attn_varlen_qkvpacked_func(qkv, problem.cu_seqlens, longest)

    leaf = problem.qkv.detach().requires_grad_()
    return Way(
        lambda: attend(problem.qkv),
        lambda: torch.autograd.grad(attend(leaf), leaf, problem.grad)[0],
        lambda x: x,
        metadata=problem.longest,
    )


def flash_varlen(problem: GpuProblem, module: str) -> Way:
    """The packages of FlashAttention-3 and -4, whose function is the same but for what comes after `out`."""
    attention = importlib.import_module(module).flash_attn_varlen_func
    cu_seqlens, longest = problem.cu_seqlens, problem.longest()

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        lengths = {"cu_seqlens_q": cu_seqlens, "cu_seqlens_k": cu_seqlens, "max_seqlen_q": longest, "max_seqlen_k": longest}
        out = attention(q, k, v, **lengths)
        return out[0] if isinstance(out, tuple) else out

    return way_of(attend, problem.apart, problem.grad, metadata=problem.longest)


def transformer_engine(problem: GpuProblem) -> Way:
    """DotProductAttention on (T, H, D), which takes the fastest of its backends, cuDNN's among them; out is (T, H * D)."""
    from transformer_engine.pytorch import DotProductAttention

    _, _, num_heads, head_dim = problem.qkv.shape
    attention = DotProductAttention(num_heads, head_dim, attention_dropout=0.0, qkv_format="thd", attn_mask_type="padding")
    cu_seqlens, longest = problem.cu_seqlens, problem.longest()
    lengths = {"cu_seqlens_q": cu_seqlens, "cu_seqlens_kv": cu_seqlens, "max_seqlen_q": longest, "max_seqlen_kv": longest}
    return way_of(
        lambda q, k, v: attention(q, k, v, **lengths),
        problem.apart,
        problem.grad.flatten(1),
        lambda x: x.view(-1, num_heads, head_dim),
        problem.longest,
    )


def xformers(problem: GpuProblem) -> Way:
    """memory_efficient_attention of (1, T, H, D) with a block-diagonal mask."""
    from xformers.ops import fmha, memory_efficient_attention

    def make_bias() -> Any:
        return fmha.BlockDiagonalMask.from_seqlens(problem.cu_seqlens.diff().tolist(), device=problem.qkv.device)

    bias = make_bias()
    inputs, grad = [x[None] for x in problem.apart], problem.grad[None]
    return way_of(lambda q, k, v: memory_efficient_attention(q, k, v, attn_bias=bias), inputs, grad, lambda x: x[0], make_bias)


def _sdpa(backend: SDPBackend | None, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    if backend is None:
        return scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
    with sdpa_kernel(backend):
        return scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)


PEERS: dict[str, Callable[[GpuProblem], Way]] = {
    "torch_varlen": torch_varlen,
    "torch_varlen_fa3": functools.partial(torch_varlen, implementation="FA3"),
    "torch_varlen_fa4": functools.partial(torch_varlen, implementation="FA4"),
    "flash_attn": flash_attn,
    "flash_attn_3": functools.partial(flash_varlen, module="flash_attn_interface"),
    "flash_attn_4": functools.partial(flash_varlen, module="flash_attn.cute"),
    "xformers": xformers,
    "transformer_engine": transformer_engine,
    "torch_nested": torch_nested,
    "sdpa_flash": functools.partial(sdpa_equal, backend=SDPBackend.FLASH_ATTENTION),
    "sdpa_cudnn": functools.partial(sdpa_equal, backend=SDPBackend.CUDNN_ATTENTION),
    "sdpa_efficient": functools.partial(sdpa_equal, backend=SDPBackend.EFFICIENT_ATTENTION),
    "sdpa_math": functools.partial(sdpa_equal, backend=SDPBackend.MATH),
    "sdpa_padded": sdpa_padded,
    "sdpa_padded_cudnn": functools.partial(sdpa_padded, backend=SDPBackend.CUDNN_ATTENTION),
    "torch_flex": torch_flex,
    "torch_nested_cudnn": functools.partial(torch_nested, backend=SDPBackend.CUDNN_ATTENTION),
}
SLOW_TO_COMPILE = "torch_flex"
LEAST_TRIED = "torch_nested_cudnn"
"""Should a way end in an illegal access, which no later call on the GPU survives, it is this one."""
