"""The precision of matrix products: bfloat16 where the processor or GPU multiplies it natively, float32
elsewhere.
"""

from __future__ import annotations

import functools
import time
from typing import Literal

import torch

from lsm2.config import Precision

_ROWS, _WIDTH, _OUTPUTS = 512, 384, 1536
"""A layer of the size that models here have: 0.6 billion floating-point operations, a few milliseconds of a
core.
"""
_ROUNDS = 3


@functools.cache
def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether a linear layer takes less time in bfloat16 than in float32 here, found out once per process.

    A GPU is asked; on a CPU both are timed, in turns. PyTorch's product of bfloat16 matrices is 18 times
    slower than that of float32 on a processor with AVX2 alone.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    rows, weight = torch.ones(_ROWS, _WIDTH), torch.ones(_OUTPUTS, _WIDTH)
    operands = {dtype: (rows.to(dtype), weight.to(dtype)) for dtype in (torch.float32, torch.bfloat16)}
    with torch.inference_mode():
        seconds = [{dtype: _seconds(*pair) for dtype, pair in operands.items()} for _ in range(1 + _ROUNDS)][
            1:
        ]
    fastest = {dtype: min(round_[dtype] for round_ in seconds) for dtype in operands}
    return fastest[torch.bfloat16] < fastest[torch.float32]


def choose_precision(precision: Precision, device: torch.device) -> Literal["bf16", "fp32"]:
    """What `auto` means on this device; `bf16` and `fp32` stay what they are."""
    if precision == "auto":
        return "bf16" if bfloat16_is_fast(device) else "fp32"
    return precision


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """The autocast context of a precision: bfloat16 products for `bf16`, nothing for `fp32`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=choose_precision(precision, device) == "bf16")


def _seconds(rows: torch.Tensor, weight: torch.Tensor) -> float:
    began = time.perf_counter()
    torch.nn.functional.linear(rows, weight)
    return time.perf_counter() - began
