"""The encoder: a ViT over the visible tokens of each day and nothing else."""

from __future__ import annotations

from torch import Tensor, nn

from lsm2.config import LSM2Config
from lsm2.model.block import SelfBlock
from lsm2.model.positions import Positions


class Encoder(nn.Module):
    """Patch embedding shared by all signals, positions, blocks, final norm."""

    def __init__(self, config: LSM2Config) -> None:
        super().__init__()
        width = config.encoder_width
        self.embed = nn.Linear(config.patch_samples, width)
        self.positions = Positions(
            config.num_signals, config.num_slots, width, config.position_base, config.signal_codes
        )
        self.blocks = nn.ModuleList(
            SelfBlock(width, config.encoder_heads, config.mlp_ratio, config.tied_qk_init)
            for _ in range(config.encoder_depth)
        )
        self.norm = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.embed.weight)
        nn.init.zeros_(self.embed.bias)

    def forward(self, patches: Tensor, ids: Tensor, cu_visible: Tensor) -> Tensor:
        """patches (T_v, P) float32, ids (T_v,) int64, cu_visible (B + 1,) int32 -> encoded tokens (T_v,
        width) float32.
        """
        tokens = self.embed(patches) + self.positions(ids)
        for block in self.blocks:
            tokens = block(tokens, cu_visible)
        return self.norm(tokens)
