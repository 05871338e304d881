"""What does a training step cost, packed and as others do it?

The same weights, days and masks go forward and backward under bf16 autocast: ours with each decoder, and in plain PyTorch the `full`
decoder behind an encoder that is padded to the longest day, one that drops half of the tokens (the paper's way as far as it is
known), and one over all 3744 tokens.
Before timing, loss and gradients of the ways that must agree are compared in float32.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks.dense_ways import DenseBatch, dense_loss, padded_loss, paper_loss
from benchmarks.timing import race
from lsm2 import LSM2, presets
from lsm2.config import LSM2Config
from lsm2.data import PackedBatch, collate


def gappy_days(config: LSM2Config, num_days: int, missing: float) -> torch.Tensor:
    """Normalised noise (B, C, L) in which hours of single signals are missing; step time does not depend on the values."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(num_days, config.num_signals, config.window_minutes, generator=generator)
    hours = torch.rand(num_days, config.num_signals, config.window_minutes // 60, generator=generator) < missing
    return values.masked_fill(hours.repeat_interleave(60, dim=2), float("nan"))


def model_and_batch(config: LSM2Config, decoder: str, values: torch.Tensor, device: torch.device) -> tuple[LSM2, PackedBatch]:
    """The same weights and masks for every decoder."""
    config = dataclasses.replace(config, decoder=decoder)
    torch.manual_seed(0)
    return LSM2(config).to(device), collate(values, config, seed=0, day_ids=[f"day {i}" for i in range(len(values))]).to(device)


def assert_agreement(config: LSM2Config, device: torch.device) -> None:
    """Loss and every gradient of the dense ways equal ours, in float32 to rounding."""
    model, batch = model_and_batch(config, "full", gappy_days(config, 2, 0.49), device)
    dense = DenseBatch.of(batch, config.num_tokens)
    longest = int(batch.cu_visible.diff().max())
    parameters = list(model.parameters())
    ours = model(batch).loss
    our_grads = torch.autograd.grad(ours, parameters)
    for loss in (dense_loss(model, dense), paper_loss(model, dense), padded_loss(model, dense, longest)):
        torch.testing.assert_close(loss, ours, rtol=1e-4, atol=1e-5)
        for grad, our_grad in zip(torch.autograd.grad(loss, parameters), our_grads, strict=True):
            torch.testing.assert_close(grad, our_grad, rtol=1e-2, atol=1e-4 * our_grad.abs().max().item() + 1e-7)


@pytest.mark.parametrize("missing", [0.2, 0.49, 0.8])
@pytest.mark.parametrize("preset", ["tiny", "base"])
def bench_train_step(benchmark, device, preset, missing):
    on_gpu = device.type == "cuda"
    if preset == "base" and not on_gpu and missing != 0.49:
        pytest.skip("base is timed on a CPU at one missing fraction only: it takes minutes")
    config = getattr(presets, preset)()
    assert_agreement(dataclasses.replace(config, encoder_depth=1, decoder_depth=1), device)
    values = gappy_days(config, 64 if on_gpu else 2, missing)

    def step(loss_of, model):
        def run() -> None:
            with torch.autocast(device.type, torch.bfloat16):
                loss = loss_of()
            torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)

        return run

    ways = {}
    for decoder in ("cross", "joint", "full"):
        model, batch = model_and_batch(config, decoder, values, device)
        ways[f"ours_{decoder}"] = step(lambda model=model, batch=batch: model(batch).loss, model)
    dense, longest = DenseBatch.of(batch, config.num_tokens), int(batch.cu_visible.diff().max())
    ways["padded_full"] = step(lambda: padded_loss(model, dense, longest), model)
    ways["paper_full"] = step(lambda: paper_loss(model, dense), model)
    ways["dense_full"] = step(lambda: dense_loss(model, dense), model)
    print(f"\n  {preset}, {len(values)} days, {missing:.0%} missing, {len(batch.visible_ids) / len(values):.0f} visible tokens a day")
    race(benchmark, ways.pop("ours_cross"), ways, rounds=10 if on_gpu else 3)
