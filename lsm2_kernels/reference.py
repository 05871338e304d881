"""Plain-PyTorch version of every op: it defines what is right, and serves devices without compiled kernels.

float32, bfloat16 and float16 are computed in float32; float64 stays float64. One sequence is computed at a
time, so its bits depend on no other sequence. The backward is written by formula, because autograd does not
reach behind the dispatcher.
"""

from itertools import pairwise

import torch
from torch import Tensor


def varlen_attention(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention within each sequence: q (T_q, H, D), k, v (T_k, H_kv, D) -> out (T_q, H, D), lse (H, T_q)."""
    num_kv_heads = k.shape[1]
    out = q.new_zeros(q.shape)
    lse = q.new_full((q.shape[1], q.shape[0]), -torch.inf, dtype=_compute_dtype(q))
    for rows_q, rows_k in _sequences(cu_seqlens_q, cu_seqlens_k, q.shape[0], k.shape[0]):
        query, key, value = (_by_head(x, num_kv_heads) for x in (q[rows_q], k[rows_k], v[rows_k]))
        scores = scale * (query @ key.mT)
        lse[:, rows_q] = scores.logsumexp(-1).flatten(0, 1)
        out[rows_q] = _by_row(scores.softmax(-1) @ value, out.dtype)
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
    """Gradients dq (T_q, H, D), dk and dv (T_k, H_kv, D) of varlen_attention's two results.

    Kernels save work with `out` and `lse`; here the softmax is computed again, with one rounding fewer.
    """
    num_kv_heads = k.shape[1]
    dq, dk, dv = q.new_zeros(q.shape), k.new_zeros(k.shape), v.new_zeros(v.shape)
    for rows_q, rows_k in _sequences(cu_seqlens_q, cu_seqlens_k, q.shape[0], k.shape[0]):
        query, key, value, grad = (
            _by_head(x, num_kv_heads) for x in (q[rows_q], k[rows_k], v[rows_k], grad_out[rows_q])
        )
        probability = (scale * (query @ key.mT)).softmax(-1)
        grad_probability = grad @ value.mT
        delta = (probability * grad_probability).sum(-1, keepdim=True)
        if grad_lse is not None:
            delta = delta - grad_lse[:, rows_q].to(delta.dtype).reshape(delta.shape)
        grad_scores = scale * probability * (grad_probability - delta)
        dq[rows_q] = _by_row(grad_scores @ key, dq.dtype)
        dk[rows_k] = _by_row((grad_scores.mT @ query).sum(1, keepdim=True), dk.dtype)
        dv[rows_k] = _by_row((probability.mT @ grad).sum(1, keepdim=True), dv.dtype)
    return dq, dk, dv


def varlen_attention_qkvpacked(qkv: Tensor, cu_seqlens: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Self-attention within each sequence of qkv (T, 3, H, D) -> out (T, H, D), lse (H, T)."""
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
    """Gradient (T, 3, H, D) of varlen_attention_qkvpacked's two results."""
    q, k, v = qkv.unbind(1)
    return torch.stack(
        varlen_attention_backward(grad_out, grad_lse, q, k, v, out, lse, cu_seqlens, cu_seqlens, scale), dim=1
    )


def masked_attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Softmax attention among the kept tokens of each row of a batch.

    q (B, H, N, D), k and v (B, H_kv, N, D), keep (B, N) -> out (B, H, N, D), lse (B, H, N).
    """
    offsets = _kept_offsets(keep)
    out, lse = varlen_attention(
        _kept_rows(q, keep), _kept_rows(k, keep), _kept_rows(v, keep), offsets, offsets, scale
    )
    all_lse = lse.new_full((q.shape[0], q.shape[2], q.shape[1]), -torch.inf)
    all_lse[keep] = lse.T
    return _put_back(out, keep), all_lse.transpose(1, 2).contiguous()


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
    offsets = _kept_offsets(keep)
    grad_out, q, k, v, out = (_kept_rows(x, keep) for x in (grad_out, q, k, v, out))
    grad_lse = None if grad_lse is None else grad_lse.transpose(1, 2)[keep].T
    lse = lse.transpose(1, 2)[keep].T
    dq, dk, dv = varlen_attention_backward(grad_out, grad_lse, q, k, v, out, lse, offsets, offsets, scale)
    return _put_back(dq, keep), _put_back(dk, keep), _put_back(dv, keep)


def pack(x: Tensor, indices: Tensor) -> Tensor:
    """Rows of x (R, ...) named by indices (T,) -> (T, ...); an index outside [0, R) gives a row of zeros."""
    packed = x.new_zeros(indices.shape[0], *x.shape[1:])
    inside = (indices >= 0) & (indices < x.shape[0])
    packed[inside] = x[indices[inside]]
    return packed


def unpack(x: Tensor, indices: Tensor, fill: Tensor | None, num_rows: int) -> Tensor:
    """Rows of x (T, ...) put at indices (T,) -> (num_rows, ...); the other rows are `fill` or zeros.

    Indices outside [0, num_rows) are ignored.
    """
    shape = (num_rows, *x.shape[1:])
    unpacked = x.new_zeros(shape) if fill is None else fill.expand(shape).clone()
    inside = (indices >= 0) & (indices < num_rows)
    unpacked[indices[inside]] = x[inside]
    return unpacked


def _kept_rows(x: Tensor, keep: Tensor) -> Tensor:
    """(B, H, N, D) -> (T, H, D)."""
    return x.transpose(1, 2)[keep]


def _put_back(rows: Tensor, keep: Tensor) -> Tensor:
    """Undo _kept_rows, with zeros where not kept."""
    x = rows.new_zeros((*keep.shape, *rows.shape[1:]))
    x[keep] = rows
    return x.transpose(1, 2)


def _kept_offsets(keep: Tensor) -> Tensor:
    return torch.nn.functional.pad(keep.sum(1).cumsum(0), (1, 0))


def _compute_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _sequences(
    cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, total_q: int, total_k: int
) -> list[tuple[slice, slice]]:
    bounds_q, bounds_k = cu_seqlens_q.tolist(), cu_seqlens_k.tolist()
    for bounds, total in ((bounds_q, total_q), (bounds_k, total_k)):
        if bounds[0] != 0 or bounds != sorted(bounds) or bounds[-1] > total:
            raise RuntimeError(
                f"cu_seqlens must start at 0, never decrease and end at or before {total} rows; got {bounds}"
            )
    rows_q = [slice(start, stop) for start, stop in pairwise(bounds_q)]
    rows_k = [slice(start, stop) for start, stop in pairwise(bounds_k)]
    return list(zip(rows_q, rows_k, strict=True))


def _by_head(rows: Tensor, num_kv_heads: int) -> Tensor:
    """(L, H, D) -> (H_kv, H / H_kv, L, D) in the dtype to compute in.

    Always a new tensor, because matrix products may round differently for differently aligned memory.
    """
    length, num_heads, head_dim = rows.shape
    by_head = rows.new_empty(num_heads, length, head_dim, dtype=_compute_dtype(rows))
    return by_head.copy_(rows.transpose(0, 1)).view(num_kv_heads, num_heads // num_kv_heads, length, head_dim)


def _by_row(by_head: Tensor, dtype: torch.dtype) -> Tensor:
    """Undo _by_head: (H_kv, H / H_kv, L, D) -> (L, H, D)."""
    return by_head.flatten(0, 1).transpose(0, 1).to(dtype)
