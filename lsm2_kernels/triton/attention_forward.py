"""Forward of packed attention (FlashAttention-2, Dao 2023, algorithm 1).

One program computes BLOCK_M queries of a head. One loop over the keys masks every load, and the scores only
in the last, partial block. Peeling that block off would need a second copy of the loop's body, which makes
ptxas spill registers at large head dims.
"""

import triton
import triton.language as tl

from .find_tile import find_tile, identify_program, load_bounds
from .rows import (
    UNSPECIALISED,
    load_rows,
    replace_missing_keys,
    store_numbers,
    store_rows,
    view_head,
    view_head_of_numbers,
)

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
FLOAT32_MIN = tl.constexpr(-3.4028234663852886e38)  # finite: the difference of two maxima is never NaN
FLOAT32_TINY = tl.constexpr(
    1.1754943508222875e-38
)  # not 0: the score -inf of a missing key stays -inf at any scale


@triton.jit(do_not_specialize=UNSPECIALISED)
def attention_forward(
    q, k, v, cu_seqlens_q, cu_seqlens_k, positions, out, lse, scale,
    q_batch_stride, q_row_stride, q_head_stride, k_batch_stride, k_row_stride, k_head_stride,
    v_batch_stride, v_row_stride, v_head_stride, out_batch_stride, out_row_stride, out_head_stride,
    lse_batch_stride, lse_head_stride, num_heads, num_queries, num_keys, num_sequences,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr, MASK_EVERY_BLOCK: tl.constexpr,
):  # fmt: skip
    """Write out (T_q, H, D) and lse (H, T_q), natural log, of q (T_q, H, D), k and v (T_k, H / GROUP, D).

    Grid (tiles of BLOCK_M queries * H,), the heads fastest. scale must not be negative. With `positions` (B *
    N,) rows are tokens of padded q, k, v and out (B, H, N, D) and lse (B, H, N).
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
    scale_log2 = tl.maximum(scale * LOG2_E, FLOAT32_TINY)
    accumulator = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    running_sum = tl.zeros((BLOCK_M,), tl.float32)
    running_max = tl.full((BLOCK_M,), FLOAT32_MIN, tl.float32)

    for k_row in range(0, k_length, BLOCK_N):
        first_key, keys_left = k_start + k_row, k_length - k_row
        key = load_rows(k_view, positions, first_key, keys_left, BLOCK_N, HEAD_DIM, BLOCK_D)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION)
        scores = replace_missing_keys(scores, keys_left, float("-inf"), BLOCK_N, MASK_EVERY_BLOCK)
        new_max = tl.maximum(running_max, tl.max(scores, 1))
        if query.dtype == tl.float32:  # exactly 1 at the maximum, so that lse has one rounding less
            weights = tl.exp2((scores - new_max[:, None]) * scale_log2)
        else:  # one instruction less per score; its error is below that of rounding weights to 16 bits
            weights = tl.exp2(scores * scale_log2 - (new_max * scale_log2)[:, None])
        rescale = tl.exp2((running_max - new_max) * scale_log2)
        running_sum = running_sum * rescale + tl.sum(weights, 1)
        value = load_rows(v_view, positions, first_key, keys_left, BLOCK_N, HEAD_DIM, BLOCK_D)
        accumulator = tl.dot(
            weights.to(value.dtype), value, accumulator * rescale[:, None], input_precision=PRECISION
        )
        running_max = new_max

    no_keys = running_sum == 0
    running_sum = tl.where(no_keys, 1.0, running_sum)
    lse_rows = tl.where(no_keys, float("-inf"), running_max * scale + tl.log2(running_sum) * LN_2)
    out_view = view_head(out, out_batch_stride, out_row_stride, out_head_stride, head)
    lse_view = view_head_of_numbers(lse, lse_batch_stride, lse_head_stride, head)
    store_rows(
        out_view,
        positions,
        first_query,
        queries_left,
        accumulator / running_sum[:, None],
        BLOCK_M,
        HEAD_DIM,
        BLOCK_D,
    )
    store_numbers(lse_view, positions, first_query, queries_left, lse_rows, BLOCK_M)
