"""Packages with attention for packed sequences on a GPU; each is imported when it is used."""

# pyright: reportMissingImports=false

import importlib
from typing import Any

from torch import Tensor

from benchmarks.attention.problem import Problem, Way, torch_way


def flash_attn(problem: Problem) -> Way:
    """The flash-attn package on packed qkv, whose backward needs no concatenation."""
    from flash_attn import flash_attn_varlen_qkvpacked_func

    longest = problem.longest()
    return torch_way(
        lambda qkv: flash_attn_varlen_qkvpacked_func(qkv, problem.cu_seqlens, longest),
        problem.qkv,
        problem.grad,
        metadata=problem.longest,
    )


def flash_varlen(problem: Problem, module: str) -> Way:
    """The packages of FlashAttention-3 and -4, whose function is the same but for what comes after `out`."""
    attention = importlib.import_module(module).flash_attn_varlen_func
    cu_seqlens, longest = problem.cu_seqlens, problem.longest()

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        offsets = {"cu_seqlens_q": cu_seqlens, "cu_seqlens_k": cu_seqlens}
        out = attention(q, k, v, **offsets, max_seqlen_q=longest, max_seqlen_k=longest)
        return out[0] if isinstance(out, tuple) else out

    return torch_way(attend, problem.apart, problem.grad, metadata=problem.longest)


def transformer_engine(problem: Problem) -> Way:
    """DotProductAttention on (T, H, D), which takes the fastest of its backends; out is (T, H * D)."""
    from transformer_engine.pytorch import DotProductAttention

    _, _, num_heads, head_dim = problem.qkv.shape
    attention = DotProductAttention(
        num_heads, head_dim, attention_dropout=0.0, qkv_format="thd", attn_mask_type="padding"
    )
    cu_seqlens, longest = problem.cu_seqlens, problem.longest()
    offsets = {"cu_seqlens_q": cu_seqlens, "cu_seqlens_kv": cu_seqlens}
    return torch_way(
        lambda q, k, v: attention(q, k, v, **offsets, max_seqlen_q=longest, max_seqlen_kv=longest),
        problem.apart,
        problem.grad.flatten(1),
        lambda x: x.view(-1, num_heads, head_dim),
        problem.longest,
    )


def xformers(problem: Problem) -> Way:
    """memory_efficient_attention of (1, T, H, D) with a block-diagonal mask."""
    from xformers.ops import fmha, memory_efficient_attention

    def make_bias() -> Any:
        return fmha.BlockDiagonalMask.from_seqlens(
            problem.cu_seqlens.diff().tolist(), device=problem.qkv.device
        )

    bias = make_bias()
    inputs, grad = [x[None] for x in problem.apart], problem.grad[None]
    return torch_way(
        lambda q, k, v: memory_efficient_attention(q, k, v, attn_bias=bias),
        inputs,
        grad,
        lambda x: x[0],
        make_bias,
    )
