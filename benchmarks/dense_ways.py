"""The `full` model as others compute it: plain PyTorch with the weights of an `LSM2`, dense tensors and key masks instead of packing.

Each way gives the loss of the model itself. Key masks are (B, 1, 1, N) and broadcast, the cheapest form for scaled_dot_product_attention.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from lsm2 import LSM2
from lsm2.data import PackedBatch


@dataclass(frozen=True)
class DenseBatch:
    """A PackedBatch with a place for every token: patches (B, N, P), visible (B, N) bool, target_values and target_observed (B, N, P)."""

    patches: Tensor
    visible: Tensor
    target_values: Tensor
    target_observed: Tensor

    @classmethod
    def of(cls, batch: PackedBatch, num_tokens: int) -> DenseBatch:
        """On the batch's device."""
        num_days = batch.num_days
        visible_at = _flat_positions(batch.visible_ids, batch.cu_visible, num_tokens)
        query_at = _flat_positions(batch.query_ids, batch.cu_query, num_tokens)

        def dense(rows: Tensor, at: Tensor) -> Tensor:
            everywhere = rows.new_zeros(num_days * num_tokens, *rows.shape[1:])
            return everywhere.index_copy(0, at, rows).unflatten(0, (num_days, num_tokens))

        return cls(
            patches=dense(batch.visible_patches, visible_at),
            visible=dense(torch.ones_like(visible_at, dtype=torch.bool), visible_at),
            target_values=dense(batch.target_values, query_at),
            target_observed=dense(batch.target_observed, query_at),
        )


def dense_loss(model: LSM2, batch: DenseBatch) -> Tensor:
    """All N tokens go through the encoder, hidden ones as keys that nobody may attend to."""
    return _loss(model, batch, _encode(model, batch.patches, _all_ids(batch), batch.visible))


def paper_loss(model: LSM2, batch: DenseBatch, drop_fraction: float = 0.5) -> Tensor:
    """The paper's way as far as it is known: a fixed part of the tokens is dropped, hidden ones first; a key mask blocks the rest."""
    num_tokens = batch.visible.shape[1]
    order = batch.visible.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    return _encode_some(model, batch, order[:, : num_tokens - int(drop_fraction * num_tokens)])


def padded_loss(model: LSM2, batch: DenseBatch, longest: int) -> Tensor:
    """Every day's visible tokens are padded to the batch's `longest`; a key mask blocks the padding."""
    order = batch.visible.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    return _encode_some(model, batch, order[:, :longest])


def _encode_some(model: LSM2, batch: DenseBatch, ids: Tensor) -> Tensor:
    patches = batch.patches.gather(1, ids[..., None].expand(-1, -1, batch.patches.shape[2]))
    encoded = _encode(model, patches, ids, batch.visible.gather(1, ids))
    width = encoded.shape[-1]
    everywhere = encoded.new_zeros(*batch.visible.shape, width).scatter(1, ids[..., None].expand(-1, -1, width), encoded)
    return _loss(model, batch, everywhere)


def _encode(model: LSM2, patches: Tensor, ids: Tensor, visible: Tensor) -> Tensor:
    encoder = model.encoder
    tokens = encoder.embed(patches) + _positions(encoder, ids)
    for block in encoder.blocks:
        tokens = _block(block, tokens, visible[:, None, None, :])
    return encoder.norm(tokens)


def _loss(model: LSM2, batch: DenseBatch, encoded: Tensor) -> Tensor:
    """The full decoder: the mask token at every position that is not visible, attention among all positions."""
    decoder = model.decoder
    projected = decoder.project(encoded)
    tokens = torch.where(batch.visible[..., None], projected, decoder.mask_token.to(projected.dtype)) + _positions(decoder, _all_ids(batch))
    for block in decoder.blocks:
        tokens = _block(block, tokens, None)
    predictions = decoder.head(decoder.norm(tokens)).float()
    error = torch.where(batch.target_observed, predictions - batch.target_values, 0.0)
    return error.square().sum() / batch.target_observed.sum().clamp(min=1)


def _block(block, tokens: Tensor, key_mask: Tensor | None) -> Tensor:
    attention = block.attention
    q, k, v = attention.qkv(block.norm_attention(tokens)).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
    attended = scaled_dot_product_attention(q, k, v, attn_mask=key_mask).transpose(1, 2).flatten(2)
    tokens = tokens + attention.out(attended)
    return tokens + block.mlp(block.norm_mlp(tokens))


def _positions(part, ids: Tensor) -> Tensor:
    return part.positions(ids.flatten()).unflatten(0, ids.shape)


def _all_ids(batch: DenseBatch) -> Tensor:
    num_days, num_tokens = batch.visible.shape
    return torch.arange(num_tokens, device=batch.visible.device).expand(num_days, -1)


def _flat_positions(ids: Tensor, cu_seqlens: Tensor, num_tokens: int) -> Tensor:
    """Positions (T,) in B * N of packed tokens."""
    day = torch.searchsorted(cu_seqlens, torch.arange(len(ids), device=ids.device), right=True) - 1
    return day * num_tokens + ids
