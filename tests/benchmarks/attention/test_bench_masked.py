"""The peers of masked_attention give the same kept rows, and a wrong one is found."""

from __future__ import annotations

import pytest
import torch

from benchmarks.attention import bench_masked
from lsm2_kernels import masked_attention


def test_peers_of_masked_attention_give_the_same_kept_rows():
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 50, 16, generator=generator)
    keep = torch.rand(2, 50, generator=generator) < 0.4
    expected = (masked_attention(q, k, v, keep),)
    for attend in bench_masked.make_peers(keep).values():
        bench_masked.check((attend(q, k, v),), expected, keep)
        with pytest.raises(AssertionError):
            bench_masked.check((attend(q, k, 1.1 * v),), expected, keep)
