"""How does the speed of packed attention depend on length, batch, heads and head dim? Each changes alone."""

import pytest
import torch

from benchmarks.attention.bench_patterns import HEAD_DIM, race_attention
from benchmarks.attention.patterns import visible_tokens
from benchmarks.attention.problem import BOTH, DIRECTIONS, NUM_HEADS, Problem
from benchmarks.measure.suite import native_dtype

AXES = {
    "length": (64, 128, 256, 512, 1024, 2048, 3744),
    "batch": (1, 2, 4, 8, 16),
    "heads": (1, 2, 4, 8, 16),
    "head_dim": (16, 32, 64, 128, 256),
}
TOKENS, TOKENS_IN_DRY_RUN, DAYS = 4096, 256, 4
"""In all sequences of one length; simulated days for heads and head dims."""
TIMES_ON_GPU = 16
"""As many sequences there, of every axis."""


def make_problem(axis: str, value: int, device: torch.device, *, dry_run: bool = False) -> Problem:
    """The usual shape, but for one axis."""
    times = TIMES_ON_GPU if device.type == "cuda" else 1
    num_heads = value if axis == "heads" else NUM_HEADS
    head_dim = value if axis == "head_dim" else HEAD_DIM
    days = value if axis == "batch" else DAYS
    tokens = TOKENS_IN_DRY_RUN if dry_run else TOKENS
    lengths = [value] * (times * tokens // value) if axis == "length" else visible_tokens(times * days)
    return Problem.random(lengths, head_dim, native_dtype(device), device, num_heads)


@pytest.mark.benchmark(group="attention_shapes")
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("axis", "value"), [(axis, value) for axis, values in AXES.items() for value in values]
)
def bench_attention_shapes(benchmark, device, dry_run, axis, value, direction):
    problem = make_problem(axis, value, device, dry_run=dry_run)
    race_attention(benchmark, problem, backward=direction == BOTH)
