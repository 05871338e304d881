// Softmax attention of a chunk of one head's queries over all keys of its sequence, block by block with a running maximum
// (FlashAttention, Dao et al. 2022). Queries lie in the lanes of vectors, so a softmax needs no sum across lanes.
#include "blocks.h"
#include "elements.h"
#include "float_products.h"
#include "kernels.h"
#include "products_of_bfloat16.h"

extern "C" float logf(float);  // not std::log: an inline function of the standard library would be shared with other instruction sets

namespace lsm2::INSTRUCTION_SET {

namespace {

// A pivot follows the maximum only when that has risen by so much, which is rare after the first keys: until then weights may reach exp(6).
constexpr float kPivotSlack = 6;

bool any(IntVector x) {
    int32_t some = 0;
    for (int i = 0; i < kVectorLanes; ++i) some |= x[i];
    return some != 0;
}

// The queries of one block: their pivots, sums of weights, and sums of weighted values [d][query]; all unset before the first keys.
struct Running {
    float *pivots, *sums, *values;
    bool is_set;
};

// scores[key][query] become weights exp(scale * (score - pivot)), as the right operand of their product with the values.
template <class Products, bool negative_scale>
void softmax(float* scores, int num_keys, int lanes, float scale, int head_dim, const Running& running) {
    auto* weights = (typename Products::Number*)scores;  // a weight lies where its own score, or one already used, lay
    for (int lane = 0; lane < lanes; lane += kVectorLanes) {
        const auto score = [&](int key) { return load<Vector>(scores + key * kQueryBlock + lane); };
        const auto higher = [](Vector a, Vector b) { return negative_scale ? -maximum(-a, -b) : maximum(a, b); };
        Vector tops[4] = {score(0), score(0), score(0), score(0)};  // of every fourth key: no maximum waits for the one before
        int next = 0;
        for (; next + 4 <= num_keys; next += 4) {
            for (int i = 0; i < 4; ++i) tops[i] = higher(tops[i], score(next + i));
        }
        for (; next < num_keys; ++next) tops[0] = higher(tops[0], score(next));
        const Vector top = higher(higher(tops[0], tops[1]), higher(tops[2], tops[3]));
        Vector pivot = top, sum{};
        if (running.is_set) {
            const Vector before = load<Vector>(running.pivots + lane);
            const IntVector is_higher = (IntVector)((top - before) * scale > broadcast(kPivotSlack));
            pivot = is_higher ? top : before;
            sum = load<Vector>(running.sums + lane);
            if (any(is_higher)) {
                const Vector factor = exp((before - pivot) * scale);
                sum *= factor;
                for (int d = 0; d < head_dim; ++d) {
                    float* at = running.values + d * kQueryBlock + lane;
                    store(at, load<Vector>(at) * factor);
                }
            }
        }
        store(running.pivots + lane, pivot);
        const auto weight = [&](int key) { return Products::weight_by_pivot(score(key), scale, pivot); };
        Vector sum_of_odd{};
        int key = 0;
        for (; key + 2 <= num_keys; key += 2) {
            const Vector first = weight(key), second = weight(key + 1);
            sum += first;
            sum_of_odd += second;
            Products::store_right(weights, key, lane, first, second);
        }
        if (key < num_keys) {
            const Vector last = weight(key);
            sum += last;
            Products::store_right(weights, key, lane, last, Vector{});
            key += 2;
        }
        for (; key < round_up(num_keys, Products::kDepthMultiple); key += 2) Products::store_right(weights, key, lane, Vector{}, Vector{});
        store(running.sums + lane, sum + sum_of_odd);
    }
}

// Memory of one worker, for one chunk of queries.
template <class Products>
struct ForwardScratch {
    using Number = typename Products::Number;
    Number *queries, *keys, *values;
    float *summed, *pivots, *sums, *scores;
    int64_t bytes;

    ForwardScratch(char* memory, int padded_dim) {
        Scratch scratch{memory};
        queries = scratch.take<Number>(kQueryChunk * padded_dim);  // [block][d][query], a right operand
        summed = scratch.take<float>(kQueryChunk * padded_dim);    // [block][d][query]
        pivots = scratch.take<float>(kQueryChunk);
        sums = scratch.take<float>(kQueryChunk);
        keys = scratch.take<Number>(kKeyBlock * padded_dim);    // [key][d], a left operand
        values = scratch.take<Number>(kKeyBlock * padded_dim);  // columns of [key][d], a left operand
        scores = scratch.take<float>(kKeyBlock * kQueryBlock);  // [key][query]
        bytes = scratch.bytes_from(memory);
    }
};

template <class T, class Products>
void forward(const Forward& problem, const Span& span, int64_t head, char* memory) {
    [[maybe_unused]] const typename Products::Unit unit{};
    const int head_dim = problem.head_dim, padded_dim = round_up(head_dim, 32), block_size = padded_dim * kQueryBlock;
    const int depth = round_up(head_dim, Products::kDepthMultiple), right_stride = Products::kNumbersPerLane * kQueryBlock;
    const int values_stride = Products::kColumnsLieAsRows ? padded_dim : kKeyBlock;
    const int num_queries = (int)span.query_count, num_blocks = (num_queries + kQueryBlock - 1) / kQueryBlock;
    const int64_t key_head = head / problem.heads_per_key_head;
    const auto q = token_rows<const T>(problem.q, problem.tokens, span, span.query_begin, head);
    const auto k = token_rows<const T>(problem.k, problem.tokens, span, span.key_begin, key_head);
    const auto v = token_rows<const T>(problem.v, problem.tokens, span, span.key_begin, key_head);
    const auto out = token_rows<T>(problem.out, problem.tokens, span, span.query_begin, head);
    const auto lse = token_rows<float>(problem.lse, problem.tokens, span, span.query_begin, head);
    const ForwardScratch<Products> scratch(memory, padded_dim);

    for (int block = 0; block < num_blocks; ++block) {
        const int first = block * kQueryBlock, count = at_most(num_queries - first, kQueryBlock);
        Products::right_of_columns(q.from(first), count, head_dim, scratch.queries + block * block_size, right_stride);
    }

    for (int64_t first_key = 0; first_key < span.key_count; first_key += kKeyBlock) {
        const int num_keys = at_most(span.key_count - first_key, kKeyBlock), key_rows = round_up(num_keys, Products::kRowMultiple);
        Products::left_of_rows(k.from(first_key), num_keys, head_dim, scratch.keys, padded_dim);
        Products::left_of_columns(v.from(first_key), num_keys, head_dim, scratch.values, values_stride);
        for (int block = 0; block < num_blocks; ++block) {
            const int first = block * kQueryBlock, lanes = padded_queries(at_most(num_queries - first, kQueryBlock));
            prefetch_share(k, first_key + kKeyBlock, kKeyBlock, span.key_count, block, num_blocks, head_dim);
            prefetch_share(v, first_key + kKeyBlock, kKeyBlock, span.key_count, block, num_blocks, head_dim);
            float *scores = scratch.scores, *summed = scratch.summed + block * block_size;
            Products::template product<Result::set>(key_rows, lanes, depth, scratch.keys, padded_dim, scratch.queries + block * block_size, right_stride,
                                                    scores, kQueryBlock);
            const Running running{scratch.pivots + first, scratch.sums + first, summed, first_key > 0};
            (problem.scale < 0 ? softmax<Products, true> : softmax<Products, false>)(scores, num_keys, lanes, problem.scale, head_dim, running);
            const auto* weights = (const typename Products::Number*)scores;
            const auto add_values = first_key > 0 ? Products::template product_of_columns<Result::add> : Products::template product_of_columns<Result::set>;
            add_values(round_up(head_dim, Products::kRowMultiple), lanes, round_up(num_keys, Products::kDepthMultiple), scratch.values, values_stride,
                       weights, right_stride, summed, kQueryBlock);
        }
    }
    if (span.key_count == 0) {
        for (int i = 0; i < num_blocks * block_size; ++i) scratch.summed[i] = 0;
    }

    for (int i = 0; i < num_queries; ++i) {
        *lse[i] = span.key_count ? scratch.pivots[i] * problem.scale + logf(scratch.sums[i]) : -__builtin_inff();
        scratch.sums[i] = span.key_count ? 1 / scratch.sums[i] : 0;
    }
    for (int block = 0; block < num_blocks; ++block) {
        const int first = block * kQueryBlock, count = at_most(num_queries - first, kQueryBlock);
        store_transposed(out.from(first), count, head_dim, scratch.summed + block * block_size, kQueryBlock, scratch.sums + first);
    }
}

}  // namespace

int64_t query_chunk() { return kQueryChunk; }

// Enough for bfloat16 too, whose operands are half as large.
int64_t forward_scratch_bytes(int head_dim) { return ForwardScratch<FloatProducts>(nullptr, round_up(head_dim, 32)).bytes; }

void attention_forward(const Forward& problem, const Span& span, int64_t head, char* scratch) {
    switch (problem.element) {
        case Element::float32: return forward<Float32, FloatProducts>(problem, span, head, scratch);
        case Element::bfloat16: return forward<BFloat16, ProductsOfBFloat16>(problem, span, head, scratch);
        case Element::float16: return forward<Float16, FloatProducts>(problem, span, head, scratch);
    }
}

}  // namespace lsm2::INSTRUCTION_SET
