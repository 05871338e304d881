"""The ops for CUDA and HIP tensors, and for CPU tensors under Triton's interpreter (TRITON_INTERPRET=1).

Nothing here waits for the device or reads a value: grids follow from shapes, so CUDA graphs can replay a
launch with other cu_seqlens. The public functions have checked shapes and dtypes. Outputs are allocated here
uninitialised, and fully written.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import tiles
from .attention_backward import attention_backward_delta, attention_backward_dkdv, attention_backward_dq
from .attention_forward import attention_forward
from .find_tile import num_tiles
from .packing import INTEGERS, gather_rows, gather_settings, index_settings, invert_indices, locate_tokens
from .rows import STRIDE_UNIT


@dataclass(frozen=True)
class Sequences:
    """Offsets (N + 1,) of the sequences among packed rows; for a padded batch also their tokens (B * N,)."""

    cu_seqlens_q: Tensor
    cu_seqlens_k: Tensor
    positions: Tensor | None = None

    def __len__(self) -> int:
        return self.cu_seqlens_q.shape[0] - 1


def varlen_attention(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention within each sequence: q (T_q, H, D), k, v (T_k, H_kv, D) -> out (T_q, H, D), lse (H, T_q)."""
    out, lse = q.new_empty(q.shape), q.new_empty((q.shape[1], q.shape[0]), dtype=torch.float32)
    _write_attention(
        q, k, v, Sequences(cu_seqlens_q.contiguous(), cu_seqlens_k.contiguous()), scale, out, lse
    )
    return out, lse


def varlen_attention_backward(
    grad_out: Tensor,
    grad_lse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients dq (T_q, H, D), dk and dv (T_k, H_kv, D) of varlen_attention's two results."""
    dq, dk, dv = q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)
    sequences = Sequences(cu_seqlens_q.contiguous(), cu_seqlens_k.contiguous())
    _write_gradients(grad_out, grad_lse, q, k, v, out, lse, sequences, scale, dq, dk, dv)
    return dq, dk, dv


def varlen_attention_qkvpacked(qkv: Tensor, cu_seqlens: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Self-attention within each sequence of qkv (T, 3, H, D) -> out (T, H, D), lse (H, T) float32."""
    q, k, v = qkv.unbind(1)
    return varlen_attention(q, k, v, cu_seqlens, cu_seqlens, scale)


def varlen_attention_qkvpacked_backward(
    grad_out: Tensor,
    grad_lse: Tensor | None,
    qkv: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_seqlens: Tensor,
    scale: float,
) -> Tensor:
    """Gradient (T, 3, H, D) of varlen_attention_qkvpacked's two results, which the kernels write in place."""
    dqkv = qkv.new_empty(qkv.shape)
    (q, k, v), (dq, dk, dv) = qkv.unbind(1), dqkv.unbind(1)
    cu_seqlens = cu_seqlens.contiguous()
    _write_gradients(
        grad_out, grad_lse, q, k, v, out, lse, Sequences(cu_seqlens, cu_seqlens), scale, dq, dk, dv
    )
    return dqkv


def masked_attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Attention among tokens that keep (B, N) marks: q (B, H, N, D) -> out (B, H, N, D), lse (B, H, N)."""
    out, lse = _empty_by_token(q), q.new_empty(q.shape[:3], dtype=torch.float32)
    _write_attention(q, k, v, _locate_kept(keep), scale, out, lse)
    return out, lse


def masked_attention_backward(
    grad_out: Tensor,
    grad_lse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keep: Tensor,
    out: Tensor,
    lse: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients dq (B, H, N, D), dk, dv (B, H_kv, N, D) of masked_attention's results; 0 where not kept."""
    dq, dk, dv = _empty_by_token(q), _empty_by_token(k), _empty_by_token(v)
    _write_gradients(grad_out, grad_lse, q, k, v, out, lse, _locate_kept(keep), scale, dq, dk, dv)
    return dq, dk, dv


def pack(x: Tensor, indices: Tensor) -> Tensor:
    """Rows of x (R, ...) named by indices (T,) -> (T, ...); an index outside [0, R) gives a row of zeros."""
    return _gather(x, indices.contiguous(), None)


def unpack(x: Tensor, indices: Tensor, fill: Tensor | None, num_rows: int) -> Tensor:
    """Rows of x (T, ...) put at indices (T,) -> (num_rows, ...); the other rows are `fill` or zeros.

    Indices outside [0, num_rows) are ignored.
    """
    inverse = indices.new_full((num_rows,), -1, dtype=torch.int32)
    if indices.shape[0] > 0 and num_rows > 0:
        constants, options = index_settings()
        grid = (-(-indices.shape[0] // constants["BLOCK"]),)
        invert_indices[grid](
            indices.contiguous(), inverse, num_rows, indices.shape[0], **constants, **options
        )
    return _gather(x, inverse, fill)


def _write_attention(
    q: Tensor, k: Tensor, v: Tensor, sequences: Sequences, scale: float, out: Tensor, lse: Tensor
) -> None:
    if out.numel() == 0:
        return
    if scale < 0:  # the kernel subtracts the largest score, which bounds the scaled ones only if scale >= 0
        q, scale = -q, -scale
    q, k, v = _readable(q), _readable(k), _readable(v)
    num_queries, num_keys = _num_rows(q), _num_rows(k)
    constants, options = _configure("forward", q, k, len(sequences))
    num_heads = q.shape[1]
    attention_forward[(num_tiles(num_queries, len(sequences), constants["BLOCK_M"]) * num_heads,)](
        q, k, v, sequences.cu_seqlens_q, sequences.cu_seqlens_k, sequences.positions, out, lse, scale,
        *_strides(q), *_strides(k), *_strides(v), *_strides(out), *_strides_of_numbers(lse),
        num_heads, num_queries, num_keys, len(sequences), **constants, **options,
    )  # fmt: skip


def _write_gradients(
    grad_out: Tensor,
    grad_lse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    sequences: Sequences,
    scale: float,
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
) -> None:
    num_queries, num_keys, num_heads, num_kv_heads = _num_rows(q), _num_rows(k), q.shape[1], k.shape[1]
    grad_out, q, k, v, out = (_readable(x) for x in (grad_out, q, k, v, out))
    lse = lse.contiguous()
    delta = torch.empty_like(lse)
    offsets = sequences.cu_seqlens_q, sequences.cu_seqlens_k, sequences.positions
    inputs = q, k, v, grad_out, lse, delta, *offsets
    strides = *_strides(q), *_strides(k), *_strides(v), *_strides(grad_out)
    strides = *strides, *_strides_of_numbers(lse), *_strides(dq)
    totals = num_queries, num_keys, len(sequences)
    if dq.numel() > 0:
        constants, options = _configure("delta", q, k, len(sequences))
        grad_lse = None if grad_lse is None else grad_lse.contiguous()
        attention_backward_delta[(-(-num_queries // constants["BLOCK_M"]) * num_heads,)](
            out, grad_out, grad_lse, sequences.cu_seqlens_q, sequences.positions, delta,
            *_strides(out), *_strides(grad_out), *_strides_of_numbers(lse),
            num_heads, num_queries, len(sequences), **constants, **options,
        )  # fmt: skip
        constants, options = _configure("dq", q, k, len(sequences))
        grid = (num_tiles(num_queries, len(sequences), constants["BLOCK_M"]) * num_heads,)
        attention_backward_dq[grid](*inputs, dq, scale, *strides, num_heads, *totals, **constants, **options)
    if dk.numel() > 0:
        constants, options = _configure("dkdv", q, k, len(sequences))
        grid = (num_tiles(num_keys, len(sequences), constants["BLOCK_N"]) * num_kv_heads,)
        attention_backward_dkdv[grid](
            *inputs, dq, dk, dv, scale, *strides, *_strides(dk), *_strides(dv),
            num_kv_heads, *totals, **constants, **options,
        )  # fmt: skip


def _gather(x: Tensor, indices: Tensor, fill: Tensor | None) -> Tensor:
    num_rows, num_indices, width = x.shape[0], indices.shape[0], math.prod(x.shape[1:])
    out = x.new_empty((num_indices, *x.shape[1:]))
    if out.numel() == 0:
        return out
    as_integers = INTEGERS[x.element_size()]
    rows = x.reshape(num_rows, width)
    rows = rows if rows.stride(1) == 1 else rows.contiguous()
    fill = None if fill is None else fill.to(x.dtype).reshape(width).contiguous().view(as_integers)
    constants, options = gather_settings(width)
    grid = -(-num_indices // constants["BLOCK_ROWS"]), -(-width // constants["BLOCK_WIDTH"])
    gather_rows[grid](
        rows.view(as_integers),
        indices,
        fill,
        out.view(as_integers),
        rows.stride(0),
        width,
        num_rows,
        num_indices,
        **constants,
        **options,
    )
    return out


def _locate_kept(keep: Tensor) -> Sequences:
    batch_size, seq_len = keep.shape
    cu_seqlens = torch.nn.functional.pad(keep.sum(1).cumsum(0), (1, 0))
    positions = cu_seqlens.new_empty(batch_size * seq_len)
    if positions.numel() > 0:
        constants, options = index_settings()
        as_bytes = keep.contiguous().view(torch.uint8)
        locate_tokens[(batch_size,)](
            as_bytes, cu_seqlens, positions, seq_len, batch_size, **constants, **options
        )
    return Sequences(cu_seqlens, cu_seqlens, positions)


def _empty_by_token(x: Tensor) -> Tensor:
    """A new tensor of the shape (B, H, N, D) of x, the heads of a token side by side in memory."""
    return torch.empty_like(x.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)


def _num_rows(x: Tensor) -> int:
    """Tokens of x, packed (T, H, D) or padded (B, H, N, D)."""
    return x.shape[0] if x.ndim == 3 else x.shape[0] * x.shape[2]


def _readable(x: Tensor) -> Tensor:
    """x itself where the kernels can read it, otherwise a contiguous copy.

    They need a contiguous last dim, strides of whole units, and blocks of packed rows within 32-bit offsets.
    """
    whole = all(stride % STRIDE_UNIT.value == 0 for stride in x.stride()[:-1])
    return x if x.stride(-1) == 1 and whole and (x.ndim == 4 or x.stride(0) < 2**23) else x.contiguous()


def _strides(x: Tensor) -> tuple[int, int, int]:
    """Strides, in STRIDE_UNIT, of sequences (0 where packed), tokens and heads of x, packed or padded."""
    batch, row, head = (
        (0, x.stride(0), x.stride(1)) if x.ndim == 3 else (x.stride(0), x.stride(2), x.stride(1))
    )
    return batch // STRIDE_UNIT.value, row // STRIDE_UNIT.value, head // STRIDE_UNIT.value


def _strides_of_numbers(x: Tensor) -> tuple[int, int]:
    """Strides of sequences (0 where packed) and heads of contiguous x (H, T) or (B, H, N)."""
    return (0, x.stride(0)) if x.ndim == 2 else (x.stride(0), x.stride(1))


def _configure(
    kernel: str, q: Tensor, k: Tensor, num_sequences: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    mean_length = _num_rows(q) / max(num_sequences, 1)
    return tiles.attention_settings(
        kernel, q.shape[-1], q.dtype, _architecture(q.device), q.shape[1] // k.shape[1], mean_length
    )


@functools.cache
def _architecture(device: torch.device) -> str:
    if device.type == "cpu":
        return "sm_90"  # the interpreter runs any tile
    if torch.version.hip is not None:
        return "gfx942"
    return tiles.architecture_of(*torch.cuda.get_device_capability(device))
