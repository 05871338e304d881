// How forward and backward cut a sequence into blocks: constants, so that sums have one order whatever the neighbours and threads.
#pragma once

#include <cstdint>

namespace lsm2::INSTRUCTION_SET {

constexpr int kQueryBlock = 64;   // queries side by side in the lanes of vectors: the row length of every transposed block
constexpr int kKeyBlock = 64;     // keys that are taken together
constexpr int kQueryChunk = 256;  // queries that are prepared together, to share each block of keys while it is in cache

constexpr int round_up(int64_t count, int multiple) { return (int)((count + multiple - 1) / multiple * multiple); }
constexpr int at_most(int64_t count, int limit) { return count < limit ? (int)count : limit; }
constexpr int padded_head_dim(int head_dim) { return round_up(head_dim, 16); }
constexpr int padded_keys(int count) { return round_up(count, 8); }
constexpr int padded_queries(int count) { return round_up(count, 16); }

// Hands out pieces of one allocation.
struct Scratch {
    float* next;
    float* take(int64_t floats) {
        float* piece = next;
        next += (floats + 15) / 16 * 16;
        return piece;
    }
};

}  // namespace lsm2::INSTRUCTION_SET
