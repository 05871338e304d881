"""Where a token lies in a day: a code of its signal, then a code of its slot, looked up by token id."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lsm2.config import SignalCodes


class Positions(nn.Module):
    """Positions on two axes (MAE, He et al.

    2021): the first half of the dims says which signal, the second half which slot. Slots have sin-cos codes.
    Signals have no order: `learned` codes begin at random, `sincos` codes tie neighbours in the list.
    """

    signals: Tensor
    """(C, width / 2) float32."""
    slots: Tensor
    """(S, width / 2) float32."""

    def __init__(
        self, num_signals: int, num_slots: int, width: int, base: float, signal_codes: SignalCodes
    ) -> None:
        super().__init__()
        if signal_codes == "learned":
            # The deviation of a sine over its period.
            self.signals = nn.Parameter(torch.empty(num_signals, width // 2).normal_(std=0.5**0.5))
        else:
            codes = _sin_cos(num_signals, width // 2, base)
            self.register_buffer("signals", codes, persistent=False)
        self.register_buffer("slots", _sin_cos(num_slots, width // 2, base), persistent=False)

    @property
    def table(self) -> Tensor:
        """Positions (N, width) float32 of all tokens."""
        signals = self.signals.repeat_interleave(len(self.slots), dim=0)
        return torch.cat([signals, self.slots.repeat(len(self.signals), 1)], dim=1)

    def forward(self, ids: Tensor) -> Tensor:
        """Positions (T, width) float32 of the tokens `ids` (T,) int64, id = signal * num_slots + slot."""
        if not isinstance(self.signals, nn.Parameter):
            return self.table.index_select(0, ids)
        # The gradient of a product is the same bits every time; that of a look-up is not on a GPU.
        signal = torch.arange(len(self.signals), device=ids.device)
        is_of_signal = (ids[:, None] // len(self.slots) == signal).float()
        with torch.autocast(ids.device.type, enabled=False):
            of_signals = is_of_signal @ self.signals
        return torch.cat([of_signals, self.slots.index_select(0, ids % len(self.slots))], dim=1)


def _sin_cos(count: int, width: int, base: float) -> Tensor:
    """(count, width): sines, then cosines, of 0 .. count - 1 at wavelengths from 2 pi to 2 pi base."""
    frequencies = base ** -(torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angles = torch.arange(count, dtype=torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()
