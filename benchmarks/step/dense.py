"""The `full` model as others compute it: plain PyTorch with the weights of an `LSM2`, a place for every
token, and key masks.

Which tokens enter the encoder differs: all of them, half of them, or as many as the day with the most visible
ones has. This choice is made once per batch, before the step. Then every way gives the loss of the model
itself. Key masks are (B, 1, 1, n) and broadcast, the cheapest form for scaled_dot_product_attention;
positions of all tokens are broadcast, too, and only what was encoded is projected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from lsm2 import LSM2
from lsm2.data import PackedBatch
from lsm2.model.attention import SelfAttention
from lsm2.model.block import SelfBlock

Attend = Callable[[SelfAttention, Tensor], Tensor]
DROPPED = 0.5
"""Of the tokens, in the paper's way."""


@dataclass(frozen=True)
class DenseBatch:
    """A PackedBatch with a place for every token: visible is (B, N) bool, the others are (B, N, P)."""

    patches: Tensor
    visible: Tensor
    target_values: Tensor
    target_observed: Tensor

    @classmethod
    def of(cls, batch: PackedBatch, num_tokens: int) -> DenseBatch:
        """On the batch's device."""
        num_days = batch.num_days
        visible_at = find_places(batch.visible_ids, batch.cu_visible, num_tokens)
        query_at = find_places(batch.query_ids, batch.cu_query, num_tokens)

        def dense(rows: Tensor, at: Tensor) -> Tensor:
            everywhere = rows.new_zeros(num_days * num_tokens, *rows.shape[1:])
            return everywhere.index_copy(0, at, rows).unflatten(0, (num_days, num_tokens))

        return cls(
            patches=dense(batch.visible_patches, visible_at),
            visible=dense(torch.ones_like(visible_at, dtype=torch.bool), visible_at),
            target_values=dense(batch.target_values, query_at),
            target_observed=dense(batch.target_observed, query_at),
        )


@dataclass(frozen=True)
class ChosenBatch:
    """What enters the encoder: patches (B, n, P), key_mask (B, 1, 1, n) bool, ids (B, n), None for all N."""

    days: DenseBatch
    patches: Tensor
    key_mask: Tensor
    ids: Tensor | None

    @property
    def num_tokens(self) -> int:
        """n."""
        return self.patches.shape[1]


def choose_all(days: DenseBatch) -> ChosenBatch:
    """All N tokens, hidden ones as keys that nobody may attend to."""
    return ChosenBatch(days, days.patches, days.visible[:, None, None, :], None)


def choose_half(days: DenseBatch) -> ChosenBatch:
    """The paper's way, as far as known: a fixed part of tokens is dropped, hidden first, others masked."""
    num_tokens = days.visible.shape[1]
    count = num_tokens - int(DROPPED * num_tokens)
    if int(days.visible.sum(1).max()) > count:
        raise ValueError(f"a day has more than {count} visible tokens: the paper's way would drop some")
    return _choose_first(days, count)


def choose_longest(days: DenseBatch) -> ChosenBatch:
    """Every day's visible tokens, padded to those of the day that has most; a key mask blocks the padding."""
    return _choose_first(days, int(days.visible.sum(1).max()))


def _choose_first(days: DenseBatch, count: int) -> ChosenBatch:
    ids = days.visible.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :count]
    patches = days.patches.gather(1, ids[..., None].expand(-1, -1, days.patches.shape[2]))
    return ChosenBatch(days, patches, days.visible.gather(1, ids)[:, None, None, :], ids)


def full_loss(model: LSM2, batch: ChosenBatch) -> Tensor:
    """Encode the chosen tokens, put them into their places, decode all N."""
    encoder = model.encoder
    positions = (
        encoder.positions.table
        if batch.ids is None
        else encoder.positions(batch.ids.flatten()).unflatten(0, batch.ids.shape)
    )
    tokens = encoder.embed(batch.patches) + positions
    for block in cast(Iterable[SelfBlock], encoder.blocks):
        tokens = apply_block(block, tokens, lambda attention, x: attend_dense(attention, x, batch.key_mask))
    projected = model.decoder.project(encoder.norm(tokens))
    if batch.ids is not None:
        width = projected.shape[-1]
        everywhere = projected.new_zeros(*batch.days.visible.shape, width)
        projected = everywhere.scatter(1, batch.ids[..., None].expand(-1, -1, width), projected)
    mask_token = model.decoder.mask_token.to(projected.dtype)
    return decode_full(model, torch.where(batch.days.visible[..., None], projected, mask_token), batch.days)


def decode_full(model: LSM2, tokens: Tensor, days: DenseBatch) -> Tensor:
    """The loss, from tokens (B, N, decoder width), the mask token wherever not visible; all attend to all."""
    decoder = model.decoder
    tokens = tokens + decoder.positions.table
    for block in cast(Iterable[SelfBlock], decoder.blocks):
        tokens = apply_block(block, tokens, attend_dense)
    predictions = decoder.head(decoder.norm(tokens)).float()
    error = torch.where(days.target_observed, predictions - days.target_values, 0.0)
    return error.square().sum() / days.target_observed.sum().clamp(min=1)


def apply_block(block: SelfBlock, tokens: Tensor, attend: Attend) -> Tensor:
    """The block with another attention."""
    tokens = tokens + block.attention.out(attend(block.attention, block.norm_attention(tokens)))
    return tokens + block.mlp(block.norm_mlp(tokens))


def attend_dense(attention: SelfAttention, tokens: Tensor, key_mask: Tensor | None = None) -> Tensor:
    """tokens (B, n, width) -> (B, n, width), before the output layer."""
    # In this order the gradients of q, k and v are joined in one copy, as the linear layer wants it.
    q, k, v = (
        x.transpose(1, 2) for x in attention.qkv(tokens).unflatten(-1, (3, attention.heads, -1)).unbind(2)
    )
    return scaled_dot_product_attention(q, k, v, attn_mask=key_mask).transpose(1, 2).flatten(2)


def find_places(ids: Tensor, cu_seqlens: Tensor, num_tokens: int) -> Tensor:
    """Positions (T,) in B * N of packed tokens."""
    return find_days(cu_seqlens, len(ids)) * num_tokens + ids


def find_days(cu_seqlens: Tensor, total: int) -> Tensor:
    """The day (T,) of each of T packed tokens."""
    days = torch.arange(len(cu_seqlens) - 1, device=cu_seqlens.device)
    return torch.repeat_interleave(days, cu_seqlens.diff(), output_size=total)
