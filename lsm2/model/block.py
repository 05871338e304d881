"""Pre-norm transformer blocks (ViT, Dosovitskiy et al. 2020)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lsm2.model.attention import CrossAttention, SelfAttention


class MLP(nn.Module):
    """Two layers with a GELU between them, token by token."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        for layer in (self.up, self.down):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (T, width) -> (T, width)."""
        return self.down(F.gelu(self.up(tokens)))


class SelfBlock(nn.Module):
    """Self-attention within each day, then the MLP."""

    def __init__(self, width: int, heads: int, mlp_ratio: int, tied_init: float | None) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, tied_init)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = MLP(width, mlp_ratio * width)

    def forward(self, tokens: Tensor, cu_seqlens: Tensor) -> Tensor:
        """tokens (T, width), float32 also under autocast -> (T, width)."""
        tokens = tokens + self.attention(self.norm_attention(tokens), cu_seqlens)
        return tokens + self.mlp(self.norm_mlp(tokens))


class CrossBlock(nn.Module):
    """Attention of queries to the memory of their day, then the MLP."""

    def __init__(self, width: int, heads: int, mlp_ratio: int, tied_init: float | None) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = CrossAttention(width, heads, tied_init)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = MLP(width, mlp_ratio * width)

    def forward(self, queries: Tensor, cu_query: Tensor, memory: Tensor, cu_memory: Tensor) -> Tensor:
        """queries (T_q, width), memory (T_m, width) already normalised -> (T_q, width)."""
        queries = queries + self.attention(self.norm_attention(queries), cu_query, memory, cu_memory)
        return queries + self.mlp(self.norm_mlp(queries))
