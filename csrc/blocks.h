// Sizes of the blocks that forward and backward cut a sequence into. They are constants, so the order of
// every sum depends neither on the other sequences nor on the number of threads.
#pragma once

#include "simd.h"

namespace lsm2::INSTRUCTION_SET {

// Queries side by side in the lanes of vectors: the row length of every transposed block.
constexpr int kQueryBlock = 64;
// Keys of one step of the key loop.
constexpr int kKeyBlock = 64;
// Queries of a forward work item, which share each block of keys while it is in cache.
constexpr int kQueryChunk = 256;

constexpr int round_up(int64_t count, int multiple) {
    return (int)((count + multiple - 1) / multiple * multiple);
}
constexpr int at_most(int64_t count, int limit) { return count < limit ? (int)count : limit; }

// Queries are computed by pairs of vectors, head dims by 16 lanes.
constexpr int padded_queries(int count) { return round_up(count, kVectorLanes < 8 ? 16 : 2 * kVectorLanes); }
constexpr int padded_head_dim(int head_dim) { return round_up(head_dim, 16); }

// Keys of a backward chunk: their float32 gradients and their operands stay in the second-level cache.
constexpr int key_chunk(int head_dim) { return head_dim <= 64 ? 512 : head_dim <= 128 ? 256 : 128; }

}  // namespace lsm2::INSTRUCTION_SET
