"""Backward of packed attention (FlashAttention-2, Dao 2023, algorithm 2) in three kernels that share no sum, so need no atomics.

With P the softmax weights and dP = dO V^T, the gradient of the scores is dS = P (dP - delta), where delta = rowsum(dO O) - dlse.
"""

import triton
import triton.language as tl

from .rows import UNSPECIALISED, load_numbers, load_rows, point_at_head, store_numbers, store_rows
from .schedule import find_tile, load_bounds

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit(do_not_specialize=UNSPECIALISED)
def attention_backward_delta(
    out, grad_out, grad_lse, delta, out_row_stride, grad_row_stride, grad_head_stride, num_queries,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """delta (H, T_q) from out and grad_out (T_q, H, D) and, unless it is None, grad_lse (H, T_q); grid (blocks of BLOCK_M queries, H)."""
    head = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0).to(tl.int64) * BLOCK_M
    rows_left = num_queries - row
    out_rows = load_rows(out + head * HEAD_DIM, row, out_row_stride, rows_left, BLOCK_M, HEAD_DIM, BLOCK_D)
    grad = load_rows(point_at_head(grad_out, head, grad_head_stride), row, grad_row_stride, rows_left, BLOCK_M, HEAD_DIM, BLOCK_D)
    delta_rows = tl.sum(out_rows.to(tl.float32) * grad.to(tl.float32), 1)
    if grad_lse is not None:
        delta_rows -= load_numbers(grad_lse + head * num_queries, row, rows_left, BLOCK_M)
    store_numbers(delta + head * num_queries, row, rows_left, delta_rows, BLOCK_M)


@triton.jit
def recompute_weights(scores, lse, scale, dtype: tl.constexpr):
    """Softmax weights exp(scores * scale - lse) for products in `dtype`."""
    if dtype == tl.float32:  # lse is scores * scale itself where there is one key: the difference must be 0
        return tl.exp2((scores * scale - lse) * LOG2_E)
    else:  # one instruction less a score; what it loses is less than rounding the weights to 16 bits does
        return tl.exp2(scores * (scale * LOG2_E) - lse * LOG2_E)


@triton.jit(do_not_specialize=UNSPECIALISED)
def attention_backward_dkdv(
    q, k, v, grad_out, lse, delta, cu_seqlens_q, cu_seqlens_k, dk, dv, scale,
    q_row_stride, q_head_stride, k_row_stride, k_head_stride, v_row_stride, v_head_stride, grad_row_stride, grad_head_stride,
    dk_row_stride, dk_head_stride, dv_row_stride, dv_head_stride, num_queries, num_keys, num_sequences,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """dk and dv (T_k, H / GROUP, D), summed over the GROUP query heads in their order; grid (tiles of BLOCK_N keys, H / GROUP)."""
    kv_head = tl.program_id(1).to(tl.int64)
    sequence, k_start, k_length, k_row = find_tile(cu_seqlens_k, tl.program_id(0), num_sequences, num_keys, BLOCK_N)
    if k_row >= k_length:
        return
    q_start, q_length = load_bounds(cu_seqlens_q, sequence, num_sequences, num_queries)
    first_key, keys_left = k_start + k_row, k_length - k_row
    key = load_rows(point_at_head(k, kv_head, k_head_stride), first_key, k_row_stride, keys_left, BLOCK_N, HEAD_DIM, BLOCK_D)
    value = load_rows(point_at_head(v, kv_head, v_head_stride), first_key, v_row_stride, keys_left, BLOCK_N, HEAD_DIM, BLOCK_D)
    dk_acc = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    dv_acc = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)

    num_blocks = tl.cdiv(q_length, BLOCK_M)
    for step in range(GROUP * num_blocks):  # the blocks of the first query head, then those of the next: one loop, so one pipeline
        member = step // num_blocks if GROUP > 1 else 0
        q_row = (step - member * num_blocks) * BLOCK_M
        head = kv_head * GROUP + member
        # A query that is not there has grad and delta 0, so adds 0 to both sums: no score needs a mask.
        first_query, queries_left = q_start + q_row, q_length - q_row
        query = load_rows(point_at_head(q, head, q_head_stride), first_query, q_row_stride, queries_left, BLOCK_M, HEAD_DIM, BLOCK_D)
        scores = tl.dot(key, tl.trans(query), input_precision=PRECISION)
        lse_rows = load_numbers(lse + head * num_queries, first_query, queries_left, BLOCK_M)
        weights = recompute_weights(scores, lse_rows[None, :], scale, query.dtype)
        grad = load_rows(
            point_at_head(grad_out, head, grad_head_stride), first_query, grad_row_stride, queries_left, BLOCK_M, HEAD_DIM, BLOCK_D
        )
        dv_acc = tl.dot(weights.to(grad.dtype), grad, dv_acc, input_precision=PRECISION)
        grad_weights = tl.dot(value, tl.trans(grad), input_precision=PRECISION)
        delta_rows = load_numbers(delta + head * num_queries, first_query, queries_left, BLOCK_M)
        grad_scores = weights * (grad_weights - delta_rows[None, :])
        dk_acc = tl.dot(grad_scores.to(query.dtype), query, dk_acc, input_precision=PRECISION)

    store_rows(point_at_head(dk, kv_head, dk_head_stride), first_key, dk_row_stride, keys_left, dk_acc * scale, BLOCK_N, HEAD_DIM, BLOCK_D)
    store_rows(point_at_head(dv, kv_head, dv_head_stride), first_key, dv_row_stride, keys_left, dv_acc, BLOCK_N, HEAD_DIM, BLOCK_D)


@triton.jit(do_not_specialize=UNSPECIALISED)
def attention_backward_dq(
    q, k, v, grad_out, lse, delta, cu_seqlens_q, cu_seqlens_k, dq, scale,
    q_row_stride, q_head_stride, k_row_stride, k_head_stride, v_row_stride, v_head_stride, grad_row_stride, grad_head_stride,
    dq_row_stride, dq_head_stride, num_queries, num_keys, num_sequences,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """dq (T_q, H, D); grid (tiles of BLOCK_M queries, H)."""
    head = tl.program_id(1).to(tl.int64)
    sequence, q_start, q_length, q_row = find_tile(cu_seqlens_q, tl.program_id(0), num_sequences, num_queries, BLOCK_M)
    if q_row >= q_length:
        return
    k_start, k_length = load_bounds(cu_seqlens_k, sequence, num_sequences, num_keys)
    first_query, queries_left = q_start + q_row, q_length - q_row
    query = load_rows(point_at_head(q, head, q_head_stride), first_query, q_row_stride, queries_left, BLOCK_M, HEAD_DIM, BLOCK_D)
    grad = load_rows(
        point_at_head(grad_out, head, grad_head_stride), first_query, grad_row_stride, queries_left, BLOCK_M, HEAD_DIM, BLOCK_D
    )
    lse_rows = load_numbers(lse + head * num_queries, first_query, queries_left, BLOCK_M)
    delta_rows = load_numbers(delta + head * num_queries, first_query, queries_left, BLOCK_M)
    k = point_at_head(k, head // GROUP, k_head_stride)
    v = point_at_head(v, head // GROUP, v_head_stride)
    dq_acc = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)

    for k_row in range(0, k_length, BLOCK_N):
        first_key, keys_left = k_start + k_row, k_length - k_row
        key = load_rows(k, first_key, k_row_stride, keys_left, BLOCK_N, HEAD_DIM, BLOCK_D)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION)
        weights = recompute_weights(scores, lse_rows[:, None], scale, key.dtype)
        if keys_left < BLOCK_N:  # the score 0 of a key that is not there may give infinite weight, and inf * 0 is NaN
            weights = tl.where(tl.arange(0, BLOCK_N)[None, :] < keys_left, weights, 0.0)
        value = load_rows(v, first_key, v_row_stride, keys_left, BLOCK_N, HEAD_DIM, BLOCK_D)
        grad_weights = tl.dot(grad, tl.trans(value), input_precision=PRECISION)
        grad_scores = weights * (grad_weights - delta_rows[:, None])
        dq_acc = tl.dot(grad_scores.to(key.dtype), key, dq_acc, input_precision=PRECISION)

    store_rows(
        point_at_head(dq, head, dq_head_stride), first_query, dq_row_stride, queries_left, dq_acc * scale, BLOCK_M, HEAD_DIM, BLOCK_D
    )
