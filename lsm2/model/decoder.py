"""The decoders: from encoded visible tokens to the values of the tokens asked for.

`cross`: a query attends to the visible tokens of its day only, so no prediction depends on what else is
asked. `joint`: visible and query tokens of a day attend to each other. `full`: `joint`, asked for every
position that is not visible, as in the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsm2.config import LSM2Config
from lsm2.data.batch import PackedBatch
from lsm2.model.block import CrossBlock, SelfBlock
from lsm2.model.joint_days import JointDays
from lsm2.model.positions import Positions


class Decoder(nn.Module):
    """What both decoders share: projection to the decoder's width, its positions, the mask token, final norm
    and head.
    """

    def __init__(self, config: LSM2Config, block: type[CrossBlock] | type[SelfBlock]) -> None:
        super().__init__()
        width, heads = config.decoder_width, config.decoder_heads
        self.project = nn.Linear(config.encoder_width, width)
        self.mask_token = nn.Parameter(torch.empty(width))
        self.positions = Positions(
            config.num_signals, config.num_slots, width, config.position_base, config.signal_codes
        )
        self.blocks = nn.ModuleList(
            block(width, heads, config.mlp_ratio, config.tied_qk_init) for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.patch_samples)
        nn.init.normal_(self.mask_token, std=0.02)
        for layer in (self.project, self.head):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


class CrossDecoder(Decoder):
    """Queries read from the memory; the memory stays as the encoder left it."""

    def __init__(self, config: LSM2Config) -> None:
        super().__init__(config, CrossBlock)
        self.norm_memory = nn.LayerNorm(config.decoder_width)

    def forward(self, encoded: Tensor, batch: PackedBatch) -> Tensor:
        """encoded (T_v, encoder width) -> predictions (T_q, P), in the autocast dtype if any."""
        memory = self.norm_memory(self.project(encoded) + self.positions(batch.visible_ids))
        return self.decode(
            self.mask_token + self.positions(batch.query_ids), batch.cu_query, memory, batch.cu_visible
        )

    def decode(self, queries: Tensor, cu_query: Tensor, memory: Tensor, cu_memory: Tensor) -> Tensor:
        """queries (T_q, width) -> predictions (T_q, P), each from its own query and its day's memory (T_m,
        width).
        """
        for block in self.blocks:
            queries = block(queries, cu_query, memory, cu_memory)
        return self.head(self.norm(queries))


class JointDecoder(Decoder):
    """Visible and query tokens of a day as one sequence."""

    def __init__(self, config: LSM2Config) -> None:
        super().__init__(config, SelfBlock)

    def forward(self, encoded: Tensor, batch: PackedBatch) -> Tensor:
        """encoded (T_v, encoder width) -> predictions (T_q, P), in the autocast dtype if any."""
        days = JointDays.from_offsets(
            batch.cu_visible, len(batch.visible_ids), batch.cu_query, len(batch.query_ids)
        )
        ids = days.join_ids(batch.visible_ids, batch.query_ids)
        tokens = days.fill(self.project(encoded), self.mask_token) + self.positions(ids)
        for block in self.blocks:
            tokens = block(tokens, days.cu_seqlens)
        return self.head(self.norm(days.take_queries(tokens)))
