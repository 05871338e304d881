"""The model on packed tokens with torch's own attention for sequences of different lengths, and the weights
of an `LSM2`.

- nested: SDPA on jagged nested tensors, which are views of the packed rows; q, k and v come from a product
  each, so that nothing is copied;
- flex: compiled FlexAttention with a document mask.

Both with the `full` decoder, where every day has all N tokens and plain SDPA needs no mask, and with the
`cross` decoder. What they need to know of a batch, such as the longest length or the block mask, is found
once, before the step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from benchmarks.step.dense import DenseBatch, apply_block, decode_full, find_days, find_places
from lsm2 import LSM2
from lsm2.data import PackedBatch
from lsm2.model.attention import SelfAttention
from lsm2.model.block import CrossBlock, SelfBlock
from lsm2.model.decoder import CrossDecoder

AttendRows = Callable[[Tensor, Tensor, Tensor], Tensor]
"""q (T_q, H, D), k and v (T_k, H, D) -> (T_q, H, D)."""


@dataclass(frozen=True)
class LaidOut:
    """A PackedBatch; for the `full` decoder also its targets and visible tokens among all N tokens."""

    batch: PackedBatch
    days: DenseBatch
    visible_at: Tensor

    @classmethod
    def of(cls, batch: PackedBatch, num_tokens: int) -> LaidOut:
        visible_at = find_places(batch.visible_ids, batch.cu_visible, num_tokens)
        return cls(batch, DenseBatch.of(batch, num_tokens), visible_at)


@dataclass(frozen=True)
class PreparedBatch:
    """With attention among visible tokens, and of queries to visible tokens."""

    laid_out: LaidOut
    among_visible: AttendRows
    to_visible: AttendRows
    count_pairs: Callable[[], tuple[float, float]]
    """How many pairs of a query and a key each of the two computes."""


@dataclass(frozen=True)
class Jagged:
    """Offsets (B + 1,) int64 of sequences, and their extreme lengths, which SDPA would look for."""

    offsets: Tensor
    shortest: int
    longest: int

    @classmethod
    def of(cls, cu_seqlens: Tensor) -> Jagged:
        lengths = cu_seqlens.diff()
        shortest, longest = torch.stack([lengths.min(), lengths.max()]).tolist()
        return cls(cu_seqlens.long(), shortest, longest)

    def nest(self, rows: Tensor) -> Tensor:
        """rows (T, H, D) -> (B, H, n*, D)."""
        jagged = torch.nested.nested_tensor_from_jagged(
            rows, self.offsets, min_seqlen=self.shortest, max_seqlen=self.longest
        )
        return jagged.transpose(1, 2)


def prepare_nested(laid_out: LaidOut) -> PreparedBatch:
    """Offsets and extreme lengths. On a CPU torch pads the products inside, which the pairs count."""
    batch = laid_out.batch
    visible, queries = Jagged.of(batch.cu_visible), Jagged.of(batch.cu_query)

    def attend(of_queries: Jagged, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = F.scaled_dot_product_attention(of_queries.nest(q), visible.nest(k), visible.nest(v))
        return out.transpose(1, 2).values()

    def count_pairs(of_queries: Jagged) -> float:
        if batch.cu_visible.is_cuda:
            return float((of_queries.offsets.diff() * visible.offsets.diff()).sum())
        return float(batch.num_days * of_queries.longest * visible.longest)

    ways = functools.partial(attend, visible), functools.partial(attend, queries)
    return PreparedBatch(laid_out, *ways, lambda: (count_pairs(visible), count_pairs(queries)))


def prepare_flex(laid_out: LaidOut, *, cross: bool) -> PreparedBatch:
    """Block masks: query and key belong together if their days are equal; pairs of whole blocks."""
    batch = laid_out.batch
    visible_day = find_days(batch.cu_visible, len(batch.visible_ids))
    among_visible, count_among = _attend_by_flex(visible_day, visible_day)
    if not cross:
        return PreparedBatch(laid_out, among_visible, among_visible, lambda: (count_among(), 0.0))
    to_visible, count_to = _attend_by_flex(find_days(batch.cu_query, len(batch.query_ids)), visible_day)
    return PreparedBatch(laid_out, among_visible, to_visible, lambda: (count_among(), count_to()))


def packed_full_loss(model: LSM2, prepared: PreparedBatch) -> Tensor:
    """Encode packed tokens, put them into their places, decode all N."""
    laid_out = prepared.laid_out
    projected = model.decoder.project(_encode(model, prepared))
    num_days, num_tokens = laid_out.days.visible.shape
    everywhere = model.decoder.mask_token.to(projected.dtype).expand(num_days * num_tokens, -1)
    tokens = everywhere.index_copy(0, laid_out.visible_at, projected).unflatten(0, (num_days, num_tokens))
    return decode_full(model, tokens, laid_out.days)


def packed_cross_loss(model: LSM2, prepared: PreparedBatch) -> Tensor:
    """Encode packed tokens, and let each query read them."""
    batch, decoder = prepared.laid_out.batch, model.decoder
    assert isinstance(decoder, CrossDecoder)
    memory = decoder.norm_memory(
        decoder.project(_encode(model, prepared)) + decoder.positions(batch.visible_ids)
    )
    queries = decoder.mask_token + decoder.positions(batch.query_ids)
    for block in cast(Iterable[CrossBlock], decoder.blocks):
        attention = block.attention
        (q,) = _project_apart(attention.query, block.norm_attention(queries), 1, attention.heads)
        k, v = _project_apart(attention.key_value, memory, 2, attention.heads)
        queries = queries + attention.out(prepared.to_visible(q, k, v).flatten(1))
        queries = queries + block.mlp(block.norm_mlp(queries))
    predictions = decoder.head(decoder.norm(queries)).float()
    error = torch.where(batch.target_observed, predictions - batch.target_values, 0.0)
    return error.square().sum() / batch.target_observed.sum().clamp(min=1)


def _encode(model: LSM2, prepared: PreparedBatch) -> Tensor:
    batch, encoder = prepared.laid_out.batch, model.encoder

    def attend(attention: SelfAttention, x: Tensor) -> Tensor:
        q, k, v = _project_apart(attention.qkv, x, 3, attention.heads)
        return prepared.among_visible(q, k, v).flatten(1)

    tokens = encoder.embed(batch.visible_patches) + encoder.positions(batch.visible_ids)
    for block in cast(Iterable[SelfBlock], encoder.blocks):
        tokens = apply_block(block, tokens, attend)
    return encoder.norm(tokens)


def _project_apart(linear: nn.Linear, tokens: Tensor, parts: int, heads: int) -> list[Tensor]:
    """The parts of the layer's output, each (T, H, D) and contiguous."""
    weights = zip(linear.weight.chunk(parts), linear.bias.chunk(parts), strict=True)
    return [F.linear(tokens, weight, bias).unflatten(1, (heads, -1)) for weight, bias in weights]


def _attend_by_flex(query_day: Tensor, key_day: Tensor) -> tuple[AttendRows, Callable[[], float]]:
    flex, create_mask = _compiled_flex(query_day.is_cuda)

    def same_day(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return query_day[query] == key_day[key]

    block_mask = create_mask(same_day, None, None, len(query_day), len(key_day), device=query_day.device)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = flex(*(x.transpose(0, 1)[None] for x in (q, k, v)), block_mask=block_mask)
        return out[0].transpose(0, 1)

    return attend, lambda: len(query_day) * len(key_day) * (1 - block_mask.sparsity() / 100)


@functools.cache
def _compiled_flex(on_gpu: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """FlexAttention, and what makes its masks: only a GPU has so many tokens that this must be compiled."""
    create_mask = torch.compile(create_block_mask, dynamic=True) if on_gpu else create_block_mask
    return torch.compile(flex_attention, dynamic=True), create_mask
