"""Forward of packed attention (FlashAttention-2, Dao 2023, algorithm 1): one program computes BLOCK_M queries of one head.

There is one key loop, whose loads are always masked and whose scores are masked only in the last, ragged block: peeling that
block off would need a second copy of the body, which makes ptxas spill at large head dims.
"""

import triton
import triton.language as tl

from .rows import UNSPECIALISED, load_rows, replace_missing_keys, store_numbers, store_rows, view_head, view_head_of_numbers
from .schedule import find_tile, identify_program, load_bounds

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
LOWEST = tl.constexpr(-3.4028234663852886e38)  # finite, so that the difference of two pivots is never NaN
SMALLEST = tl.constexpr(1.1754943508222875e-38)  # not 0, so that the score -inf of a key that is not there stays -inf under any scale


@triton.jit(do_not_specialize=UNSPECIALISED)
def attention_forward(
    q, k, v, cu_seqlens_q, cu_seqlens_k, positions, out, lse, scale,
    q_batch_stride, q_row_stride, q_head_stride, k_batch_stride, k_row_stride, k_head_stride,
    v_batch_stride, v_row_stride, v_head_stride, out_batch_stride, out_row_stride, out_head_stride, lse_batch_stride, lse_head_stride,
    num_heads, num_queries, num_keys, num_sequences,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    PRECISION: tl.constexpr, MASK_EVERY_BLOCK: tl.constexpr,
):  # fmt: skip
    """out (T_q, H, D) and lse (H, T_q), natural log, of q (T_q, H, D), k and v (T_k, H / GROUP, D); one program for BLOCK_M queries of
    a head.

    scale is not negative. With `positions` (B * N,) the rows are tokens of padded q, k, v and out (B, H, N, D) and lse (B, H, N).
    """
    tile, head = identify_program(num_heads)
    sequence, q_start, q_length, q_row = find_tile(cu_seqlens_q, tile, num_sequences, num_queries, BLOCK_M)
    if q_row >= q_length:
        return
    k_start, k_length = load_bounds(cu_seqlens_k, sequence, num_sequences, num_keys)
    first_query, queries_left = q_start + q_row, q_length - q_row
    q_view = view_head(q, q_batch_stride, q_row_stride, q_head_stride, head)
    k_view = view_head(k, k_batch_stride, k_row_stride, k_head_stride, head // GROUP)
    v_view = view_head(v, v_batch_stride, v_row_stride, v_head_stride, head // GROUP)

    query = load_rows(q_view, positions, first_query, queries_left, BLOCK_M, HEAD_DIM, BLOCK_D)
    scale_log2 = tl.maximum(scale * LOG2_E, SMALLEST)
    acc = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    pivot = tl.full((BLOCK_M,), LOWEST, tl.float32)

    for k_row in range(0, k_length, BLOCK_N):
        first_key, keys_left = k_start + k_row, k_length - k_row
        key = load_rows(k_view, positions, first_key, keys_left, BLOCK_N, HEAD_DIM, BLOCK_D)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION)
        scores = replace_missing_keys(scores, keys_left, float("-inf"), BLOCK_N, MASK_EVERY_BLOCK)
        new_pivot = tl.maximum(pivot, tl.max(scores, 1))
        if query.dtype == tl.float32:  # exactly 1 at the pivot, so that lse has one rounding less
            weights = tl.exp2((scores - new_pivot[:, None]) * scale_log2)
        else:  # one instruction less a score; what it loses is less than rounding the weights to 16 bits does
            weights = tl.exp2(scores * scale_log2 - (new_pivot * scale_log2)[:, None])
        shrink = tl.exp2((pivot - new_pivot) * scale_log2)
        total = total * shrink + tl.sum(weights, 1)
        value = load_rows(v_view, positions, first_key, keys_left, BLOCK_N, HEAD_DIM, BLOCK_D)
        acc = tl.dot(weights.to(value.dtype), value, acc * shrink[:, None], input_precision=PRECISION)
        pivot = new_pivot

    no_keys = total == 0
    total = tl.where(no_keys, 1.0, total)
    lse_rows = tl.where(no_keys, float("-inf"), pivot * scale + tl.log2(total) * LN_2)
    out_view = view_head(out, out_batch_stride, out_row_stride, out_head_stride, head)
    lse_view = view_head_of_numbers(lse, lse_batch_stride, lse_head_stride, head)
    store_rows(out_view, positions, first_query, queries_left, acc / total[:, None], BLOCK_M, HEAD_DIM, BLOCK_D)
    store_numbers(lse_view, positions, first_query, queries_left, lse_rows, BLOCK_M)
