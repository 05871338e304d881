"""Visible and query tokens of each day as one sequence, for the decoders in which they attend to each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lsm2_kernels import Packing, pack, unpack


@dataclass(frozen=True)
class JointDays:
    """Where visible and query tokens lie when each day has its visible tokens first and then its queries, day
    after day.
    """

    visible: Packing
    queries: Packing
    cu_seqlens: Tensor
    """(B + 1,) int32."""

    @classmethod
    def from_offsets(
        cls, cu_visible: Tensor, num_visible: int, cu_query: Tensor, num_queries: int
    ) -> JointDays:
        """From the offsets of both kinds; waits for no device."""
        total = num_visible + num_queries
        visible_row = torch.arange(num_visible, device=cu_visible.device)
        query_row = torch.arange(num_queries, device=cu_query.device)
        # Before a visible token lie the queries of earlier days; before a query the visible tokens of its own
        # day too.
        visible_at = visible_row + cu_query[torch.searchsorted(cu_visible, visible_row, right=True) - 1]
        query_at = query_row + cu_visible[torch.searchsorted(cu_query, query_row, right=True)]

        def packing(rows: Tensor, cu_seqlens: Tensor) -> Packing:
            return Packing(rows, cu_seqlens, num_kept=cu_seqlens[-1], batch_size=1, seq_len=total)

        return cls(packing(visible_at, cu_visible), packing(query_at, cu_query), cu_visible + cu_query)

    def fill(self, visible: Tensor, mask_token: Tensor) -> Tensor:
        """All tokens (T_v + T_q, width): `visible` (T_v, width) at their places, `mask_token` (width,) at the
        queries'.
        """
        return unpack(visible, self.visible, fill=mask_token).squeeze(0)

    def take_queries(self, tokens: Tensor) -> Tensor:
        """The queries (T_q, width) among all tokens (T_v + T_q, width)."""
        return pack(tokens.unsqueeze(0), self.queries)

    def join_ids(self, visible_ids: Tensor, query_ids: Tensor) -> Tensor:
        """Token ids (T_v + T_q,) in the joint order."""
        ids = visible_ids.new_empty(len(visible_ids) + len(query_ids))
        return ids.index_copy_(0, self.visible.indices, visible_ids).index_copy_(
            0, self.queries.indices, query_ids
        )
