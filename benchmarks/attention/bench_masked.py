"""How much faster is masked_attention than scaled_dot_product_attention with a mask, by the part of a day's tokens that is missing?

Both take and give SDPA's layout, q, k and v (B, H, N, D) with N = 3744, in bfloat16; any token may be missing. `sdpa_mask` gets a broadcast
(B, 1, 1, N) key mask and computes all rows; `sdpa_gather` picks the kept rows of each sequence, attends, and puts the rows back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.attention.patterns import useful_work
from benchmarks.attention.problem import BOTH, DIRECTIONS, NUM_HEADS, TOLERANCES
from benchmarks.attention.race import SUITE_HEAD_DIM
from benchmarks.measure.agreement import try_each
from benchmarks.measure.timing import race, yardsticks
from lsm2_kernels import masked_attention

SEQ_LEN, DTYPE = 3744, torch.bfloat16
DRY_RUN = 144, torch.float32
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def make_peers(keep: Tensor) -> dict[str, Attend]:
    """What torch offers, as said above."""
    key_mask = keep[:, None, None, :]
    kept = [row.nonzero()[:, 0] for row in keep]

    def gather(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.zeros_like(q)
        for i, rows in enumerate(kept):
            q_kept, k_kept, v_kept = (x[i : i + 1, :, rows] for x in (q, k, v))  # of less than four dimensions SDPA takes a slow way
            out[i].index_copy_(1, rows, scaled_dot_product_attention(q_kept, k_kept, v_kept)[0])
        return out

    return {"sdpa_mask": lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=key_mask), "sdpa_gather": gather}


def check(theirs: tuple[Tensor, ...], ours: tuple[Tensor, ...], keep: Tensor) -> None:
    """Raise AssertionError unless kept rows are the same; what SDPA gives for queries that are missing nobody uses."""
    for actual, expected in zip(theirs, ours, strict=True):
        torch.testing.assert_close(actual * keep[:, None, :, None], expected, atol=TOLERANCES[DTYPE], rtol=TOLERANCES[DTYPE])


@pytest.mark.benchmark(group="masked_attention")
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("missing", [5, 20, 50, 80, 95])
def bench_masked_attention(benchmark, device, dry_run, missing, direction):
    on_gpu, backward = device.type == "cuda", direction == BOTH
    batch_size = 32 if on_gpu else 1
    seq_len, dtype = DRY_RUN if dry_run else (SEQ_LEN, DTYPE)
    generator = torch.Generator(device).manual_seed(0)
    keep = torch.rand(batch_size, seq_len, generator=generator, device=device) >= missing / 100
    shape = batch_size, NUM_HEADS, seq_len, SUITE_HEAD_DIM
    q, k, v = (torch.randn(shape, generator=generator, device=device, dtype=dtype).requires_grad_(backward) for _ in range(3))
    grad = torch.randn(shape, generator=generator, device=device, dtype=dtype) * keep[:, None, :, None]

    def call(attend: Attend) -> Callable[[], tuple[Tensor, ...]]:
        return lambda: torch.autograd.grad(attend(q, k, v), (q, k, v), grad) if backward else (attend(q, k, v),)

    ours = call(lambda q, k, v: masked_attention(q, k, v, keep))
    peers = {name: call(attend) for name, attend in make_peers(keep).items()}

    def checked(name: str) -> Callable[[], tuple[Tensor, ...]]:
        check(peers[name](), ours(), keep)
        return peers[name]

    right, errors = try_each({name: functools.partial(checked, name) for name in peers})
    work = useful_work(keep.sum(1).tolist(), NUM_HEADS, SUITE_HEAD_DIM, dtype, backward=backward)
    race(benchmark, ours, right, rounds=20 if on_gpu else 3, errors=errors, ceilings=yardsticks(dtype, device), **work)
