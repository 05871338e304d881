"""Of the shapes of attention one axis changes at a time, in the precision that the processor multiplies
natively.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.attention.bench_shapes import AXES, make_problem
from benchmarks.measure import suite

CPU = torch.device("cpu")


@pytest.mark.parametrize("axis", AXES)
def test_each_axis_changes_alone(axis):
    problems = {value: make_problem(axis, value, CPU) for value in AXES[axis][:2]}
    for value, problem in problems.items():
        total, _, num_heads, head_dim = problem.qkv.shape
        found = {
            "length": max(problem.lengths),
            "batch": len(problem.lengths),
            "heads": num_heads,
            "head_dim": head_dim,
        }
        usual = {"heads": 6, "head_dim": 64} | ({} if axis in ("length", "batch") else {"batch": 4})
        assert {name: found[name] for name in (*usual, axis)} == usual | {axis: value}
        assert sum(problem.lengths) == total == len(problem.grad)


@pytest.mark.parametrize(("fast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_precision_is_the_native_one(monkeypatch, fast, dtype):
    monkeypatch.setattr(suite, "bfloat16_is_fast", lambda device: fast)
    assert make_problem("length", 64, CPU, dry_run=True).qkv.dtype == dtype
