// The table of functions that every instruction set fills in, and the plain data that passes through it.
// No torch, and nothing here is inline: this header is compiled once per instruction set, and an inline function would be shared between them.
#pragma once

#include <cstdint>

namespace lsm2 {

enum class Element { float32, bfloat16, float16 };

// A tensor (tokens, heads, head_dim) or (sequences, heads, tokens, head_dim) whose last dimension is contiguous; strides count elements.
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
    const int64_t* tokens;  // where in its sequence each token of the spans lies; null where all tokens take part and lie packed
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

// Tokens of one sequence that one call of a kernel works on, counted over all sequences. Packed tensors have one `sequence`, 0.
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
    // One key head with all its query heads, all queries, and any number of keys, which are worked on by key_chunk. All keys of a sequence
    // at once, if they are one chunk: then partial is null. Else the gradients of the queries go to `partial`, and sum_query_gradients adds
    // up those of all workers of the sequence, which lie one after another, partial_floats each; span then is the whole sequence.
    int64_t (*key_chunk)(int head_dim);
    int64_t (*backward_scratch_bytes)(int head_dim);
    int64_t (*partial_floats)(int head_dim, int heads_per_key_head, int64_t query_count);
    void (*attention_backward)(const Backward& problem, const Span& span, int64_t key_head, float* partial, char* scratch);
    void (*sum_query_gradients)(const Backward& problem, const Span& span, int64_t key_head, float* partials, int num_partials);
};

constexpr int kNumLevels = 5;

// level: 0 portable, 1 AVX2 + FMA, 2 AVX-512, 3 AVX-512 + bfloat16, 4 that + AMX-bf16. Null where this build or this machine has no such level.
const Kernels* kernels_of_level(int level);

// target[i] = source[indices[i]], rows of row_bytes each; where there is no such row: substitute, or zeros where that is null.
void gather_rows(char* target, const char* source, const int64_t* indices, int64_t count, int64_t num_source_rows, int64_t row_bytes, const char* substitute);

}  // namespace lsm2
