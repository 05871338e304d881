// Forward of softmax attention: a chunk of one head's queries and all keys of its sequence, block by block
// with a running maximum (FlashAttention, Dao et al. 2022). Queries lie in the lanes of vectors, so that a
// softmax needs no sum across lanes.
#include "bfloat16_products.h"
#include "blocks.h"
#include "elements.h"
#include "float_products.h"
#include "kernels.h"
#include "scratch.h"

// Not std::log: an inline function of the standard library would be shared with other instruction sets.
extern "C" float logf(float);

namespace lsm2::INSTRUCTION_SET {

namespace {

// The accumulator is rescaled, and the running maximum raised, only where a scaled score exceeds that maximum
// by more than this: rarely after the first keys. Until then weights may reach exp(6).
constexpr float kRescaleThreshold = 6;

bool any(IntVector x) {
    int32_t bits = 0;
    for (int i = 0; i < kVectorLanes; ++i) bits |= x[i];
    return bits != 0;
}

// What the queries of one block carry from one block of keys to the next: the running maximum of their
// scores, the running sum of their weights, and the accumulator [d][query] of their weighted values. Unset
// before the first keys.
struct Running {
    float *max, *sum, *accumulator;
    bool is_set;
};

// Turns scores[key][query] into weights exp(scale * (score - running maximum)), laid out as the right operand
// of their product with the values. A weight overwrites its own score, or one already used.
template <class Products, bool negative_scale>
void softmax(float* scores, int num_keys, int lanes, float scale, int head_dim, const Running& running) {
    auto* weights = (typename Products::Number*)scores;
    for (int lane = 0; lane < lanes; lane += kVectorLanes) {
        const auto score = [&](int key) { return load<Vector>(scores + key * kQueryBlock + lane); };
        const auto higher = [](Vector a, Vector b) {
            return negative_scale ? -maximum(-a, -b) : maximum(a, b);
        };
        // Each over every fourth key, so that no maximum waits for the one before.
        Vector maxima[4] = {score(0), score(0), score(0), score(0)};
        int next = 0;
        for (; next + 4 <= num_keys; next += 4) {
            for (int i = 0; i < 4; ++i) maxima[i] = higher(maxima[i], score(next + i));
        }
        for (; next < num_keys; ++next) maxima[0] = higher(maxima[0], score(next));
        const Vector block_max = higher(higher(maxima[0], maxima[1]), higher(maxima[2], maxima[3]));
        Vector running_max = block_max, running_sum{};
        if (running.is_set) {
            const Vector old_max = load<Vector>(running.max + lane);
            const IntVector is_raised =
                (IntVector)((block_max - old_max) * scale > broadcast(kRescaleThreshold));
            running_max = is_raised ? block_max : old_max;
            running_sum = load<Vector>(running.sum + lane);
            if (any(is_raised)) {
                const Vector rescale = exp((old_max - running_max) * scale);
                running_sum *= rescale;
                for (int d = 0; d < head_dim; ++d) {
                    float* at = running.accumulator + d * kQueryBlock + lane;
                    store(at, load<Vector>(at) * rescale);
                }
            }
        }
        store(running.max + lane, running_max);
        const auto weight = [&](int key) { return Products::weight_by_max(score(key), scale, running_max); };
        Vector sum_of_odd{};
        int key = 0;
        for (; key + 2 <= num_keys; key += 2) {
            const Vector first = weight(key), second = weight(key + 1);
            running_sum += first;
            sum_of_odd += second;
            Products::store_right(weights, key, lane, first, second);
        }
        if (key < num_keys) {
            const Vector last = weight(key);
            running_sum += last;
            Products::store_right(weights, key, lane, last, Vector{});
            key += 2;
        }
        for (; key < round_up(num_keys, Products::kDepthMultiple); key += 2) {
            Products::store_right(weights, key, lane, Vector{}, Vector{});
        }
        store(running.sum + lane, running_sum + sum_of_odd);
    }
}

template <class T, class Products>
void forward(const Forward& problem, const Span& span, int64_t head, char* memory) {
    using Number = typename Products::Number;
    [[maybe_unused]] const typename Products::Unit unit{};
    const int head_dim = problem.head_dim;
    const int padded_dim = round_up(head_dim, 32);
    const int block_size = padded_dim * kQueryBlock;
    const int depth = round_up(head_dim, Products::kDepthMultiple);
    const int right_stride = Products::kNumbersPerLane * kQueryBlock;
    const int values_stride = Products::kColumnsLieAsRows ? padded_dim : kKeyBlock;
    const int num_queries = (int)span.query_count;
    const int num_blocks = (num_queries + kQueryBlock - 1) / kQueryBlock;
    const int64_t key_head = head / problem.heads_per_key_head;
    const auto q = token_rows<const T>(problem.q, problem.tokens, span, span.query_begin, head);
    const auto k = token_rows<const T>(problem.k, problem.tokens, span, span.key_begin, key_head);
    const auto v = token_rows<const T>(problem.v, problem.tokens, span, span.key_begin, key_head);
    const auto out = token_rows<T>(problem.out, problem.tokens, span, span.query_begin, head);
    const auto lse = token_rows<float>(problem.lse, problem.tokens, span, span.query_begin, head);
    const ForwardScratch<Products> scratch(memory, padded_dim);

    for (int block = 0; block < num_blocks; ++block) {
        const int first = block * kQueryBlock, count = at_most(num_queries - first, kQueryBlock);
        Number* queries = scratch.queries + block * block_size;
        Products::right_of_columns(q.from(first), count, head_dim, queries, right_stride);
    }

    for (int64_t first_key = 0; first_key < span.key_count; first_key += kKeyBlock) {
        const int num_keys = at_most(span.key_count - first_key, kKeyBlock);
        const int key_rows = round_up(num_keys, Products::kRowMultiple);
        const int64_t next_key = first_key + kKeyBlock;
        Products::left_of_rows(k.from(first_key), num_keys, head_dim, scratch.keys, padded_dim);
        Products::left_of_columns(v.from(first_key), num_keys, head_dim, scratch.values, values_stride);
        for (int block = 0; block < num_blocks; ++block) {
            const int first = block * kQueryBlock;
            const int lanes = padded_queries(at_most(num_queries - first, kQueryBlock));
            prefetch_share(k, next_key, kKeyBlock, span.key_count, block, num_blocks, head_dim);
            prefetch_share(v, next_key, kKeyBlock, span.key_count, block, num_blocks, head_dim);
            float* accumulator = scratch.accumulator + block * block_size;
            Products::template product<Result::set>(key_rows, lanes, depth, scratch.keys, padded_dim,
                                                    scratch.queries + block * block_size, right_stride,
                                                    scratch.scores, kQueryBlock);
            const Running running{scratch.running_max + first, scratch.running_sum + first, accumulator,
                                  first_key > 0};
            const auto turn_into_weights =
                problem.scale < 0 ? softmax<Products, true> : softmax<Products, false>;
            turn_into_weights(scratch.scores, num_keys, lanes, problem.scale, head_dim, running);
            const auto* weights = (const Number*)scratch.scores;
            const auto add_values = first_key > 0 ? Products::template product_of_columns<Result::add>
                                                  : Products::template product_of_columns<Result::set>;
            add_values(round_up(head_dim, Products::kRowMultiple), lanes,
                       round_up(num_keys, Products::kDepthMultiple), scratch.values, values_stride, weights,
                       right_stride, accumulator, kQueryBlock);
        }
    }
    if (span.key_count == 0) {
        for (int i = 0; i < num_blocks * block_size; ++i) scratch.accumulator[i] = 0;
    }

    for (int i = 0; i < num_queries; ++i) {
        float& sum = scratch.running_sum[i];
        *lse[i] = span.key_count ? scratch.running_max[i] * problem.scale + logf(sum) : -__builtin_inff();
        sum = span.key_count ? 1 / sum : 0;
    }
    for (int block = 0; block < num_blocks; ++block) {
        const int first = block * kQueryBlock, count = at_most(num_queries - first, kQueryBlock);
        store_transposed(out.from(first), count, head_dim, scratch.accumulator + block * block_size,
                         kQueryBlock, scratch.running_sum + first);
    }
}

}  // namespace

int64_t query_chunk() { return kQueryChunk; }

// Enough for bfloat16 too, whose operands are half as large.
int64_t forward_scratch_bytes(int head_dim) {
    return ForwardScratch<FloatProducts>(nullptr, round_up(head_dim, 32)).bytes;
}

void attention_forward(const Forward& problem, const Span& span, int64_t head, char* scratch) {
    switch (problem.element) {
        case Element::float32: return forward<Float32, FloatProducts>(problem, span, head, scratch);
        case Element::bfloat16: return forward<BFloat16, BFloat16Products>(problem, span, head, scratch);
        case Element::float16: return forward<Float16, FloatProducts>(problem, span, head, scratch);
    }
}

}  // namespace lsm2::INSTRUCTION_SET
