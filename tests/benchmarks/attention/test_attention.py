"""What the attention suites time: the problems are those that are named, work is counted right, and a peer that is wrong is found."""

from __future__ import annotations

import statistics
import sys
import types

import pytest
import torch

from benchmarks.attention import bench_masked as masked_attention
from benchmarks.attention.bench_shapes import AXES, make_problem
from benchmarks.attention.patterns import SUITE_PATTERNS, lengths, useful_bytes, useful_flops, visible_tokens
from benchmarks.attention.peers import PEERS, GpuProblem
from benchmarks.attention.problem import Problem, Way, enter, ours, sdpa_padded, sdpa_split
from benchmarks.triton.tile_report import Candidate, races_of
from lsm2_kernels import masked_attention as attend_masked
from lsm2_kernels import varlen_attention
from lsm2_kernels.triton.tiles import Tile

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


def test_packages_that_are_not_here_get_packed_rows(monkeypatch):
    """FlashAttention-3 and TransformerEngine need a GPU; what stands for them here has their signature and computes with our op."""

    def flash_attn_varlen_func(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, softmax_scale=None, causal=False):
        assert (max_seqlen_q, max_seqlen_k, causal) == (33, 33, False)
        return varlen_attention(q, k, v, cu_seqlens_q, cu_seqlens_k, return_lse=True)

    class DotProductAttention(torch.nn.Module):
        def __init__(self, num_attention_heads, kv_channels, *, attention_dropout, qkv_format, attn_mask_type):
            super().__init__()
            assert (num_attention_heads, kv_channels, attention_dropout, qkv_format, attn_mask_type) == (6, 16, 0.0, "thd", "padding")

        def forward(self, q, k, v, *, cu_seqlens_q, cu_seqlens_kv, max_seqlen_q, max_seqlen_kv):
            assert (max_seqlen_q, max_seqlen_kv) == (33, 33)
            return varlen_attention(q, k, v, cu_seqlens_q, cu_seqlens_kv).flatten(1)

    for name, function in (("flash_attn_interface", flash_attn_varlen_func), ("transformer_engine.pytorch", DotProductAttention)):
        module = types.ModuleType(name)
        setattr(module, function.__name__, function)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "transformer_engine", types.ModuleType("transformer_engine"))
    problem = GpuProblem.random([20, 7, 33], 16, torch.float32)
    for name in ("flash_attn_3", "transformer_engine"):
        for backward in (False, True):
            peers, errors = enter({name: PEERS[name]}, problem, ours(problem), backward=backward)
            assert list(peers) == [name], errors
    _, errors = enter({"flash_attn_4": PEERS["flash_attn_4"]}, problem, ours(problem), backward=False)
    assert errors["flash_attn_4"].startswith("ModuleNotFoundError")


def test_tiles_are_saved_beside_todays():
    today, other = Tile(128, 64, 8, 3), Tile(64, 64, 4, 3)
    candidates = [
        Candidate(64, "aim", "forward", today, True, pass_ms=2.0, registers=128),
        Candidate(64, "aim", "forward", other, False, pass_ms=1.0),
        Candidate(64, "aim", "forward", Tile(256, 64, 8, 2), False, fault="out of shared memory"),
    ]
    (race,) = races_of(candidates)
    assert (race.suite, race.case, race.ours) == ("tile_sweep", "D 64, aim, forward", "128 x 64 x 8 x 3")
    assert [way.get("ratio_to_ours") for way in race.ways.values()] == [1.0, 0.5, None]
    assert race.ways["256 x 64 x 8 x 2"]["error"] == "out of shared memory"
