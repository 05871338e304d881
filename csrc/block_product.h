// Products of small float32 blocks in scratch memory: all the arithmetic of attention but the exponentials.
#pragma once

#include "simd.h"

namespace lsm2::INSTRUCTION_SET {

// A tile of the result that fits into registers beside the operands: 32 vector registers with AVX-512, else 16.
constexpr int kTileRows = kVectorBytes == 64 ? 8 : 4;
constexpr int kTileVectors = 2;

enum class Left { as_is, transposed };   // the left operand lies as [row][k], or as [k][row]
enum class Result { set, add };

template <Left left, Result result, int vectors>
ALWAYS_INLINE void tile_product(int depth, const float* a, int a_stride, const float* b, int b_stride, float* c, int c_stride) {
    Vector sum[kTileRows][vectors];
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < vectors; ++j) sum[i][j] = Vector{};
    }
    for (int k = 0; k < depth; ++k) {
        Vector right[vectors];
#pragma GCC unroll 4
        for (int j = 0; j < vectors; ++j) right[j] = load<Vector>(b + (int64_t)k * b_stride + j * kVectorLanes);
#pragma GCC unroll 16
        for (int i = 0; i < kTileRows; ++i) {
            const Vector factor = broadcast(left == Left::as_is ? a[(int64_t)i * a_stride + k] : a[(int64_t)k * a_stride + i]);
#pragma GCC unroll 4
            for (int j = 0; j < vectors; ++j) sum[i][j] += factor * right[j];
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < vectors; ++j) {
            float* at = c + i * c_stride + j * kVectorLanes;
            store(at, result == Result::add ? load<Vector>(at) + sum[i][j] : sum[i][j]);
        }
    }
}

template <Left left, Result result>
void short_product(int rows, int lanes, int depth, const float* a, int a_stride, const float* b, int b_stride, float* c, int c_stride) {
    const int a_step = left == Left::as_is ? a_stride : 1;
    int lane = 0;
    for (; lane + kTileVectors * kVectorLanes <= lanes; lane += kTileVectors * kVectorLanes) {
        for (int row = 0; row < rows; row += kTileRows) {
            tile_product<left, result, kTileVectors>(depth, a + row * a_step, a_stride, b + lane, b_stride, c + row * c_stride + lane, c_stride);
        }
    }
    for (; lane < lanes; lane += kVectorLanes) {
        for (int row = 0; row < rows; row += kTileRows) {
            tile_product<left, result, 1>(depth, a + row * a_step, a_stride, b + lane, b_stride, c + row * c_stride + lane, c_stride);
        }
    }
}

// c[row][lane] (+)= sum over k of a[row][k] * b[k][lane]. rows: a multiple of 8; lanes: a multiple of 16.
// At most 64 terms are summed in a row, and such sums then added: the error of a long sum stays that of a short one.
template <Left left, Result result>
void block_product(int rows, int lanes, int depth, const float* a, int a_stride, const float* b, int b_stride, float* c, int c_stride) {
    constexpr int longest = 64;
    short_product<left, result>(rows, lanes, depth < longest ? depth : longest, a, a_stride, b, b_stride, c, c_stride);
    for (int k = longest; k < depth; k += longest) {
        const float* a_from_k = a + (left == Left::as_is ? k : (int64_t)k * a_stride);
        short_product<left, Result::add>(rows, lanes, depth - k < longest ? depth - k : longest, a_from_k, a_stride, b + (int64_t)k * b_stride, b_stride, c,
                                         c_stride);
    }
}

}  // namespace lsm2::INSTRUCTION_SET
