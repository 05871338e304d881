"""Attention over packed days: the only place where the trainer meets `lsm2_kernels`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsm2_kernels import _ops, varlen_attention, varlen_attention_qkvpacked


class SelfAttention(nn.Module):
    """Every token attends to all tokens of its day."""

    def __init__(self, width: int, heads: int, tied_init: float | None) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        query, key, value = self.qkv.weight.chunk(3)
        _init_query_key(query, key, tied_init)
        _init_linear(value, self.qkv.bias)
        _init_linear(self.out.weight, self.out.bias)

    def forward(self, tokens: Tensor, cu_seqlens: Tensor) -> Tensor:
        """tokens (T, width); day b is rows cu_seqlens[b] to cu_seqlens[b + 1] -> (T, width)."""
        qkv = self.qkv(tokens).unflatten(1, (3, self.heads, -1))
        return self.out(varlen_attention_qkvpacked(qkv, cu_seqlens).flatten(1))


class CrossAttention(nn.Module):
    """Every query attends to all memory tokens of its day, and to no query."""

    def __init__(self, width: int, heads: int, tied_init: float | None) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        key, value = self.key_value.weight.chunk(2)
        _init_query_key(self.query.weight, key, tied_init)
        _init_linear(value, self.key_value.bias)
        _init_linear(self.out.weight, self.out.bias)
        nn.init.zeros_(self.query.bias)

    def forward(self, queries: Tensor, cu_query: Tensor, memory: Tensor, cu_memory: Tensor) -> Tensor:
        """queries (T_q, width), memory (T_m, width) -> (T_q, width); 0 before the output layer where a day
        has no memory.
        """
        query = self.query(queries).unflatten(1, (self.heads, -1))
        key, value = self.key_value(memory).unflatten(1, (2, self.heads, -1)).unbind(1)
        return self.out(varlen_attention(query, key, value, cu_query, cu_memory).flatten(1))


def kernels_for(device: torch.device) -> str:
    """Which kernels compute attention on a device, for whoever wants to know why it is fast or slow."""
    if device.type == "cuda":
        return "Triton"
    return (_ops.instruction_set() if device.type == "cpu" else None) or "plain PyTorch, slow"


@torch.no_grad()
def _init_query_key(query: Tensor, key: Tensor, tied: float | None) -> None:
    """Equal keys and queries make a token attend to those most like it, so attention starts local in signal
    and time.
    """
    if tied is None:
        nn.init.xavier_uniform_(query)
        nn.init.xavier_uniform_(key)
    else:
        nn.init.normal_(query, std=tied * query.shape[1] ** -0.5)
        key.copy_(query)


def _init_linear(weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        nn.init.xavier_uniform_(weight)
        nn.init.zeros_(bias)
