// How a worker of forward or backward lays out its scratch memory.
#pragma once

#include "blocks.h"

namespace lsm2::INSTRUCTION_SET {

// Hands out pieces of one allocation, each at a multiple of 64 bytes.
struct Scratch {
    char* next;
    template <class T>
    T* take(int64_t count) {
        char* piece = next;
        next += (count * (int64_t)sizeof(T) + 63) / 64 * 64;
        return (T*)piece;
    }
    int64_t bytes_from(const char* start) const { return next - start; }
};

// Forward: one chunk of queries, and one block of keys.
template <class Products>
struct ForwardScratch {
    using Number = typename Products::Number;
    Number *queries, *keys, *values;
    float *accumulator, *running_max, *running_sum, *scores;
    int64_t bytes;

    ForwardScratch(char* memory, int padded_dim) {
        Scratch scratch{memory};
        queries = scratch.take<Number>(kQueryChunk * padded_dim);     // [block][d][query], a right operand
        accumulator = scratch.take<float>(kQueryChunk * padded_dim);  // [block][d][query]
        running_max = scratch.take<float>(kQueryChunk);
        running_sum = scratch.take<float>(kQueryChunk);
        keys = scratch.take<Number>(kKeyBlock * padded_dim);    // [key][d], a left operand
        values = scratch.take<Number>(kKeyBlock * padded_dim);  // columns of [key][d], a left operand
        scores = scratch.take<float>(kKeyBlock * kQueryBlock);  // [key][query]
        bytes = scratch.bytes_from(memory);
    }
};

// Backward: a chunk of keys, and one block of queries.
template <class Products>
struct BackwardScratch {
    using Number = typename Products::Number;
    // Left operands of each block of keys: [key][d], and the columns of [key][d].
    Number *keys, *values, *key_columns;
    // Accumulators [key][d].
    float *grad_keys, *grad_values;
    // Right operands of the block of queries: [query][d], and [d][query].
    Number *query_rows, *grad_out_rows;
    Number *query_columns, *grad_out_columns;
    // The saved lse; the sum over d of grad_out * out, minus grad_lse.
    float *lse, *delta;
    // [key][query], and the operands made of the weights and of the gradients of the scores.
    float *scores, *grad_weights;
    Number *weights_left, *grads_left, *grads_right;
    // [d][query].
    float* grad_queries;
    int64_t bytes;

    BackwardScratch(char* memory, int key_chunk, int padded_dim) {
        Scratch scratch{memory};
        keys = scratch.take<Number>(key_chunk * padded_dim);
        values = scratch.take<Number>(key_chunk * padded_dim);
        key_columns = Products::kColumnsLieAsRows ? keys : scratch.take<Number>(key_chunk * padded_dim);
        grad_keys = scratch.take<float>(key_chunk * padded_dim);
        grad_values = scratch.take<float>(key_chunk * padded_dim);
        query_rows = scratch.take<Number>(kQueryBlock * padded_dim);
        grad_out_rows = scratch.take<Number>(kQueryBlock * padded_dim);
        query_columns = scratch.take<Number>(kQueryBlock * padded_dim);
        grad_out_columns = scratch.take<Number>(kQueryBlock * padded_dim);
        lse = scratch.take<float>(kQueryBlock);
        delta = scratch.take<float>(kQueryBlock);
        scores = scratch.take<float>(kKeyBlock * kQueryBlock);
        grad_weights = scratch.take<float>(kKeyBlock * kQueryBlock);
        if (Products::kColumnsLieAsRows) {  // the operands are the float32 blocks themselves
            weights_left = (Number*)scores;
            grads_left = grads_right = (Number*)grad_weights;
        } else {
            weights_left = scratch.take<Number>(kKeyBlock * kQueryBlock);
            grads_left = scratch.take<Number>(kKeyBlock * kQueryBlock);
            grads_right = scratch.take<Number>(kKeyBlock * kQueryBlock);
        }
        grad_queries = scratch.take<float>(padded_dim * kQueryBlock);
        bytes = scratch.bytes_from(memory);
    }
};

}  // namespace lsm2::INSTRUCTION_SET
