"""Backward of packed attention (FlashAttention-2, Dao 2023, algorithm 2).

Three kernels share no sum, so no atomics are needed. With P the softmax weights and dP = dO V^T, the gradient
of the scores is dS = P (dP - delta), where delta = rowsum(dO O) - dlse. The dkdv kernel loops over the
queries of a tile of keys, the dq kernel over the keys of a tile of queries. Both compute the scores and dP,
so they take seven matrix products instead of five. Where the keys of a sequence fit one tile, the dkdv kernel
computes dq too, in five.
"""

# pyright: reportGeneralTypeIssues=false
# (pyright sees tl.range and tl.static_range as they are outside a kernel)

import triton
import triton.language as tl

from .find_tile import find_tile, identify_program, load_bounds, load_offset
from .rows import (
    UNSPECIALISED,
    load_numbers,
    load_rows,
    replace_missing_keys,
    store_numbers,
    store_rows,
    view_head,
    view_head_of_numbers,
)

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit(do_not_specialize=UNSPECIALISED)
def attention_backward_delta(
    out, grad_out, grad_lse, cu_seqlens_q, positions, delta,
    out_batch_stride, out_row_stride, out_head_stride, grad_batch_stride, grad_row_stride, grad_head_stride,
    lse_batch_stride, lse_head_stride, num_heads, num_queries, num_sequences,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """Write delta (H, T_q) from out and grad_out (T_q, H, D) and, unless it is None, grad_lse (H, T_q).

    Grid (blocks of BLOCK_M queries * H,), the heads fastest.
    """
    tile, head = identify_program(num_heads)
    row = tile.to(tl.int64) * BLOCK_M
    rows_left = load_offset(cu_seqlens_q, num_sequences, num_queries) - row
    if rows_left <= 0:
        return
    out_view = view_head(out, out_batch_stride, out_row_stride, out_head_stride, head)
    grad_view = view_head(grad_out, grad_batch_stride, grad_row_stride, grad_head_stride, head)
    delta_view = view_head_of_numbers(delta, lse_batch_stride, lse_head_stride, head)
    out_rows = load_rows(out_view, positions, row, rows_left, BLOCK_M, HEAD_DIM, BLOCK_D)
    grad = load_rows(grad_view, positions, row, rows_left, BLOCK_M, HEAD_DIM, BLOCK_D)
    delta_rows = tl.sum(out_rows.to(tl.float32) * grad.to(tl.float32), 1)
    if grad_lse is not None:
        grad_lse_view = view_head_of_numbers(grad_lse, lse_batch_stride, lse_head_stride, head)
        delta_rows -= load_numbers(grad_lse_view, positions, row, rows_left, BLOCK_M)
    store_numbers(delta_view, positions, row, rows_left, delta_rows, BLOCK_M)


@triton.jit
def recompute_weights(scores, lse, scale, dtype: tl.constexpr):
    """Softmax weights exp(scores * scale - lse) for products in `dtype`."""
    if dtype == tl.float32:  # with one key lse is scores * scale itself: the difference must be 0
        return tl.exp2((scores * scale - lse) * LOG2_E)
    else:  # one instruction less per score; its error is below that of rounding weights to 16 bits
        return tl.exp2(scores * (scale * LOG2_E) - lse * LOG2_E)


@triton.jit(do_not_specialize=UNSPECIALISED)
def attention_backward_dkdv(
    q, k, v, grad_out, lse, delta, cu_seqlens_q, cu_seqlens_k, positions, dq, dk, dv, scale,
    q_batch_stride, q_row_stride, q_head_stride, k_batch_stride, k_row_stride, k_head_stride,
    v_batch_stride, v_row_stride, v_head_stride, grad_batch_stride, grad_row_stride, grad_head_stride,
    lse_batch_stride, lse_head_stride, dq_batch_stride, dq_row_stride, dq_head_stride,
    dk_batch_stride, dk_row_stride, dk_head_stride, dv_batch_stride, dv_row_stride, dv_head_stride,
    num_heads, num_queries, num_keys, num_sequences,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr, DQ_OF_ONE_TILE: tl.constexpr,
):  # fmt: skip
    """Write dk and dv (T_k, H / GROUP, D), summed over the GROUP query heads in their order.

    Grid (tiles of BLOCK_N keys * H / GROUP,), the heads fastest. With DQ_OF_ONE_TILE also write dq (T_q, H,
    D) of sequences of at most BLOCK_N keys.
    """
    tile, kv_head = identify_program(num_heads)
    sequence, k_start, k_length, k_row = find_tile(cu_seqlens_k, tile, num_sequences, num_keys, BLOCK_N)
    if k_row >= k_length:
        return
    q_start, q_length = load_bounds(cu_seqlens_q, sequence, num_sequences, num_queries)
    first_key, keys_left = k_start + k_row, k_length - k_row
    k_view = view_head(k, k_batch_stride, k_row_stride, k_head_stride, kv_head)
    v_view = view_head(v, v_batch_stride, v_row_stride, v_head_stride, kv_head)
    key = load_rows(k_view, positions, first_key, keys_left, BLOCK_N, HEAD_DIM, BLOCK_D)
    value = load_rows(v_view, positions, first_key, keys_left, BLOCK_N, HEAD_DIM, BLOCK_D)
    dk_accumulator = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    dv_accumulator = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    head = kv_head * GROUP
    q_row = 0

    # The loop is compiled once with dq and once without: with dq in a branch inside the loop every product
    # would wait for the one before. For the same reason the loop with dq, a short one, is not pipelined.
    for WITH_DQ in tl.static_range(DQ_OF_ONE_TILE, -1, -1):
        num_blocks = (
            tl.cdiv(q_length, BLOCK_M) if (k_length <= BLOCK_N) == (WITH_DQ == 1) or not DQ_OF_ONE_TILE else 0
        )
        # The blocks of one query head, then those of the next.
        for _ in tl.range(0, GROUP * num_blocks, num_stages=1 if WITH_DQ else None):
            q_view = view_head(q, q_batch_stride, q_row_stride, q_head_stride, head)
            grad_view = view_head(grad_out, grad_batch_stride, grad_row_stride, grad_head_stride, head)
            lse_view = view_head_of_numbers(lse, lse_batch_stride, lse_head_stride, head)
            delta_view = view_head_of_numbers(delta, lse_batch_stride, lse_head_stride, head)
            # A missing query has grad and delta 0, so it adds 0 to both sums: no score needs a mask.
            first_query, queries_left = q_start + q_row, q_length - q_row
            query = load_rows(q_view, positions, first_query, queries_left, BLOCK_M, HEAD_DIM, BLOCK_D)
            scores = tl.dot(key, tl.trans(query), input_precision=PRECISION)
            lse_rows = load_numbers(lse_view, positions, first_query, queries_left, BLOCK_M)
            weights = recompute_weights(scores, lse_rows[None, :], scale, query.dtype)
            grad = load_rows(grad_view, positions, first_query, queries_left, BLOCK_M, HEAD_DIM, BLOCK_D)
            dv_accumulator = tl.dot(weights.to(grad.dtype), grad, dv_accumulator, input_precision=PRECISION)
            grad_weights = tl.dot(value, tl.trans(grad), input_precision=PRECISION)
            delta_rows = load_numbers(delta_view, positions, first_query, queries_left, BLOCK_M)
            grad_scores = (weights * (grad_weights - delta_rows[None, :])).to(query.dtype)
            dk_accumulator = tl.dot(grad_scores, query, dk_accumulator, input_precision=PRECISION)
            if WITH_DQ:
                # The score 0 of a missing key may give an infinite weight, and inf * 0 is NaN.
                grad_scores = tl.where(tl.arange(0, BLOCK_N)[:, None] < keys_left, grad_scores, 0.0)
                dq_rows = tl.dot(tl.trans(grad_scores), key, input_precision=PRECISION)
                dq_view = view_head(dq, dq_batch_stride, dq_row_stride, dq_head_stride, head)
                store_rows(
                    dq_view, positions, first_query, queries_left, dq_rows * scale, BLOCK_M, HEAD_DIM, BLOCK_D
                )
            q_row += BLOCK_M
            if GROUP > 1:
                head = tl.where(q_row < q_length, head, head + 1)
                q_row = tl.where(q_row < q_length, q_row, 0)

    dk_view = view_head(dk, dk_batch_stride, dk_row_stride, dk_head_stride, kv_head)
    dv_view = view_head(dv, dv_batch_stride, dv_row_stride, dv_head_stride, kv_head)
    store_rows(dk_view, positions, first_key, keys_left, dk_accumulator * scale, BLOCK_N, HEAD_DIM, BLOCK_D)
    store_rows(dv_view, positions, first_key, keys_left, dv_accumulator, BLOCK_N, HEAD_DIM, BLOCK_D)


@triton.jit(do_not_specialize=UNSPECIALISED)
def attention_backward_dq(
    q, k, v, grad_out, lse, delta, cu_seqlens_q, cu_seqlens_k, positions, dq, scale,
    q_batch_stride, q_row_stride, q_head_stride, k_batch_stride, k_row_stride, k_head_stride,
    v_batch_stride, v_row_stride, v_head_stride, grad_batch_stride, grad_row_stride, grad_head_stride,
    lse_batch_stride, lse_head_stride, dq_batch_stride, dq_row_stride, dq_head_stride,
    num_heads, num_queries, num_keys, num_sequences,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
    KEYS_OF_ONE_TILE: tl.constexpr, MASK_EVERY_BLOCK: tl.constexpr,
):  # fmt: skip
    """Write dq (T_q, H, D), except for sequences of 1 to KEYS_OF_ONE_TILE keys: dkdv has written theirs.

    Grid (tiles of BLOCK_M queries * H,), the heads fastest.
    """
    tile, head = identify_program(num_heads)
    sequence, q_start, q_length, q_row = find_tile(cu_seqlens_q, tile, num_sequences, num_queries, BLOCK_M)
    k_start, k_length = load_bounds(cu_seqlens_k, sequence, num_sequences, num_keys)
    if (q_row >= q_length) | ((k_length > 0) & (k_length <= KEYS_OF_ONE_TILE)):
        return
    first_query, queries_left = q_start + q_row, q_length - q_row
    q_view = view_head(q, q_batch_stride, q_row_stride, q_head_stride, head)
    k_view = view_head(k, k_batch_stride, k_row_stride, k_head_stride, head // GROUP)
    v_view = view_head(v, v_batch_stride, v_row_stride, v_head_stride, head // GROUP)
    grad_view = view_head(grad_out, grad_batch_stride, grad_row_stride, grad_head_stride, head)
    lse_view = view_head_of_numbers(lse, lse_batch_stride, lse_head_stride, head)
    delta_view = view_head_of_numbers(delta, lse_batch_stride, lse_head_stride, head)

    query = load_rows(q_view, positions, first_query, queries_left, BLOCK_M, HEAD_DIM, BLOCK_D)
    grad = load_rows(grad_view, positions, first_query, queries_left, BLOCK_M, HEAD_DIM, BLOCK_D)
    lse_rows = load_numbers(lse_view, positions, first_query, queries_left, BLOCK_M)
    delta_rows = load_numbers(delta_view, positions, first_query, queries_left, BLOCK_M)
    dq_accumulator = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)

    for k_row in range(0, k_length, BLOCK_N):
        first_key, keys_left = k_start + k_row, k_length - k_row
        key = load_rows(k_view, positions, first_key, keys_left, BLOCK_N, HEAD_DIM, BLOCK_D)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION)
        weights = recompute_weights(scores, lse_rows[:, None], scale, key.dtype)
        # The score 0 of a missing key may give an infinite weight, and inf * 0 is NaN.
        weights = replace_missing_keys(weights, keys_left, 0.0, BLOCK_N, MASK_EVERY_BLOCK)
        value = load_rows(v_view, positions, first_key, keys_left, BLOCK_N, HEAD_DIM, BLOCK_D)
        grad_weights = tl.dot(grad, tl.trans(value), input_precision=PRECISION)
        grad_scores = weights * (grad_weights - delta_rows[:, None])
        dq_accumulator = tl.dot(grad_scores.to(key.dtype), key, dq_accumulator, input_precision=PRECISION)

    dq_view = view_head(dq, dq_batch_stride, dq_row_stride, dq_head_stride, head)
    store_rows(
        dq_view, positions, first_query, queries_left, dq_accumulator * scale, BLOCK_M, HEAD_DIM, BLOCK_D
    )
