"""The six ops for CUDA and HIP tensors, and for CPU tensors under Triton's interpreter (TRITON_INTERPRET=1).

Nothing here waits for the device or looks at a value: grids follow from shapes, so that CUDA graphs may replay a launch with other
cu_seqlens. Shapes and dtypes were checked by the public functions; every output is allocated here, uninitialised, and wholly written.
"""

import functools
import math
from typing import Any

import torch
from torch import Tensor

from . import tiles
from .attention_backward import attention_backward_delta, attention_backward_dkdv, attention_backward_dq
from .attention_forward import attention_forward
from .packing import gather_rows, invert_indices
from .rows import STRIDE_UNIT
from .schedule import num_tiles


def varlen_attention(q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Softmax attention within each sequence: q (T_q, H, D), k and v (T_k, H_kv, D) -> out (T_q, H, D), lse (H, T_q) float32."""
    num_queries, num_heads, _ = q.shape
    out = q.new_empty(q.shape)
    lse = q.new_empty((num_heads, num_queries), dtype=torch.float32)
    if out.numel() == 0:
        return out, lse
    q, k, v = _readable(q), _readable(k), _readable(v)
    constants, options = _configure("forward", q, k)
    num_sequences = cu_seqlens_q.shape[0] - 1
    attention_forward[num_tiles(num_queries, num_sequences, constants["BLOCK_M"]), num_heads](
        q, k, v, cu_seqlens_q.contiguous(), cu_seqlens_k.contiguous(), out, lse, scale,
        *_strides(q), *_strides(k), *_strides(v), _strides(out)[0],
        num_queries, k.shape[0], num_sequences, **constants, **options,
    )  # fmt: skip
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
    _write_gradients(grad_out, grad_lse, q, k, v, out, lse, cu_seqlens_q, cu_seqlens_k, scale, dq, dk, dv)
    return dq, dk, dv


def varlen_attention_qkvpacked(qkv: Tensor, cu_seqlens: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Self-attention within each sequence of qkv (T, 3, H, D) -> out (T, H, D), lse (H, T) float32."""
    q, k, v = qkv.unbind(1)
    return varlen_attention(q, k, v, cu_seqlens, cu_seqlens, scale)


def varlen_attention_qkvpacked_backward(
    grad_out: Tensor, grad_lse: Tensor | None, qkv: Tensor, out: Tensor, lse: Tensor, cu_seqlens: Tensor, scale: float
) -> Tensor:
    """Gradient (T, 3, H, D) of varlen_attention_qkvpacked's two results, written in place by the kernels: no copy."""
    dqkv = qkv.new_empty(qkv.shape)
    q, k, v = qkv.unbind(1)
    dq, dk, dv = dqkv.unbind(1)
    _write_gradients(grad_out, grad_lse, q, k, v, out, lse, cu_seqlens, cu_seqlens, scale, dq, dk, dv)
    return dqkv


def pack(x: Tensor, indices: Tensor) -> Tensor:
    """Rows of x (R, ...) named by indices (T,) -> (T, ...); an index outside [0, R) gives a row of zeros."""
    return _gather(x, indices.contiguous(), None)


def unpack(x: Tensor, indices: Tensor, fill: Tensor | None, num_rows: int) -> Tensor:
    """Rows of x (T, ...) put at indices (T,) -> (num_rows, ...); the other rows are `fill` or zeros, indices outside are ignored."""
    inverse = indices.new_full((num_rows,), -1, dtype=torch.int32)
    if indices.shape[0] > 0 and num_rows > 0:
        constants, options = tiles.invert_settings()
        grid = (-(-indices.shape[0] // constants["BLOCK"]),)
        invert_indices[grid](indices.contiguous(), inverse, num_rows, indices.shape[0], **constants, **options)
    return _gather(x, inverse, fill)


def _write_gradients(
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
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
) -> None:
    num_queries, num_heads, _ = q.shape
    num_keys, num_kv_heads, _ = k.shape
    num_sequences = cu_seqlens_q.shape[0] - 1
    grad_out, q, k, v = _readable(grad_out), _readable(q), _readable(k), _readable(v)
    out, lse = out.contiguous(), lse.contiguous()
    grad_lse = None if grad_lse is None else grad_lse.contiguous()
    cu_seqlens = cu_seqlens_q.contiguous(), cu_seqlens_k.contiguous()
    delta = torch.empty_like(lse)
    totals = num_queries, num_keys, num_sequences
    if dq.numel() > 0:
        constants, options = _configure("delta", q, k)
        attention_backward_delta[-(-num_queries // constants["BLOCK_M"]), num_heads](
            out, grad_out, grad_lse, delta, _strides(out)[0], *_strides(grad_out), num_queries, **constants, **options
        )
        constants, options = _configure("dq", q, k)
        attention_backward_dq[num_tiles(num_queries, num_sequences, constants["BLOCK_M"]), num_heads](
            q, k, v, grad_out, lse, delta, *cu_seqlens, dq, scale,
            *_strides(q), *_strides(k), *_strides(v), *_strides(grad_out), *_strides(dq), *totals, **constants, **options,
        )  # fmt: skip
    if dk.numel() > 0:
        constants, options = _configure("dkdv", q, k)
        attention_backward_dkdv[num_tiles(num_keys, num_sequences, constants["BLOCK_N"]), num_kv_heads](
            q, k, v, grad_out, lse, delta, *cu_seqlens, dk, dv, scale,
            *_strides(q), *_strides(k), *_strides(v), *_strides(grad_out), *_strides(dk), *_strides(dv), *totals, **constants, **options,
        )  # fmt: skip


def _gather(x: Tensor, indices: Tensor, fill: Tensor | None) -> Tensor:
    num_rows, num_indices, width = x.shape[0], indices.shape[0], math.prod(x.shape[1:])
    out = x.new_empty((num_indices, *x.shape[1:]))
    if out.numel() == 0:
        return out
    as_integers = tiles.INTEGERS[x.element_size()]  # rows are moved, not computed with: bits stay, and few kernels serve all dtypes
    rows = x.reshape(num_rows, width)
    rows = rows if rows.stride(1) == 1 else rows.contiguous()
    fill = None if fill is None else fill.to(x.dtype).reshape(width).contiguous().view(as_integers)
    constants, options = tiles.gather_settings(width)
    grid = -(-num_indices // constants["BLOCK_ROWS"]), -(-width // constants["BLOCK_WIDTH"])
    gather_rows[grid](
        rows.view(as_integers), indices, fill, out.view(as_integers), rows.stride(0), width, num_rows, num_indices, **constants, **options
    )
    return out


def _readable(x: Tensor) -> Tensor:
    """x itself where the kernels can read it: a contiguous last dim, whole stride units, blocks of rows that 32 bits span."""
    whole = all(stride % STRIDE_UNIT.value == 0 for stride in x.stride()[:-1])
    return x if x.stride(-1) == 1 and whole and x.stride(0) < 2**23 else x.contiguous()


def _strides(x: Tensor) -> tuple[int, int]:
    """Strides of rows and heads, in the unit that the kernels take."""
    return x.stride(0) // STRIDE_UNIT.value, x.stride(1) // STRIDE_UNIT.value


def _configure(kernel: str, q: Tensor, k: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
    return tiles.attention_settings(kernel, q.shape[2], q.dtype, _architecture(q.device), q.shape[1] // k.shape[1])


@functools.cache
def _architecture(device: torch.device) -> str:
    if device.type == "cpu":
        return "sm_90"  # the interpreter takes any tile; these are the ones that serve most
    if torch.version.hip is not None:
        return "gfx942"
    return f"sm_{10 * major}" if (major := torch.cuda.get_device_capability(device)[0]) in (8, 9, 10) else "sm_80"
