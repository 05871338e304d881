// The table of functions that every instruction set implements, and the plain data that it passes to them.
// This header is compiled once per instruction set, so it contains no inline functions, which they would
// share, and no torch.
#pragma once

#include <cstdint>

namespace lsm2 {

enum class Element { float32, bfloat16, float16 };

// A tensor (tokens, heads, head_dim) or (sequences, heads, tokens, head_dim) whose last dimension is
// contiguous; strides count elements.
struct Rows {
    const void* data;
    int64_t sequence_stride, token_stride, head_stride;
};

struct WritableRows {
    void* data;
    int64_t sequence_stride, token_stride, head_stride;
};

// A float32 tensor (heads, tokens) or (sequences, heads, tokens); data is null where the caller has none.
struct Statistics {
    const float* data;
    int64_t sequence_stride, token_stride, head_stride;
};

struct WritableStatistics {
    float* data;
    int64_t sequence_stride, token_stride, head_stride;
};

struct Forward {
    Element element;
    int head_dim;
    int heads_per_key_head;
    float scale;
    // Position in its sequence of each token that takes part; null for packed tensors, whose tokens all do.
    const int64_t* tokens;
    Rows q, k, v;
    WritableRows out;
    WritableStatistics lse;
};

struct Backward {
    Element element;
    int head_dim;
    int heads_per_key_head;
    float scale;
    const int64_t* tokens;
    Rows q, k, v, out, grad_out;
    Statistics lse, grad_lse;
    WritableRows dq, dk, dv;
};

// The tokens of one sequence that one call of a kernel computes, counted over all sequences. `sequence` is 0
// for packed tensors.
struct Span {
    int64_t sequence;
    int64_t query_begin, query_count;
    int64_t key_begin, key_count;
};

struct Kernels {
    const char* name;
    // One query head, at most query_chunk queries, all keys.
    int64_t query_chunk;
    int64_t (*forward_scratch_bytes)(int head_dim);
    void (*attention_forward)(const Forward& problem, const Span& span, int64_t head, char* scratch);
    // One key head with all its query heads, all queries, and any number of keys, taken key_chunk at a time.
    // Where one chunk holds all keys of the sequence, `partial` is null. Otherwise the gradients of the
    // queries go to `partial`, partial_floats for each worker of the sequence, one worker after the other;
    // then sum_query_gradients adds them up, with the whole sequence as its span.
    int64_t (*key_chunk)(int head_dim);
    int64_t (*backward_scratch_bytes)(int head_dim);
    int64_t (*partial_floats)(int head_dim, int heads_per_key_head, int64_t query_count);
    void (*attention_backward)(const Backward& problem, const Span& span, int64_t key_head, float* partial,
                               char* scratch);
    void (*sum_query_gradients)(const Backward& problem, const Span& span, int64_t key_head, float* partials,
                                int num_partials);
};

constexpr int kNumInstructionSets = 5;

// instruction_set: 0 portable, 1 AVX2 + FMA, 2 AVX-512, 3 AVX-512 + bfloat16, 4 AVX-512 + bfloat16 +
// AMX-bf16. Null where this build or this machine lacks it.
const Kernels* kernels_for(int instruction_set);

}  // namespace lsm2
