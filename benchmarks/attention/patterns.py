"""Sequence lengths that the suites time, those that masked autoencoders on wearable days meet, and the work they mean."""

from __future__ import annotations

import functools
import random
from typing import Any

import torch

PATTERNS = ("aim", "short", "long", "one")
SUITE_PATTERNS = ("simulated", *PATTERNS, "uniform")
GPU_PATTERNS = ("aim", "short", "long", "uniform")


def lengths(pattern: str, batches: int = 1) -> list[int]:
    """Tokens per sequence.

    `aim`: 8 days of 150 to 1200 visible tokens; `simulated`: 8 days of the simulator; `short`: 32 of 20 to 300; `long`: 3744 + 1900;
    `uniform`: 8 of 512; `one`: 1024. `batches` repeats the pattern with new draws, to fill a GPU.
    """
    if pattern == "simulated":
        return visible_tokens(8 * batches)
    draw = random.Random(f"{pattern} lengths")
    result: list[int] = []
    for _ in range(batches):
        match pattern:
            case "aim":
                result += [draw.randint(150, 1200) for _ in range(8)]
            case "short":
                result += [draw.randint(20, 300) for _ in range(32)]
            case "long":
                result += [3744, 1900]
            case "one":
                result += [1024]
            case "uniform":
                result += [512] * 8
            case _:
                raise ValueError(f"pattern is {pattern!r}; it must be one of {', '.join(SUITE_PATTERNS)}")
    return result


@functools.cache
def visible_tokens(num_days: int) -> list[int]:
    """Of simulated days of 26 signals under AIM's masks, a person each: of 512 from 158 to 1848, half of them up to 761, mean 779."""
    import numpy as np

    from lsm2 import presets
    from lsm2.data import collate
    from lsm2.data.simulate import simulate

    days = list(simulate(num_days, 1, seed=0))
    values = torch.from_numpy(np.stack([day.values for day in days]))
    return collate(values, presets.base(), day_ids=[day.day_id for day in days]).cu_visible.diff().tolist()


def gpu_lengths(pattern: str, num_sequences: int | None = None) -> list[int]:
    """Tokens per sequence, enough to fill a GPU; another number of sequences is drawn in the same way.

    `aim`: 512 days of 150 to 1500 visible tokens; `simulated`: 512 days of the simulator; `short`: 4096 of 20 to 256; `long`: 64, in turn
    3744 and 1900; `uniform`: 512 of 1024.
    """
    if pattern == "simulated":
        return visible_tokens(num_sequences or 512)
    draw = random.Random(f"{pattern} lengths on a GPU")
    match pattern:
        case "aim":
            return [draw.randint(150, 1500) for _ in range(num_sequences or 512)]
        case "short":
            return [draw.randint(20, 256) for _ in range(num_sequences or 4096)]
        case "long":
            return [3744 if i % 2 == 0 else 1900 for i in range(num_sequences or 64)]
        case "uniform":
            return [1024] * (num_sequences or 512)
        case _:
            raise ValueError(f"pattern is {pattern!r}; it must be simulated or one of {', '.join(GPU_PATTERNS)}")


def useful_flops(sequence_lengths: list[int], num_heads: int, head_dim: int, *, backward: bool) -> float:
    """4 n^2 H D per sequence forward (two products), 2.5 times that backward (five products)."""
    forward = 4.0 * num_heads * head_dim * sum(n * n for n in sequence_lengths)
    return forward * 3.5 if backward else forward


def useful_work(sequence_lengths: list[int], num_heads: int, head_dim: int, dtype: torch.dtype, *, backward: bool) -> dict[str, Any]:
    """FLOPs and bytes, and the dtype, as they are saved of a race."""
    moved = useful_bytes(sum(sequence_lengths), num_heads, head_dim, dtype.itemsize, backward=backward)
    flops = useful_flops(sequence_lengths, num_heads, head_dim, backward=backward)
    return {"dtype": str(dtype).removeprefix("torch."), "useful_flops": flops, "useful_bytes": moved}


def exponentials(sequence_lengths: list[int], num_heads: int, *, backward: bool) -> float:
    """n^2 H per sequence forward, as many again backward, where the probabilities are computed anew."""
    forward = float(num_heads * sum(n * n for n in sequence_lengths))
    return forward * 2 if backward else forward


def useful_bytes(num_tokens: int, num_heads: int, head_dim: int, bytes_per_number: int, *, backward: bool) -> float:
    """What must be read and written at the least: q, k, v and out; backward q, k, v, out and its gradient once more, and dq, dk, dv."""
    tensors = 4 + (8 if backward else 0)
    return float(tensors * num_tokens * num_heads * head_dim * bytes_per_number)
