// Cuts attention over many sequences into work items, which threads take in order of falling cost.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels.h"
#include "threads.h"

namespace lsm2 {

// The split that an item belongs to. Items are numbered consecutively, split by split.
template <class Split>
const Split& split_of(const std::vector<Split>& splits, int64_t item) {
    return *std::prev(std::upper_bound(splits.begin(), splits.end(), item,
                                       [](int64_t i, const Split& x) { return i < x.first_item; }));
}

// Chunks of the queries of one sequence, all of one size.
struct QuerySplit {
    Span first_chunk;
    int64_t num_chunks;
    int64_t first_item = 0;

    int64_t cost_of_chunk() const { return first_chunk.query_count * first_chunk.key_count; }

    Span chunk(int64_t i) const {
        Span span = first_chunk;
        span.query_begin += i * span.query_count;
        return span;
    }
};

// Forward: an item is a chunk of queries of one head, with all keys of its sequence. The chunks of a head are
// neighbours, so that its keys are still in cache.
inline void run_forward(const Kernels& kernels, const Forward& problem, int64_t num_heads,
                        const std::vector<Span>& sequences) {
    std::vector<QuerySplit> splits;
    const auto add = [&](Span chunk, int64_t begin, int64_t size, int64_t num_chunks) {
        chunk.query_begin += begin;
        chunk.query_count = size;
        if (size && num_chunks) splits.push_back({chunk, num_chunks});
    };
    for (const Span& sequence : sequences) {
        const int64_t num_whole = sequence.query_count / kernels.query_chunk;
        const int64_t in_whole = num_whole * kernels.query_chunk;
        add(sequence, 0, kernels.query_chunk, num_whole);
        add(sequence, in_whole, sequence.query_count - in_whole, 1);
    }
    std::stable_sort(splits.begin(), splits.end(), [](const QuerySplit& a, const QuerySplit& b) {
        return a.cost_of_chunk() > b.cost_of_chunk();
    });
    int64_t num_items = 0;
    for (QuerySplit& split : splits) {
        split.first_item = num_items;
        num_items += split.num_chunks * num_heads;
    }
    const auto compute = [&](int64_t item, char* scratch) {
        const QuerySplit& split = split_of(splits, item);
        const int64_t head = (item - split.first_item) / split.num_chunks;
        const int64_t chunk = (item - split.first_item) % split.num_chunks;
        kernels.attention_forward(problem, split.chunk(chunk), head, scratch);
    };
    share_among_threads(num_items, kernels.forward_scratch_bytes(problem.head_dim), compute);
}

// Parts of the keys of one sequence. The parts depend on the number of keys and the head dim alone, so sums
// have one order.
struct KeySplit {
    Span sequence;
    int64_t chunk;
    int num_parts;
    int64_t first_item = 0, first_group = 0, partial_floats = 0;

    // Each part has its own gradients of all the sequence's queries.
    static constexpr int64_t kMostParts = 8;

    KeySplit(const Span& sequence, int64_t chunk)
        : sequence(sequence), chunk(chunk),
          num_parts((int)std::clamp<int64_t>((sequence.key_count + chunk - 1) / chunk, 1, kMostParts)) {}

    int64_t cost_of_part() const { return sequence.query_count * sequence.key_count / num_parts; }

    Span part(int64_t i) const {
        const int64_t num_chunks = (sequence.key_count + chunk - 1) / chunk;
        const int64_t begin = num_chunks * i / num_parts * chunk;
        const int64_t end = std::min(num_chunks * (i + 1) / num_parts * chunk, sequence.key_count);
        Span span = sequence;
        span.key_begin += begin;
        span.key_count = end - begin;
        return span;
    }
};

// Backward: an item is a part of the keys of one key head, with all queries of its sequence and of the query
// heads that share the key head.
inline void run_backward(const Kernels& kernels, const Backward& problem, int64_t num_key_heads,
                         const std::vector<Span>& sequences) {
    std::vector<KeySplit> splits;
    const int64_t key_chunk = kernels.key_chunk(problem.head_dim);
    for (const Span& sequence : sequences) splits.push_back(KeySplit(sequence, key_chunk));
    std::stable_sort(splits.begin(), splits.end(), [](const KeySplit& a, const KeySplit& b) {
        return a.cost_of_part() > b.cost_of_part();
    });
    int64_t num_items = 0, num_groups = 0, largest_group = 0;
    for (KeySplit& split : splits) {
        split.first_item = num_items;
        split.first_group = num_groups;
        num_items += split.num_parts * num_key_heads;
        if (split.num_parts == 1) continue;
        num_groups += num_key_heads;
        split.partial_floats =
            kernels.partial_floats(problem.head_dim, problem.heads_per_key_head, split.sequence.query_count);
        const int64_t group_bytes = split.num_parts * split.partial_floats * (int64_t)sizeof(float);
        largest_group = std::max(largest_group, group_bytes);
    }
    PartialResults partials(num_groups, largest_group);
    const auto compute = [&](int64_t item, char* scratch) {
        const KeySplit& split = split_of(splits, item);
        const int64_t key_head = (item - split.first_item) / split.num_parts;
        const int64_t part = (item - split.first_item) % split.num_parts;
        if (split.num_parts == 1) {
            kernels.attention_backward(problem, split.sequence, key_head, nullptr, scratch);
            return;
        }
        const int64_t group = split.first_group + key_head;
        float* memory = (float*)partials.begin(group);
        float* partial = memory + part * split.partial_floats;
        kernels.attention_backward(problem, split.part(part), key_head, partial, scratch);
        if (!partials.end(group, split.num_parts)) return;
        kernels.sum_query_gradients(problem, split.sequence, key_head, memory, split.num_parts);
        partials.release(group);
    };
    share_among_threads(num_items, kernels.backward_scratch_bytes(problem.head_dim), compute);
}

}  // namespace lsm2
