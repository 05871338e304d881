"""How fast is packed attention against torch's ways, by pattern of lengths and precision?"""

import pytest

from benchmarks.attention.patterns import SUITE_PATTERNS, draw_lengths, useful_work
from benchmarks.attention.peers import suite_peers
from benchmarks.attention.problem import BOTH, DIRECTIONS, DTYPES, Problem, enter, ours
from benchmarks.measure.suite import NO_BFLOAT16, leave_out, race
from benchmarks.measure.yardsticks import attention_yardsticks
from lsm2.model.precision import bfloat16_is_fast

HEAD_DIM = 64


@pytest.mark.benchmark(group="attention")
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("pattern", SUITE_PATTERNS)
def bench_attention(benchmark, device, pattern, dtype, direction):
    if dtype == "bfloat16" and not bfloat16_is_fast(device):
        leave_out(benchmark, NO_BFLOAT16, dtype=dtype)
        return
    problem = Problem.random(draw_lengths(pattern, device.type), HEAD_DIM, DTYPES[dtype], device)
    race_attention(benchmark, problem, backward=direction == BOTH)


def race_attention(benchmark, problem: Problem, *, backward: bool) -> None:
    """Ours against torch's ways on this problem's device, in a suite of pytest-benchmark."""
    (_, _, num_heads, head_dim), dtype, device = problem.qkv.shape, problem.qkv.dtype, problem.qkv.device
    our_way = ours(problem)
    peers, errors = enter(suite_peers(dtype, device), problem, our_way, backward=backward)
    calls = {name: peer.call(backward=backward) for name, peer in peers.items()}
    work = useful_work(problem.lengths, num_heads, head_dim, dtype, backward=backward)
    rounds, rates = 20 if device.type == "cuda" else 5, attention_yardsticks(dtype, device)
    call = our_way.call(backward=backward)
    race(benchmark, call, calls, rounds=rounds, errors=errors, ceilings=rates, **work)
