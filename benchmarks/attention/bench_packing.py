"""How close are pack and unpack to plain copies of the same bytes, into memory at hand or into new memory?"""

import pytest
import torch

from benchmarks.measure.suite import race
from lsm2_kernels import Packing, pack, unpack


@pytest.mark.benchmark(group="packing")
@pytest.mark.parametrize("width", [128, 384])
@pytest.mark.parametrize("direction", ["pack", "unpack"])
def bench_packing(benchmark, device, dry_run, direction, width):
    batch_size, seq_len = (256 if device.type == "cuda" else 16), (64 if dry_run else 3744)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch_size, seq_len, width, generator=generator).to(device, torch.bfloat16)
    packing = Packing.from_mask((torch.rand(batch_size, seq_len, generator=generator) < 0.25).to(device))
    packed = pack(x, packing)
    indices, flat = packing.indices, x.view(-1, width)

    result = packed if direction == "pack" else x
    target = torch.empty_like(result)
    peers = {"copy": lambda: target.copy_(result), "clone": result.clone}
    if direction == "pack":
        peers["index_select"] = lambda: flat.index_select(0, indices)
        race(benchmark, lambda: pack(x, packing), peers, rounds=15)
    else:
        peers["index_copy"] = lambda: torch.zeros_like(flat).index_copy_(0, indices, packed)
        race(benchmark, lambda: unpack(packed, packing), peers, rounds=15)
