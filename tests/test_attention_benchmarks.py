"""What the attention suites time: the problems are those that are named, work is counted right, and a peer that is wrong is found."""

from __future__ import annotations

import statistics

import pytest
import torch

from benchmarks import masked_attention
from benchmarks.attention_shapes import AXES, make_problem
from benchmarks.attention_ways import Problem, Way, enter, ours, sdpa_padded, sdpa_split
from benchmarks.lengths import SUITE_PATTERNS, lengths, useful_bytes, useful_flops, visible_tokens
from lsm2_kernels import masked_attention as attend_masked

CPU = torch.device("cpu")


@pytest.mark.parametrize("axis", AXES)
def test_each_axis_changes_alone(axis):
    problems = {value: make_problem(axis, value, CPU) for value in AXES[axis][:2]}
    for value, problem in problems.items():
        total, _, num_heads, head_dim = problem.qkv.shape
        found = {"length": max(problem.lengths), "batch": len(problem.lengths), "heads": num_heads, "head_dim": head_dim}
        usual = {"heads": 6, "head_dim": 64} | ({} if axis in ("length", "batch") else {"batch": 4})
        assert {name: found[name] for name in (*usual, axis)} == usual | {axis: value}
        assert sum(problem.lengths) == total == len(problem.grad)


def test_simulated_lengths_are_those_of_days_under_aims_masks():
    days = visible_tokens(64)
    assert min(days) > 150 and max(days) < 1700 and 600 < statistics.mean(days) < 900
    assert visible_tokens(8) == days[:8] == lengths("simulated")


@pytest.mark.parametrize("pattern", SUITE_PATTERNS)
def test_patterns_repeat_with_new_draws(pattern):
    assert len(lengths(pattern, batches=3)) == 3 * len(lengths(pattern))


def test_work_is_counted_once():
    assert useful_flops([2, 3], 5, 8, backward=False) == 2 * 2 * (4 + 9) * 5 * 8
    assert useful_flops([2, 3], 5, 8, backward=True) == 3.5 * useful_flops([2, 3], 5, 8, backward=False)
    assert useful_bytes(5, 6, 8, 2, backward=False) == 4 * 5 * 6 * 8 * 2
    assert useful_bytes(5, 6, 8, 2, backward=True) == 12 * 5 * 6 * 8 * 2


@pytest.mark.parametrize("sizes", [[20, 7, 33], [16, 16]], ids=["different", "equal"])
def test_a_wrong_peer_is_left_out_with_its_error(sizes):
    problem = Problem.random(sizes, 16, torch.float32)

    def wrong(problem: Problem) -> Way:
        way = sdpa_split(problem)
        return Way(lambda: 1.01 * way.forward(), way.forward_and_backward, way.to_packed)

    def broken(problem: Problem) -> Way:
        raise RuntimeError("no kernel")

    makers = {"sdpa_split": sdpa_split, "sdpa_padded": sdpa_padded, "wrong": wrong, "broken": broken}
    peers, errors = enter(makers, problem, ours(problem), backward=False)
    assert list(peers) == ["sdpa_split", "sdpa_padded"]
    assert errors["broken"] == "RuntimeError: no kernel" and errors["wrong"].startswith("AssertionError")


def test_peers_of_masked_attention_give_the_same_kept_rows():
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 50, 16, generator=generator)
    keep = torch.rand(2, 50, generator=generator) < 0.4
    expected = (attend_masked(q, k, v, keep),)
    for attend in masked_attention.make_peers(keep).values():
        masked_attention.check((attend(q, k, v),), expected, keep)
        with pytest.raises(AssertionError):
            masked_attention.check((attend(q, k, 1.1 * v),), expected, keep)
