// How forward and backward cut a sequence into blocks: constants, so that sums have one order whatever the neighbours and threads.
#pragma once

#include "simd.h"

namespace lsm2::INSTRUCTION_SET {

constexpr int kQueryBlock = 64;   // queries side by side in the lanes of vectors: the row length of every transposed block
constexpr int kKeyBlock = 64;     // keys that are taken together
constexpr int kQueryChunk = 256;  // queries of a forward item, which share each block of keys while it is in cache

constexpr int round_up(int64_t count, int multiple) { return (int)((count + multiple - 1) / multiple * multiple); }
constexpr int at_most(int64_t count, int limit) { return count < limit ? (int)count : limit; }

// Vectors are taken in pairs, and head dims in the lanes of a vector by 16.
constexpr int padded_queries(int count) { return round_up(count, kVectorLanes < 8 ? 16 : 2 * kVectorLanes); }
constexpr int padded_head_dim(int head_dim) { return round_up(head_dim, 16); }

// Keys of a backward item: their float32 gradients and their operands stay in the second-level cache.
constexpr int key_chunk(int head_dim) { return head_dim <= 64 ? 512 : head_dim <= 128 ? 256 : 128; }

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

}  // namespace lsm2::INSTRUCTION_SET
