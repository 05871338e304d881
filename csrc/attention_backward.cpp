// Backward of softmax attention for some keys of one key head of one sequence; the weights are recomputed
// from the saved lse (FlashAttention-2, Dao 2023). Only one worker sums the gradients of these keys and
// values, in one fixed order. Where several workers share a sequence, each has partial gradients of its
// queries, which sum_query_gradients adds up in one fixed order.
#include "bfloat16_products.h"
#include "blocks.h"
#include "elements.h"
#include "float_products.h"
#include "kernels.h"
#include "scratch.h"

namespace lsm2::INSTRUCTION_SET {

int64_t partial_floats(int head_dim, int heads_per_key_head, int64_t query_count) {
    return heads_per_key_head * ((query_count + kQueryBlock - 1) / kQueryBlock) * kQueryBlock *
           round_up(head_dim, 32);
}

namespace {

// Sum over d of a[d] * b[d].
template <class T>
float dot(const T* a, const T* b, int head_dim) {
    Eight sum{};
    for (int d = 0; d < head_dim; d += 8) sum += T::load_eight(a + d) * T::load_eight(b + d);
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

void set_zero(float* x, int64_t count) {
    for (int64_t i = 0; i < count; ++i) x[i] = 0;
}

// grad_queries[d][query]: gradients of a block of queries, still without the factor `scale`.
template <class T>
void store_query_gradients(const Backward& problem, const Span& span, int64_t token, int64_t head, int count,
                           const float* grad_queries) {
    float factors[kQueryBlock];
    for (float& factor : factors) factor = problem.scale;
    store_transposed(token_rows<T>(problem.dq, problem.tokens, span, token, head), count, problem.head_dim,
                     grad_queries, kQueryBlock, factors);
}

template <class T, class Products>
struct KeyRange {
    const Backward& problem;
    const Span& span;  // its keys are this worker's
    const int64_t key_head;
    const int head_dim, padded_dim, block_size, lanes_of_dim, depth_of_dim, right_stride, columns_stride;
    const BackwardScratch<Products> scratch;
    [[maybe_unused]] const typename Products::Unit unit{};

    KeyRange(const Backward& problem, const Span& span, int64_t key_head, char* memory)
        : problem(problem), span(span), key_head(key_head), head_dim(problem.head_dim),
          padded_dim(round_up(head_dim, 32)), block_size(padded_dim * kQueryBlock),
          lanes_of_dim(padded_head_dim(head_dim)), depth_of_dim(round_up(head_dim, Products::kDepthMultiple)),
          right_stride(Products::kNumbersPerLane * kQueryBlock),
          columns_stride(Products::kColumnsLieAsRows ? padded_dim : kKeyBlock),
          scratch(memory, key_chunk(head_dim), padded_dim) {}

    template <class Number, class Tensor>
    TokenRows<Number> rows(const Tensor& tensor, int64_t token, int64_t head) const {
        return token_rows<Number>(tensor, problem.tokens, span, token, head);
    }

    void load_keys(int64_t token, int count) {
        for (int first = 0; first < count; first += kKeyBlock) {
            const int keys = at_most(count - first, kKeyBlock), at = first * padded_dim;
            const auto k = rows<const T>(problem.k, token + first, key_head);
            const auto v = rows<const T>(problem.v, token + first, key_head);
            Products::left_of_rows(k, keys, head_dim, scratch.keys + at, padded_dim);
            Products::left_of_rows(v, keys, head_dim, scratch.values + at, padded_dim);
            if (!Products::kColumnsLieAsRows) {
                Products::left_of_columns(k, keys, head_dim, scratch.key_columns + at, columns_stride);
            }
        }
    }

    void load_queries(int64_t token, int64_t head, int count) {
        const auto query = rows<const T>(problem.q, token, head);
        const auto out = rows<const T>(problem.out, token, head);
        const auto grad_out = rows<const T>(problem.grad_out, token, head);
        const auto lse = rows<const float>(problem.lse, token, head);
        const auto grad_lse = rows<const float>(problem.grad_lse, token, head);
        const int rows_stride = Products::kNumbersPerLane * padded_dim;
        Products::right_of_rows(query, count, head_dim, scratch.query_rows, rows_stride);
        Products::right_of_rows(grad_out, count, head_dim, scratch.grad_out_rows, rows_stride);
        Products::right_of_columns(query, count, head_dim, scratch.query_columns, right_stride);
        Products::right_of_columns(grad_out, count, head_dim, scratch.grad_out_columns, right_stride);
        for (int i = 0; i < padded_queries(count); ++i) {
            scratch.lse[i] = i < count ? *lse[i] : 0;
            scratch.delta[i] = i < count ? dot(grad_out[i], out[i], head_dim) : 0;
            if (i < count && problem.grad_lse.data) scratch.delta[i] -= *grad_lse[i];
        }
    }

    void prefetch_queries(int64_t head, int64_t first, int step, int num_steps) {
        const Rows tensors[] = {problem.q, problem.out, problem.grad_out};
        for (const Rows& tensor : tensors) {
            prefetch_share(rows<const T>(tensor, span.query_begin, head), first, kQueryBlock,
                           span.query_count, step, num_steps, head_dim);
        }
    }

    // Computes the operands of the last three products from the scores and the gradients of the weights. The
    // gradients of the scores lack the factor `scale`, which is applied when results are stored.
    void weights_and_score_gradients(int num_keys, int lanes) {
        for (int lane = 0; lane < lanes; lane += 2 * kVectorLanes) {
            Vector lse[2], delta[2];
            for (int j = 0; j < 2; ++j) {
                lse[j] = load<Vector>(scratch.lse + lane + j * kVectorLanes);
                delta[j] = load<Vector>(scratch.delta + lane + j * kVectorLanes);
            }
            for (int key = 0; key < round_up(num_keys, Products::kDepthMultiple); key += 2) {
                Vector weights[2][2] = {}, grads[2][2] = {};
#pragma GCC unroll 2
                for (int i = 0; i < 2; ++i) {
                    if (key + i >= num_keys) continue;
#pragma GCC unroll 2
                    for (int j = 0; j < 2; ++j) {
                        const int at = (key + i) * kQueryBlock + lane + j * kVectorLanes;
                        const Vector score = load<Vector>(scratch.scores + at);
                        weights[i][j] = Products::weight_by_lse(score, problem.scale, lse[j]);
                        grads[i][j] = weights[i][j] * (load<Vector>(scratch.grad_weights + at) - delta[j]);
                    }
                }
                Products::store_left(scratch.weights_left, key, lane, weights);
                Products::store_left_and_right(scratch.grads_left, scratch.grads_right, key, lane, grads);
            }
        }
    }

    // Adds what one block of keys and the loaded queries contribute to each other's gradients.
    template <Result result>
    void add_block(int first_key, int num_keys, int num_queries, float* grad_queries) {
        const int at = first_key * padded_dim;
        const int lanes = padded_queries(num_queries);
        const int key_rows = round_up(num_keys, Products::kRowMultiple);
        const int dim_rows = round_up(head_dim, Products::kRowMultiple);
        const int query_depth = round_up(num_queries, Products::kDepthMultiple);
        const int key_depth = round_up(num_keys, Products::kDepthMultiple);
        const int rows_stride = Products::kNumbersPerLane * padded_dim;
        Products::template product<Result::set>(key_rows, lanes, depth_of_dim, scratch.keys + at, padded_dim,
                                                scratch.query_columns, right_stride, scratch.scores,
                                                kQueryBlock);
        Products::template product<Result::set>(key_rows, lanes, depth_of_dim, scratch.values + at,
                                                padded_dim, scratch.grad_out_columns, right_stride,
                                                scratch.grad_weights, kQueryBlock);
        weights_and_score_gradients(num_keys, lanes);
        Products::template product<Result::add>(key_rows, lanes_of_dim, query_depth, scratch.weights_left,
                                                kQueryBlock, scratch.grad_out_rows, rows_stride,
                                                scratch.grad_values + at, padded_dim);
        Products::template product<Result::add>(key_rows, lanes_of_dim, query_depth, scratch.grads_left,
                                                kQueryBlock, scratch.query_rows, rows_stride,
                                                scratch.grad_keys + at, padded_dim);
        Products::template product_of_columns<result>(dim_rows, lanes, key_depth, scratch.key_columns + at,
                                                      columns_stride, scratch.grads_right, right_stride,
                                                      grad_queries, kQueryBlock);
    }

    void store_zeros() {
        set_zero(scratch.grad_queries, block_size);
        for (int64_t i = 0; i < problem.heads_per_key_head; ++i) {
            const int64_t head = key_head * problem.heads_per_key_head + i;
            for (int64_t first = 0; first < span.query_count; first += kQueryBlock) {
                const int count = at_most(span.query_count - first, kQueryBlock);
                store_query_gradients<T>(problem, span, span.query_begin + first, head, count,
                                         scratch.grad_queries);
            }
        }
    }

    // partial: [head][block][d][query], set by the first chunk; null where one chunk holds all keys of the
    // sequence, so that this worker stores dq itself.
    void add_chunk(int64_t token, int count, float* partial, bool is_first) {
        const int num_key_blocks = (count + kKeyBlock - 1) / kKeyBlock;
        load_keys(token, count);
        set_zero(scratch.grad_keys, (int64_t)round_up(count, kKeyBlock) * padded_dim);
        set_zero(scratch.grad_values, (int64_t)round_up(count, kKeyBlock) * padded_dim);
        for (int64_t i = 0; i < problem.heads_per_key_head; ++i) {
            const int64_t head = key_head * problem.heads_per_key_head + i;
            for (int64_t first = 0; first < span.query_count; first += kQueryBlock) {
                const int num_queries = at_most(span.query_count - first, kQueryBlock);
                const int64_t query = span.query_begin + first;
                load_queries(query, head, num_queries);
                float* dq = partial ? partial : scratch.grad_queries;
                for (int key = 0; key < count; key += kKeyBlock) {
                    const int num_keys = at_most(count - key, kKeyBlock);
                    prefetch_queries(head, first + kQueryBlock, key / kKeyBlock, num_key_blocks);
                    if (is_first && key == 0) add_block<Result::set>(key, num_keys, num_queries, dq);
                    else add_block<Result::add>(key, num_keys, num_queries, dq);
                }
                if (partial) partial += block_size;
                else store_query_gradients<T>(problem, span, query, head, num_queries, dq);
            }
        }
        const auto dk = rows<T>(problem.dk, token, key_head), dv = rows<T>(problem.dv, token, key_head);
        store_rows(dk, count, head_dim, scratch.grad_keys, padded_dim, problem.scale);
        store_rows(dv, count, head_dim, scratch.grad_values, padded_dim, 1.0f);
    }

    void run(float* partial) {
        if (span.key_count == 0) return store_zeros();
        const int chunk = key_chunk(head_dim);
        for (int64_t first = 0; first < span.key_count; first += chunk) {
            add_chunk(span.key_begin + first, at_most(span.key_count - first, chunk), partial, first == 0);
        }
    }
};

template <class T>
void sum_partials(const Backward& problem, const Span& span, int64_t key_head, float* partials,
                  int num_partials) {
    const int64_t block_size = round_up(problem.head_dim, 32) * kQueryBlock;
    const int64_t partial_size =
        partial_floats(problem.head_dim, problem.heads_per_key_head, span.query_count);
    for (int64_t i = 0; i < problem.heads_per_key_head; ++i) {
        const int64_t head = key_head * problem.heads_per_key_head + i;
        for (int64_t first = 0; first < span.query_count; first += kQueryBlock, partials += block_size) {
            for (int64_t at = 0; at < block_size; at += kVectorLanes) {
                Vector sum = load<Vector>(partials + at);
                for (int p = 1; p < num_partials; ++p) sum += load<Vector>(partials + p * partial_size + at);
                store(partials + at, sum);
            }
            const int count = at_most(span.query_count - first, kQueryBlock);
            store_query_gradients<T>(problem, span, span.query_begin + first, head, count, partials);
        }
    }
}

}  // namespace

int64_t backward_key_chunk(int head_dim) { return key_chunk(head_dim); }

// Enough for bfloat16 too, whose operands are half as large.
int64_t backward_scratch_bytes(int head_dim) {
    return BackwardScratch<FloatProducts>(nullptr, key_chunk(head_dim), round_up(head_dim, 32)).bytes;
}

void attention_backward(const Backward& problem, const Span& span, int64_t key_head, float* partial,
                        char* scratch) {
    switch (problem.element) {
        case Element::float32:
            return KeyRange<Float32, FloatProducts>(problem, span, key_head, scratch).run(partial);
        case Element::bfloat16:
            return KeyRange<BFloat16, BFloat16Products>(problem, span, key_head, scratch).run(partial);
        case Element::float16:
            return KeyRange<Float16, FloatProducts>(problem, span, key_head, scratch).run(partial);
    }
}

void sum_query_gradients(const Backward& problem, const Span& span, int64_t key_head, float* partials,
                         int num_partials) {
    switch (problem.element) {
        case Element::float32: return sum_partials<Float32>(problem, span, key_head, partials, num_partials);
        case Element::bfloat16:
            return sum_partials<BFloat16>(problem, span, key_head, partials, num_partials);
        case Element::float16: return sum_partials<Float16>(problem, span, key_head, partials, num_partials);
    }
}

}  // namespace lsm2::INSTRUCTION_SET
