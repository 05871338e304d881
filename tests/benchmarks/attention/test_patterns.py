"""The lengths that are timed are those that are named, and their work is counted once."""

from __future__ import annotations

import statistics

import pytest
import torch

from benchmarks.attention.patterns import (
    SUITE_PATTERNS,
    draw_lengths,
    useful_bytes,
    useful_exponentials,
    useful_flops,
    useful_work,
    visible_tokens,
)


def test_simulated_lengths_are_those_of_days_under_aims_masks():
    days = visible_tokens(64)
    assert min(days) > 150 and max(days) < 1900 and 600 < statistics.mean(days) < 900
    assert visible_tokens(8) == days[:8] == draw_lengths("simulated")


@pytest.mark.parametrize("pattern", SUITE_PATTERNS)
def test_patterns_go_on_with_new_draws(pattern):
    few = draw_lengths(pattern)
    many = draw_lengths(pattern, num_sequences=3 * len(few))
    assert len(many) == 3 * len(few) and many[: len(few)] == few


def test_a_gpu_gets_more_sequences():
    for pattern in ("aim", "short", "long", "one", "uniform"):
        assert len(draw_lengths(pattern, "cuda")) >= 8 * len(draw_lengths(pattern))
    with pytest.raises(ValueError, match="must be one of"):
        draw_lengths("no such pattern")


def test_work_is_counted_once():
    assert useful_flops([2, 3], 5, 8, backward=False) == 2 * 2 * (4 + 9) * 5 * 8
    assert useful_flops([2, 3], 5, 8, backward=True) == 3.5 * useful_flops([2, 3], 5, 8, backward=False)
    assert useful_bytes(5, 6, 8, 2, backward=False) == 4 * 5 * 6 * 8 * 2
    assert useful_bytes(5, 6, 8, 2, backward=True) == 12 * 5 * 6 * 8 * 2
    assert useful_exponentials([2, 3], 5, backward=True) == 2 * 5 * (4 + 9)
    assert useful_work([2, 3], 5, 8, torch.bfloat16, backward=False)["dtype"] == "bfloat16"
