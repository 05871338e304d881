// How attention over many sequences is cut into items of work, and the order in which threads take them: the costliest first.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels.h"
#include "threads.h"

namespace lsm2 {

// Items are numbered through: those of the split they belong to follow one another.
template <class Split>
const Split& split_of(const std::vector<Split>& splits, int64_t item) {
    return *std::prev(std::upper_bound(splits.begin(), splits.end(), item, [](int64_t i, const Split& x) { return i < x.first_item; }));
}

// Chunks of a sequence's queries, all of one size.
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

// Forward: a chunk of queries of one head, with all keys of its sequence. The chunks of a head follow one another: its keys are still in cache.
inline void run_forward(const Kernels& kernels, const Forward& problem, int64_t num_heads, const std::vector<Span>& sequences) {
    std::vector<QuerySplit> splits;
    const auto add = [&](Span chunk, int64_t begin, int64_t size, int64_t num_chunks) {
        chunk.query_begin += begin;
        chunk.query_count = size;
        if (size && num_chunks) splits.push_back({chunk, num_chunks});
    };
    for (const Span& sequence : sequences) {
        const int64_t num_whole = sequence.query_count / kernels.query_chunk, in_whole = num_whole * kernels.query_chunk;
        add(sequence, 0, kernels.query_chunk, num_whole);
        add(sequence, in_whole, sequence.query_count - in_whole, 1);
    }
    std::stable_sort(splits.begin(), splits.end(), [](const QuerySplit& a, const QuerySplit& b) { return a.cost_of_chunk() > b.cost_of_chunk(); });
    int64_t num_items = 0;
    for (QuerySplit& split : splits) {
        split.first_item = num_items;
        num_items += split.num_chunks * num_heads;
    }
    share_among_threads(num_items, kernels.forward_scratch_bytes(problem.head_dim), [&](int64_t item, char* scratch) {
        const QuerySplit& split = split_of(splits, item);
        const int64_t head = (item - split.first_item) / split.num_chunks, chunk = (item - split.first_item) % split.num_chunks;
        kernels.attention_forward(problem, split.chunk(chunk), head, scratch);
    });
}

// How the keys of a sequence are divided among workers: a function of their number and of the head dim alone, so that sums have one order.
struct KeySplit {
    Span sequence;
    int64_t chunk;
    int num_parts;
    int64_t first_item = 0, first_group = 0, partial_floats = 0;

    static constexpr int64_t kMostParts = 8;  // each part holds gradients of all the sequence's queries

    KeySplit(const Span& sequence, int64_t chunk)
        : sequence(sequence), chunk(chunk), num_parts((int)std::clamp<int64_t>((sequence.key_count + chunk - 1) / chunk, 1, kMostParts)) {}

    int64_t cost_of_part() const { return sequence.query_count * sequence.key_count / num_parts; }

    Span part(int64_t i) const {
        const int64_t num_chunks = (sequence.key_count + chunk - 1) / chunk;
        const int64_t begin = num_chunks * i / num_parts * chunk, end = std::min(num_chunks * (i + 1) / num_parts * chunk, sequence.key_count);
        Span span = sequence;
        span.key_begin += begin;
        span.key_count = end - begin;
        return span;
    }
};

// Backward: a part of the keys of one key head, with all queries of its sequence and of the query heads that share it.
inline void run_backward(const Kernels& kernels, const Backward& problem, int64_t num_key_heads, const std::vector<Span>& sequences) {
    std::vector<KeySplit> splits;
    for (const Span& sequence : sequences) splits.push_back(KeySplit(sequence, kernels.key_chunk(problem.head_dim)));
    std::stable_sort(splits.begin(), splits.end(), [](const KeySplit& a, const KeySplit& b) { return a.cost_of_part() > b.cost_of_part(); });
    int64_t num_items = 0, num_groups = 0, largest_group = 0;
    for (KeySplit& split : splits) {
        split.first_item = num_items;
        split.first_group = num_groups;
        num_items += split.num_parts * num_key_heads;
        if (split.num_parts == 1) continue;
        num_groups += num_key_heads;
        split.partial_floats = kernels.partial_floats(problem.head_dim, problem.heads_per_key_head, split.sequence.query_count);
        largest_group = std::max<int64_t>(largest_group, split.num_parts * split.partial_floats * (int64_t)sizeof(float));
    }
    PartialResults partials(num_groups, largest_group);
    share_among_threads(num_items, kernels.backward_scratch_bytes(problem.head_dim), [&](int64_t item, char* scratch) {
        const KeySplit& split = split_of(splits, item);
        const int64_t key_head = (item - split.first_item) / split.num_parts, part = (item - split.first_item) % split.num_parts;
        if (split.num_parts == 1) return kernels.attention_backward(problem, split.sequence, key_head, nullptr, scratch);
        const int64_t group = split.first_group + key_head;
        float* memory = (float*)partials.begin(group);
        kernels.attention_backward(problem, split.part(part), key_head, memory + part * split.partial_floats, scratch);
        if (!partials.end(group, split.num_parts)) return;
        kernels.sum_query_gradients(problem, split.sequence, key_head, memory, split.num_parts);
        partials.release(group);
    });
}

}  // namespace lsm2
