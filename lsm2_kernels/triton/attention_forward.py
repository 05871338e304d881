"""Forward of packed attention (FlashAttention-2, Dao 2023, algorithm 1): one program computes BLOCK_M queries of one head."""

import triton
import triton.language as tl

from .rows import load_rows, store_rows
from .schedule import find_tile, load_bounds

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
LOWEST = tl.constexpr(-3.4028234663852886e38)  # finite, so that a difference of two pivots is never NaN


@triton.jit
def attend_to_keys(
    acc, total, pivot, query, k, v, row, k_stride, v_stride, num_keys, scale_log2,
    BLOCK_N: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr, RAGGED: tl.constexpr,
):  # fmt: skip
    """Add the BLOCK_N keys from `row` on to the running softmax: weighted values, sum of weights, base-2 pivot."""
    key = load_rows(k, row, k_stride, num_keys, BLOCK_N, HEAD_DIM, BLOCK_D, RAGGED)
    scores = tl.dot(query, tl.trans(key), input_precision=PRECISION)
    if RAGGED:
        scores = tl.where(tl.arange(0, BLOCK_N)[None, :] < num_keys, scores, float("-inf"))
    new_pivot = tl.maximum(pivot, tl.max(scores, 1) * scale_log2)
    weights = tl.exp2(scores * scale_log2 - new_pivot[:, None])
    if RAGGED:  # with scale 0, -inf * 0 above is NaN
        weights = tl.where(tl.arange(0, BLOCK_N)[None, :] < num_keys, weights, 0.0)
    shrink = tl.exp2(pivot - new_pivot)
    value = load_rows(v, row, v_stride, num_keys, BLOCK_N, HEAD_DIM, BLOCK_D, RAGGED)
    acc = tl.dot(weights.to(value.dtype), value, acc * shrink[:, None], input_precision=PRECISION)
    return acc, total * shrink + tl.sum(weights, 1), new_pivot


@triton.jit(do_not_specialize=["num_queries", "num_keys", "num_sequences"])
def attention_forward(
    q, k, v, cu_seqlens_q, cu_seqlens_k, out, lse, scale,
    q_row_stride, q_head_stride, k_row_stride, k_head_stride, v_row_stride, v_head_stride, out_row_stride,
    num_queries, num_keys, num_sequences,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out (T_q, H, D) and lse (H, T_q), natural log, from q (T_q, H, D), k and v (T_k, H / GROUP, D); grid (tiles of BLOCK_M queries, H)."""
    head = tl.program_id(1).to(tl.int64)
    sequence, q_start, q_length, q_row = find_tile(cu_seqlens_q, tl.program_id(0), num_sequences, num_queries, BLOCK_M)
    if q_row >= q_length:
        return
    k_start, k_length = load_bounds(cu_seqlens_k, sequence, num_sequences, num_keys)
    first_query, queries_left = q_start + q_row, q_length - q_row
    k += head // GROUP * k_head_stride
    v += head // GROUP * v_head_stride

    query = load_rows(q + head * q_head_stride, first_query, q_row_stride, queries_left, BLOCK_M, HEAD_DIM, BLOCK_D, True)
    # The pivot bounds scores from above only under a scale that is not negative: its sign moves to the queries, which is exact.
    query = (query.to(tl.float32) * tl.where(scale < 0, -1.0, 1.0)).to(query.dtype)
    scale_log2 = tl.abs(scale) * LOG2_E
    acc = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    pivot = tl.full((BLOCK_M,), LOWEST, tl.float32)

    full_length = k_length // BLOCK_N * BLOCK_N
    for row in range(0, full_length, BLOCK_N):
        acc, total, pivot = attend_to_keys(
            acc, total, pivot, query, k, v, k_start + row, k_row_stride, v_row_stride, BLOCK_N, scale_log2,
            BLOCK_N, HEAD_DIM, BLOCK_D, PRECISION, False,
        )  # fmt: skip
    if full_length < k_length:
        acc, total, pivot = attend_to_keys(
            acc, total, pivot, query, k, v, k_start + full_length, k_row_stride, v_row_stride, k_length - full_length, scale_log2,
            BLOCK_N, HEAD_DIM, BLOCK_D, PRECISION, True,
        )  # fmt: skip

    no_keys = total == 0
    acc = acc / tl.where(no_keys, 1.0, total)[:, None]
    store_rows(out + head * HEAD_DIM, first_query, out_row_stride, queries_left, acc, BLOCK_M, HEAD_DIM, BLOCK_D)
    lse_rows = tl.where(no_keys, float("-inf"), (pivot + tl.log2(tl.where(no_keys, 1.0, total))) * LN_2)
    rows = tl.arange(0, BLOCK_M)
    tl.store(lse + head * num_queries + first_query + rows, lse_rows, mask=rows < queries_left)
