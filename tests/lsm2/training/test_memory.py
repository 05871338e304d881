"""Activation checkpointing: the gradient bit for bit, and less kept for the backward pass."""

import dataclasses

import pytest
import torch

from lsm2 import LSM2, LSM2Config
from lsm2.data import PackedBatch, collate
from lsm2.model.block import MLP
from lsm2.training.recompute import recompute_blocks

CONFIG = LSM2Config(
    num_signals=4,
    window_minutes=480,
    encoder_width=64,
    encoder_depth=6,
    encoder_heads=2,
    decoder_width=32,
    decoder_depth=3,
    decoder_heads=2,
)


def make(decoder: str) -> tuple[LSM2, PackedBatch]:
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, decoder=decoder)
    values = torch.randn(3, 4, 480)
    values[torch.rand(values.shape) < 0.3] = torch.nan
    return LSM2(config), collate(values, config)


def gradients(model: LSM2, batch: PackedBatch, dtype: torch.dtype | None) -> list[torch.Tensor]:
    model.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        output = model(batch)
    output.loss_sum.backward()
    return [
        output.loss_sum.detach(),
        *(weight.grad for weight in model.parameters() if weight.grad is not None),
    ]


def kept_bytes(model: LSM2, batch: PackedBatch) -> int:
    """Bytes of the distinct tensors, weights aside, that the graph holds when the forward pass ends."""
    weights = {weight.untyped_storage().data_ptr() for weight in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(batch)
    return sum(kept.values())


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("decoder", ["cross", "joint", "full"])
def test_recomputing_gives_the_same_gradient_bit_for_bit(decoder: str, dtype: torch.dtype | None) -> None:
    model, batch = make(decoder)
    kept = gradients(model, batch, dtype)
    calls: list[MLP] = []
    for block in (*model.encoder.blocks, *model.decoder.blocks):
        block.mlp.register_forward_pre_hook(lambda mlp, inputs: calls.append(mlp))
    recompute_blocks(model, True)
    again = gradients(model, batch, dtype)
    assert len(kept) == len(again) > 50 and all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))
    assert len(calls) == 2 * len(set(calls)) == 2 * (6 + 3)
    recompute_blocks(model, False)
    calls.clear()
    gradients(model, batch, dtype)
    assert len(calls) == 6 + 3


@pytest.mark.parametrize("decoder", ["cross", "joint", "full"])
def test_recomputing_keeps_little_but_the_inputs_of_blocks(decoder: str) -> None:
    model, batch = make(decoder)
    everything = kept_bytes(model, batch)
    recompute_blocks(model, True)
    inputs = kept_bytes(model, batch)
    assert inputs < everything / 5
    # What a block keeps of its own: one float32 row per token, and for `cross` the memory, which all its
    # blocks share.
    num_visible, num_queries = len(batch.visible_ids), len(batch.query_ids)
    rows = num_queries if decoder == "cross" else num_visible + num_queries
    blocks = 4 * (6 * num_visible * 64 + 3 * rows * 32)
    assert blocks < inputs < 2.5 * blocks


def test_without_gradients_nothing_is_kept() -> None:
    model, batch = make("cross")
    with torch.no_grad():
        expected = model(batch).predictions
        recompute_blocks(model, True)
        assert torch.equal(model(batch).predictions, expected)
