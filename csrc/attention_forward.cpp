// Softmax attention of a chunk of one head's queries over all keys of its sequence, block by block with a running maximum
// (FlashAttention, Dao et al. 2022). Queries lie in the lanes of vectors, so a softmax needs no sum across lanes, and a key or a
// value is one broadcast number.
#include "block_product.h"
#include "blocks.h"
#include "elements.h"
#include "kernels.h"

extern "C" float logf(float);  // not std::log: an inline function of the standard library would be shared with other instruction sets

namespace lsm2::INSTRUCTION_SET {

namespace {

// scores[key][query]: from products to weights exp(score - maximum), with the running maximum and sum of each query brought up to
// date; rescale[query] is the factor that brings what was summed before to the new maximum.
void softmax_block(float* scores, int keys, int lanes, float scale, float* maxima, float* sums, float* rescale) {
    for (int lane = 0; lane < lanes; lane += kVectorLanes) {
        const Vector before = load<Vector>(maxima + lane);
        Vector top = before;
        for (int key = 0; key < keys; ++key) {
            float* at = scores + key * kQueryBlock + lane;
            const Vector score = load<Vector>(at) * scale;
            store(at, score);
            top = maximum(top, score);
        }
        const Vector factor = exp(before - top);
        Vector sum = load<Vector>(sums + lane) * factor;
        for (int key = 0; key < keys; ++key) {
            float* at = scores + key * kQueryBlock + lane;
            const Vector weight = exp(load<Vector>(at) - top);
            store(at, weight);
            sum += weight;
        }
        store(maxima + lane, top);
        store(sums + lane, sum);
        store(rescale + lane, factor);
    }
}

void scale_lanes(float* block, int rows, int lanes, const float* factors) {
    for (int lane = 0; lane < lanes; lane += kVectorLanes) {
        const Vector factor = load<Vector>(factors + lane);
        for (int row = 0; row < rows; ++row) {
            float* at = block + row * kQueryBlock + lane;
            store(at, load<Vector>(at) * factor);
        }
    }
}

template <class T>
void forward(const Forward& problem, const Span& span, int64_t head, float* memory) {
    const int head_dim = problem.head_dim, row_length = padded_head_dim(head_dim), block_floats = head_dim * kQueryBlock;
    const int num_queries = (int)span.query_count, num_blocks = (num_queries + kQueryBlock - 1) / kQueryBlock;
    const int64_t key_head = head / problem.heads_per_key_head;
    const T* q = (const T*)problem.q.data + span.query_begin * problem.q.token_stride + head * problem.q.head_stride;
    const T* k = (const T*)problem.k.data + span.key_begin * problem.k.token_stride + key_head * problem.k.head_stride;
    const T* v = (const T*)problem.v.data + span.key_begin * problem.v.token_stride + key_head * problem.v.head_stride;
    T* out = (T*)problem.out.data + span.query_begin * problem.out.token_stride + head * problem.out.head_stride;
    float* lse = problem.lse + head * problem.lse_head_stride + span.query_begin;

    Scratch scratch{memory};
    float* queries = scratch.take(kQueryChunk * head_dim);  // [block][d][query], as is what is summed
    float* summed = scratch.take(kQueryChunk * head_dim);
    float* maxima = scratch.take(kQueryChunk);
    float* sums = scratch.take(kQueryChunk);
    float* keys = scratch.take(kKeyBlock * row_length);  // [key][d], as are the values
    float* values = scratch.take(kKeyBlock * row_length);
    float* scores = scratch.take(kKeyBlock * kQueryBlock);  // [key][query]
    float* rescale = scratch.take(kQueryBlock);

    for (int block = 0; block < num_blocks; ++block) {
        const int first = block * kQueryBlock, count = at_most(num_queries - first, kQueryBlock);
        load_transposed(q + first * problem.q.token_stride, problem.q.token_stride, count, padded_queries(count), head_dim,
                        queries + block * block_floats, kQueryBlock);
    }
    for (int i = 0; i < num_blocks * block_floats; ++i) summed[i] = 0;
    for (int i = 0; i < num_blocks * kQueryBlock; ++i) maxima[i] = -__builtin_inff(), sums[i] = 0;

    for (int64_t first_key = 0; first_key < span.key_count; first_key += kKeyBlock) {
        const int num_keys = at_most(span.key_count - first_key, kKeyBlock);
        load_rows(k + first_key * problem.k.token_stride, problem.k.token_stride, num_keys, padded_keys(num_keys), head_dim, keys, row_length);
        load_rows(v + first_key * problem.v.token_stride, problem.v.token_stride, num_keys, num_keys, head_dim, values, row_length);
        for (int block = 0; block < num_blocks; ++block) {
            const int first = block * kQueryBlock, lanes = padded_queries(at_most(num_queries - first, kQueryBlock));
            const float* block_queries = queries + block * block_floats;
            float* block_summed = summed + block * block_floats;
            block_product<Left::as_is, Result::set>(padded_keys(num_keys), lanes, head_dim, keys, row_length, block_queries, kQueryBlock,
                                                    scores, kQueryBlock);
            softmax_block(scores, num_keys, lanes, problem.scale, maxima + first, sums + first, rescale);
            scale_lanes(block_summed, head_dim, lanes, rescale);
            block_product<Left::transposed, Result::add>(head_dim, lanes, num_keys, values, row_length, scores, kQueryBlock, block_summed,
                                                         kQueryBlock);
        }
    }

    for (int i = 0; i < num_queries; ++i) {
        lse[i] = span.key_count ? maxima[i] + logf(sums[i]) : -__builtin_inff();
        sums[i] = span.key_count ? 1 / sums[i] : 0;
    }
    for (int block = 0; block < num_blocks; ++block) {
        const int first = block * kQueryBlock, count = at_most(num_queries - first, kQueryBlock);
        store_transposed(out + first * problem.out.token_stride, problem.out.token_stride, count, head_dim, summed + block * block_floats,
                         kQueryBlock, sums + first);
    }
}

}  // namespace

int64_t query_chunk() { return kQueryChunk; }

int64_t forward_scratch_floats(int head_dim) {
    return 2 * kQueryChunk * (head_dim + 1) + 2 * kKeyBlock * padded_head_dim(head_dim) + (kKeyBlock + 1) * kQueryBlock;
}

void attention_forward(const Forward& problem, const Span& span, int64_t head, float* scratch) {
    switch (problem.element) {
        case Element::float32: return forward<Float32>(problem, span, head, scratch);
        case Element::bfloat16: return forward<BFloat16>(problem, span, head, scratch);
        case Element::float16: return forward<Float16>(problem, span, head, scratch);
    }
}

}  // namespace lsm2::INSTRUCTION_SET
