"""Where a token lies in a day: fixed 2-D sin-cos positions over signal and slot, looked up by token id."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Positions(nn.Module):
    """Sin-cos positions (MAE, He et al.

    2021): the first half of the dims says which signal, the second half which slot.
    """

    table: Tensor

    def __init__(self, num_signals: int, num_slots: int, width: int, base: float) -> None:
        super().__init__()
        signal = _sin_cos(num_signals, width // 2, base).repeat_interleave(num_slots, dim=0)
        slot = _sin_cos(num_slots, width // 2, base).repeat(num_signals, 1)
        self.register_buffer("table", torch.cat([signal, slot], dim=1), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Positions (T, width) float32 of the tokens `ids` (T,) int64, id = signal * num_slots + slot."""
        return self.table.index_select(0, ids)


def _sin_cos(count: int, width: int, base: float) -> Tensor:
    """(count, width): sines, then cosines, of 0 .. count - 1 at wavelengths from 2 pi to 2 pi base."""
    frequencies = base ** -(torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angles = torch.arange(count, dtype=torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()
