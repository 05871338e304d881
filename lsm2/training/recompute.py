"""Activation checkpointing: blocks keep only their inputs for the backward pass and compute the rest again
there.
"""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from lsm2.model.block import CrossBlock, SelfBlock


def recompute_blocks(model: nn.Module, recompute: bool) -> None:
    """Whether the transformer blocks of a model compute their activations again in the backward pass; its
    results stay the same bits.
    """
    for module in model.modules():
        if isinstance(module, (CrossBlock, SelfBlock)):
            vars(module).pop("forward", None)
            if not recompute:
                continue
            # Nothing in a block is random, so no state of a generator has to be kept.
            module.forward = partial(
                checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False
            )
