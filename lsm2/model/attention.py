"""Attention over packed days: the only place where the trainer meets `lsm2_kernels`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lsm2_kernels import Packing, pack, unpack, varlen_attention, varlen_attention_qkvpacked


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
        """queries (T_q, width), memory (T_m, width) -> (T_q, width); 0 before the output layer where a day has no memory."""
        query = self.query(queries).unflatten(1, (self.heads, -1))
        key, value = self.key_value(memory).unflatten(1, (2, self.heads, -1)).unbind(1)
        return self.out(varlen_attention(query, key, value, cu_query, cu_memory).flatten(1))


@dataclass(frozen=True)
class JointDays:
    """Where visible and query tokens lie when each day has its visible tokens first and then its queries, day after day."""

    visible: Packing
    queries: Packing
    cu_seqlens: Tensor
    """(B + 1,) int32."""

    @classmethod
    def of(cls, cu_visible: Tensor, num_visible: int, cu_query: Tensor, num_queries: int) -> JointDays:
        """From the offsets of both kinds; waits for no device."""
        total = num_visible + num_queries
        visible_row = torch.arange(num_visible, device=cu_visible.device)
        query_row = torch.arange(num_queries, device=cu_query.device)
        # Before a visible token lie the queries of earlier days; before a query the visible tokens of its own day too.
        visible_at = visible_row + cu_query[torch.searchsorted(cu_visible, visible_row, right=True) - 1]
        query_at = query_row + cu_visible[torch.searchsorted(cu_query, query_row, right=True)]

        def packing(rows: Tensor, cu_seqlens: Tensor) -> Packing:
            return Packing(rows, cu_seqlens, num_kept=cu_seqlens[-1], batch_size=1, seq_len=total)

        return cls(packing(visible_at, cu_visible), packing(query_at, cu_query), cu_visible + cu_query)

    def fill(self, visible: Tensor, mask_token: Tensor) -> Tensor:
        """All tokens (T_v + T_q, width): `visible` (T_v, width) at their places, `mask_token` (width,) at the queries'."""
        return unpack(visible, self.visible, fill=mask_token).squeeze(0)

    def take_queries(self, tokens: Tensor) -> Tensor:
        """The queries (T_q, width) among all tokens (T_v + T_q, width)."""
        return pack(tokens.unsqueeze(0), self.queries)

    def join_ids(self, visible_ids: Tensor, query_ids: Tensor) -> Tensor:
        """Token ids (T_v + T_q,) in the joint order."""
        ids = visible_ids.new_empty(len(visible_ids) + len(query_ids))
        return ids.index_copy_(0, self.visible.indices, visible_ids).index_copy_(0, self.queries.indices, query_ids)


@torch.no_grad()
def _init_query_key(query: Tensor, key: Tensor, tied: float | None) -> None:
    """Equal keys and queries make a token attend to those most like it, so attention starts local in signal and time."""
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
