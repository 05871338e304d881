"""The lengths that are timed, those of masked autoencoders on wearable days, and the work they mean."""

import functools
import random
from typing import Any

import torch

PATTERNS = {"cpu": ("aim", "short", "long", "one"), "cuda": ("aim", "short", "long", "uniform")}
"""What programs time by default."""
SUITE_PATTERNS = ("simulated", "aim", "short", "long", "one", "uniform")
DAY_LENGTHS = {"cpu": (150, 1200), "cuda": (150, 1500)}
SHORT_LENGTHS = {"cpu": (20, 300), "cuda": (20, 256)}
COUNTS = {
    "cpu": {"simulated": 8, "aim": 8, "short": 32, "long": 2, "one": 1, "uniform": 8},
    "cuda": {"simulated": 512, "aim": 512, "short": 4096, "long": 64, "one": 512, "uniform": 512},
}
"""Sequences in a batch; on a GPU enough to fill it."""


def draw_lengths(pattern: str, device: str = "cpu", num_sequences: int | None = None) -> list[int]:
    """Tokens per sequence on a device "cpu" or "cuda"; another number of sequences is drawn in the same way.

    `aim`: days of 150 to 1200 visible tokens (on a GPU to 1500); `simulated`: days of the simulator;
    `short`: 20 to 300 (256); `long`: 3744 and 1900 in turn; `uniform`: 512 (1024); `one`: 1024.
    """
    if pattern not in SUITE_PATTERNS:
        raise ValueError(f"pattern is {pattern!r}; it must be one of {', '.join(SUITE_PATTERNS)}")
    count = num_sequences or COUNTS[device][pattern]
    draw = random.Random(f"{pattern} lengths" + (" on a GPU" if device == "cuda" else ""))
    match pattern:
        case "simulated":
            return visible_tokens(count)
        case "aim":
            return [draw.randint(*DAY_LENGTHS[device]) for _ in range(count)]
        case "short":
            return [draw.randint(*SHORT_LENGTHS[device]) for _ in range(count)]
        case "long":
            return [3744 if i % 2 == 0 else 1900 for i in range(count)]
        case "one":
            return [1024] * count
        case _:
            return [512 if device == "cpu" else 1024] * count


@functools.cache
def visible_tokens(num_days: int) -> list[int]:
    """Of simulated days under AIM's masks, a person each: of 512, 160 to 1820, median 720, mean 761."""
    import numpy as np

    from lsm2 import presets
    from lsm2.data import collate
    from lsm2.simulate.cohort import simulate

    days = list(simulate(num_days, 1, seed=0))
    values = torch.from_numpy(np.stack([day.values for day in days]))
    return collate(values, presets.base(), day_ids=[day.day_id for day in days]).cu_visible.diff().tolist()


def useful_flops(lengths: list[int], num_heads: int, head_dim: int, *, backward: bool) -> float:
    """4 n^2 H D per sequence forward (two products), 2.5 times that backward (five products)."""
    forward = 4.0 * num_heads * head_dim * sum(n * n for n in lengths)
    return forward * 3.5 if backward else forward


def useful_exponentials(lengths: list[int], num_heads: int, *, backward: bool) -> float:
    """n^2 H per sequence forward, as many again backward, where the probabilities are computed anew."""
    forward = float(num_heads * sum(n * n for n in lengths))
    return forward * 2 if backward else forward


def useful_bytes(num_tokens: int, num_heads: int, head_dim: int, bytes_each: int, *, backward: bool) -> float:
    """What must be moved at the least: q, k, v and out; backward these and dout, dq, dk, dv."""
    tensors = 4 + (8 if backward else 0)
    return float(tensors * num_tokens * num_heads * head_dim * bytes_each)


def useful_work(
    lengths: list[int], num_heads: int, head_dim: int, dtype: torch.dtype, *, backward: bool
) -> dict[str, Any]:
    """Precision, FLOPs, exponentials and bytes, as they are saved of a race."""
    moved = useful_bytes(sum(lengths), num_heads, head_dim, dtype.itemsize, backward=backward)
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "useful_flops": useful_flops(lengths, num_heads, head_dim, backward=backward),
        "useful_exponentials": useful_exponentials(lengths, num_heads, backward=backward),
        "useful_bytes": moved,
    }
