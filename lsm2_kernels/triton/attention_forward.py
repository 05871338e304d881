"""Forward of packed attention (FlashAttention-2, Dao 2023, algorithm 1): one program computes BLOCK_M queries of one head.

There is one key loop, whose loads are always masked and whose scores are masked only in the last, ragged block: peeling that
block off would need a second copy of the body, which makes ptxas spill at large head dims.
"""

import triton
import triton.language as tl

from .rows import UNSPECIALISED, load_rows, point_at_head, store_numbers, store_rows
from .schedule import find_tile, load_bounds

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
LOWEST = tl.constexpr(-3.4028234663852886e38)  # finite, so that the difference of two pivots is never NaN
SMALLEST = tl.constexpr(1.1754943508222875e-38)  # not 0, so that the score -inf of a key that is not there stays -inf under any scale


@triton.jit(do_not_specialize=UNSPECIALISED)
def attention_forward(
    q, k, v, cu_seqlens_q, cu_seqlens_k, out, lse, scale,
    q_row_stride, q_head_stride, k_row_stride, k_head_stride, v_row_stride, v_head_stride, out_row_stride,
    num_queries, num_keys, num_sequences,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """out (T_q, H, D) and lse (H, T_q), natural log, of q (T_q, H, D), k and v (T_k, H / GROUP, D); grid (tiles of BLOCK_M queries, H)."""
    head = tl.program_id(1).to(tl.int64)
    sequence, q_start, q_length, q_row = find_tile(cu_seqlens_q, tl.program_id(0), num_sequences, num_queries, BLOCK_M)
    if q_row >= q_length:
        return
    k_start, k_length = load_bounds(cu_seqlens_k, sequence, num_sequences, num_keys)
    first_query, queries_left = q_start + q_row, q_length - q_row
    k = point_at_head(k, head // GROUP, k_head_stride)
    v = point_at_head(v, head // GROUP, v_head_stride)

    query = load_rows(point_at_head(q, head, q_head_stride), first_query, q_row_stride, queries_left, BLOCK_M, HEAD_DIM, BLOCK_D)
    # The pivot bounds scores from above only under a scale that is not negative: its sign moves to the queries, which is exact.
    query = (query.to(tl.float32) * tl.where(scale < 0, -1.0, 1.0)).to(query.dtype)
    scale_log2 = tl.maximum(tl.abs(scale) * LOG2_E, SMALLEST)
    acc = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    pivot = tl.full((BLOCK_M,), LOWEST, tl.float32)

    for k_row in range(0, k_length, BLOCK_N):
        first_key, keys_left = k_start + k_row, k_length - k_row
        key = load_rows(k, first_key, k_row_stride, keys_left, BLOCK_N, HEAD_DIM, BLOCK_D)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION)
        if keys_left < BLOCK_N:
            scores = tl.where(tl.arange(0, BLOCK_N)[None, :] < keys_left, scores, float("-inf"))
        new_pivot = tl.maximum(pivot, tl.max(scores, 1))
        if query.dtype == tl.float32:  # exactly 1 at the pivot, so that lse has one rounding less
            weights = tl.exp2((scores - new_pivot[:, None]) * scale_log2)
        else:  # one instruction less a score; what it loses is less than rounding the weights to 16 bits does
            weights = tl.exp2(scores * scale_log2 - (new_pivot * scale_log2)[:, None])
        shrink = tl.exp2((pivot - new_pivot) * scale_log2)
        total = total * shrink + tl.sum(weights, 1)
        value = load_rows(v, first_key, v_row_stride, keys_left, BLOCK_N, HEAD_DIM, BLOCK_D)
        acc = tl.dot(weights.to(value.dtype), value, acc * shrink[:, None], input_precision=PRECISION)
        pivot = new_pivot

    no_keys = total == 0
    total = tl.where(no_keys, 1.0, total)
    lse_rows = tl.where(no_keys, float("-inf"), pivot * tl.abs(scale) + tl.log2(total) * LN_2)
    store_rows(out + head * HEAD_DIM, first_query, out_row_stride, queries_left, acc / total[:, None], BLOCK_M, HEAD_DIM, BLOCK_D)
    store_numbers(lse + head * num_queries, first_query, queries_left, lse_rows, BLOCK_M)
