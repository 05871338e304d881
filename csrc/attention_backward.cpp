// Gradients of softmax attention for one key head of one sequence, with the weights computed anew from the saved lse
// (FlashAttention-2, Dao 2023). A worker has the key head to itself: every gradient is a sum in one fixed order, without atomics.
#include "block_product.h"
#include "blocks.h"
#include "elements.h"
#include "kernels.h"

namespace lsm2::INSTRUCTION_SET {

namespace {

// products[key][query] become weights; grad_weights[key][query] become the gradients of the scores, without the factor `scale`.
void weights_and_score_gradients(float* products, float* grad_weights, int keys, int lanes, float scale, const float* lse, const float* delta) {
    for (int lane = 0; lane < lanes; lane += kVectorLanes) {
        const Vector lane_lse = load<Vector>(lse + lane), lane_delta = load<Vector>(delta + lane);
        for (int key = 0; key < keys; ++key) {
            const int at = key * kQueryBlock + lane;
            const Vector weight = exp(load<Vector>(products + at) * scale - lane_lse);
            store(products + at, weight);
            store(grad_weights + at, weight * (load<Vector>(grad_weights + at) - lane_delta));
        }
    }
}

// Sum over d of a[d] * b[d].
template <class T>
float dot(const float* a, const T* b, int head_dim) {
    Eight sum{};
    for (int d = 0; d < head_dim; d += 8) sum += load<Eight>(a + d) * T::load_eight(b + d);
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

void set_zero(float* x, int64_t count) {
    for (int64_t i = 0; i < count; ++i) x[i] = 0;
}

// Everything about a chunk of one head's queries that all blocks of keys share.
struct QueryChunk {
    float *queries, *grad_outs;                        // [query][d]
    float *queries_transposed, *grad_outs_transposed;  // [block][d][query]
    float* grad_queries;                               // [block][d][query], what is summed
    float *lse, *delta;                                // as saved; sum over d of grad_out * out, less grad_lse
};

template <class T>
struct KeyHead {
    const Backward& problem;
    const Span& span;
    const int64_t key_head;
    const int head_dim, row_length, block_floats;
    QueryChunk chunk;
    float *keys, *values;              // [key][d] of one block
    float *grad_keys, *grad_values;    // [key][d] of the sequence, what is summed
    float *products, *grad_weights;    // [key][query] of one block of each

    KeyHead(const Backward& problem, const Span& span, int64_t key_head, float* memory)
        : problem(problem), span(span), key_head(key_head), head_dim(problem.head_dim), row_length(padded_head_dim(problem.head_dim)),
          block_floats(problem.head_dim * kQueryBlock) {
        Scratch scratch{memory};
        chunk.queries = scratch.take(kQueryChunk * row_length);
        chunk.grad_outs = scratch.take(kQueryChunk * row_length);
        chunk.queries_transposed = scratch.take(kQueryChunk * head_dim);
        chunk.grad_outs_transposed = scratch.take(kQueryChunk * head_dim);
        chunk.grad_queries = scratch.take(kQueryChunk * head_dim);
        chunk.lse = scratch.take(kQueryChunk);
        chunk.delta = scratch.take(kQueryChunk);
        keys = scratch.take(kKeyBlock * row_length);
        values = scratch.take(kKeyBlock * row_length);
        products = scratch.take(kKeyBlock * kQueryBlock);
        grad_weights = scratch.take(kKeyBlock * kQueryBlock);
        grad_keys = scratch.take((int64_t)round_up(span.key_count, kKeyBlock) * row_length);
        grad_values = scratch.take((int64_t)round_up(span.key_count, kKeyBlock) * row_length);
    }

    const T* rows(const Rows& x, int64_t token, int64_t head) const { return (const T*)x.data + token * x.token_stride + head * x.head_stride; }
    T* rows(const WritableRows& x, int64_t token, int64_t head) const { return (T*)x.data + token * x.token_stride + head * x.head_stride; }

    void load_queries(int64_t token, int64_t head, int count) {
        const Rows &q = problem.q, &grad_out = problem.grad_out;
        load_rows(rows(q, token, head), q.token_stride, count, count, head_dim, chunk.queries, row_length);
        load_rows(rows(grad_out, token, head), grad_out.token_stride, count, count, head_dim, chunk.grad_outs, row_length);
        for (int first = 0; first < count; first += kQueryBlock) {
            const int queries = at_most(count - first, kQueryBlock);
            load_transposed(rows(q, token + first, head), q.token_stride, queries, padded_queries(queries), head_dim,
                            chunk.queries_transposed + first * head_dim, kQueryBlock);
            load_transposed(rows(grad_out, token + first, head), grad_out.token_stride, queries, padded_queries(queries), head_dim,
                            chunk.grad_outs_transposed + first * head_dim, kQueryBlock);
        }
        const Statistics &lse = problem.lse, &grad_lse = problem.grad_lse;
        for (int i = 0; i < padded_queries(count); ++i) {
            chunk.lse[i] = chunk.delta[i] = 0;
            if (i >= count) continue;
            chunk.lse[i] = lse.data[head * lse.head_stride + (token + i) * lse.token_stride];
            chunk.delta[i] = dot(chunk.grad_outs + i * row_length, rows(problem.out, token + i, head), head_dim);
            if (grad_lse.data) chunk.delta[i] -= grad_lse.data[head * grad_lse.head_stride + (token + i) * grad_lse.token_stride];
        }
        set_zero(chunk.grad_queries, round_up(count, kQueryBlock) * head_dim);
    }

    void add_block(int first_query, int num_queries, int64_t first_key, int num_keys) {
        const int lanes = padded_queries(num_queries), key_rows = padded_keys(num_keys);
        const float* queries = chunk.queries + first_query * row_length;
        const float* grad_outs = chunk.grad_outs + first_query * row_length;
        const float* queries_transposed = chunk.queries_transposed + first_query * head_dim;
        const float* grad_outs_transposed = chunk.grad_outs_transposed + first_query * head_dim;
        float* grad_queries = chunk.grad_queries + first_query * head_dim;

        block_product<Left::as_is, Result::set>(key_rows, lanes, head_dim, keys, row_length, queries_transposed, kQueryBlock, products, kQueryBlock);
        block_product<Left::as_is, Result::set>(key_rows, lanes, head_dim, values, row_length, grad_outs_transposed, kQueryBlock, grad_weights,
                                                kQueryBlock);
        weights_and_score_gradients(products, grad_weights, num_keys, lanes, problem.scale, chunk.lse + first_query,
                                    chunk.delta + first_query);
        block_product<Left::as_is, Result::add>(key_rows, row_length, num_queries, products, kQueryBlock, grad_outs, row_length,
                                                grad_values + first_key * row_length, row_length);
        block_product<Left::as_is, Result::add>(key_rows, row_length, num_queries, grad_weights, kQueryBlock, queries, row_length,
                                                grad_keys + first_key * row_length, row_length);
        block_product<Left::transposed, Result::add>(head_dim, lanes, num_keys, keys, row_length, grad_weights, kQueryBlock, grad_queries,
                                                     kQueryBlock);
    }

    void add_chunk(int64_t token, int64_t head, int count) {
        load_queries(token, head, count);
        for (int64_t first_key = 0; first_key < span.key_count; first_key += kKeyBlock) {
            const int num_keys = at_most(span.key_count - first_key, kKeyBlock);
            const int64_t key = span.key_begin + first_key;
            load_rows(rows(problem.k, key, key_head), problem.k.token_stride, num_keys, padded_keys(num_keys), head_dim, keys, row_length);
            load_rows(rows(problem.v, key, key_head), problem.v.token_stride, num_keys, padded_keys(num_keys), head_dim, values, row_length);
            for (int first = 0; first < count; first += kQueryBlock) add_block(first, at_most(count - first, kQueryBlock), first_key, num_keys);
        }
        float factors[kQueryBlock];
        for (float& factor : factors) factor = problem.scale;
        for (int first = 0; first < count; first += kQueryBlock) {
            store_transposed(rows(problem.dq, token + first, head), problem.dq.token_stride, at_most(count - first, kQueryBlock), head_dim,
                             chunk.grad_queries + first * head_dim, kQueryBlock, factors);
        }
    }

    void run() {
        set_zero(grad_keys, (int64_t)round_up(span.key_count, kKeyBlock) * row_length);
        set_zero(grad_values, (int64_t)round_up(span.key_count, kKeyBlock) * row_length);
        for (int64_t i = 0; i < problem.heads_per_key_head; ++i) {
            for (int64_t first = 0; first < span.query_count; first += kQueryChunk) {
                add_chunk(span.query_begin + first, key_head * problem.heads_per_key_head + i, at_most(span.query_count - first, kQueryChunk));
            }
        }
        for (int64_t first = 0; first < span.key_count; first += kKeyBlock) {
            const int num_keys = at_most(span.key_count - first, kKeyBlock);
            const int64_t key = span.key_begin + first;
            store_rows(rows(problem.dk, key, key_head), problem.dk.token_stride, num_keys, head_dim, grad_keys + first * row_length, row_length,
                       problem.scale);
            store_rows(rows(problem.dv, key, key_head), problem.dv.token_stride, num_keys, head_dim, grad_values + first * row_length, row_length,
                       1.0f);
        }
    }
};

}  // namespace

int64_t backward_scratch_floats(int head_dim, int64_t key_count) {
    const int64_t row_length = padded_head_dim(head_dim);
    return kQueryChunk * (2 * row_length + 3 * head_dim + 2) + 2 * kKeyBlock * (row_length + kQueryBlock) +
           2 * (int64_t)round_up(key_count, kKeyBlock) * row_length;
}

void attention_backward(const Backward& problem, const Span& span, int64_t key_head, float* scratch) {
    switch (problem.element) {
        case Element::float32: return KeyHead<Float32>(problem, span, key_head, scratch).run();
        case Element::bfloat16: return KeyHead<BFloat16>(problem, span, key_head, scratch).run();
        case Element::float16: return KeyHead<Float16>(problem, span, key_head, scratch).run();
    }
}

}  // namespace lsm2::INSTRUCTION_SET
