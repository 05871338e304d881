"""How much faster is masked_attention than SDPA with a mask, by the part of a day's tokens that is missing?

Both take and give SDPA's layout, q, k and v (B, H, N, D) with N = 3744; any token may be missing. `sdpa_mask`
gets a broadcast (B, 1, 1, N) key mask and computes all rows; `sdpa_gather` picks the kept rows of each
sequence, attends, and puts the rows back.
"""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.attention.bench_patterns import HEAD_DIM
from benchmarks.attention.patterns import useful_work
from benchmarks.attention.problem import BOTH, DIRECTIONS, NUM_HEADS, TOLERANCES
from benchmarks.measure.agreement import assert_same, try_each
from benchmarks.measure.suite import native_dtype, race
from benchmarks.measure.yardsticks import attention_yardsticks
from lsm2_kernels import masked_attention

SEQ_LEN, SEQ_LEN_IN_DRY_RUN = 3744, 144
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def make_peers(keep: Tensor) -> dict[str, Attend]:
    """What torch offers, as said above."""
    key_mask = keep[:, None, None, :]
    kept = [row.nonzero()[:, 0] for row in keep]

    def gather(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.zeros_like(q)
        for i, rows in enumerate(kept):
            # Of less than four dimensions SDPA takes a slow way.
            q_kept, k_kept, v_kept = (x[i : i + 1, :, rows] for x in (q, k, v))
            out[i].index_copy_(1, rows, scaled_dot_product_attention(q_kept, k_kept, v_kept)[0])
        return out

    mask: Attend = lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=key_mask)  # noqa: E731
    return {"sdpa_mask": mask, "sdpa_gather": gather}


def check(theirs: tuple[Tensor, ...], ours: tuple[Tensor, ...], keep: Tensor) -> None:
    """Raise AssertionError unless kept rows are the same; nobody uses what SDPA gives for missing queries."""
    for actual, expected in zip(theirs, ours, strict=True):
        assert_same(actual * keep[:, None, :, None], expected, TOLERANCES[expected.dtype], "a kept row")


@pytest.mark.benchmark(group="masked_attention")
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("missing", [5, 20, 50, 80, 95])
def bench_masked_attention(benchmark, device, dry_run, missing, direction):
    on_gpu, backward, dtype = device.type == "cuda", direction == BOTH, native_dtype(device)
    batch_size, seq_len = 32 if on_gpu else 1, SEQ_LEN_IN_DRY_RUN if dry_run else SEQ_LEN
    draw = torch.Generator(device).manual_seed(0)
    keep = torch.rand(batch_size, seq_len, generator=draw, device=device) >= missing / 100
    qkv, grad = (
        torch.randn(
            count, batch_size, NUM_HEADS, seq_len, HEAD_DIM, generator=draw, device=device, dtype=dtype
        )
        for count in (3, 1)
    )
    q, k, v = (x.clone().requires_grad_(backward) for x in qkv)
    grad = grad[0] * keep[:, None, :, None]

    def call(attend: Attend) -> Callable[[], tuple[Tensor, ...]]:
        if backward:
            return lambda: torch.autograd.grad(attend(q, k, v), (q, k, v), grad)
        return lambda: (attend(q, k, v),)

    ours = call(lambda q, k, v: masked_attention(q, k, v, keep))
    peers = {name: call(attend) for name, attend in make_peers(keep).items()}

    def checked(name: str) -> Callable[[], tuple[Tensor, ...]]:
        check(peers[name](), ours(), keep)
        return peers[name]

    right, errors = try_each({name: functools.partial(checked, name) for name in peers})
    work = useful_work(keep.sum(1).tolist(), NUM_HEADS, HEAD_DIM, dtype, backward=backward)
    rates = attention_yardsticks(dtype, device)
    race(benchmark, ours, right, rounds=20 if on_gpu else 3, errors=errors, ceilings=rates, **work)
