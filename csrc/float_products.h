// Products of small float32 blocks in scratch memory: all the arithmetic of attention except the
// exponentials.
#pragma once

#include "blocks.h"
#include "elements.h"

namespace lsm2::INSTRUCTION_SET {

enum class Result { set, add };

// How operands lie in scratch memory, and their products. A block of rows [row][d] of a tensor becomes a left
// operand, whose numbers are broadcast, or a right operand, whose numbers fill the lanes of vectors; either
// as it is ("rows") or transposed ("columns").
struct FloatProducts {
    using Number = float;
    // What must be set up before the first product and released after the last: nothing here.
    struct Unit {};
    // The rows of a left operand are padded to a multiple of kRowMultiple, the terms of a sum to a multiple
    // of kDepthMultiple; kNumbersPerLane terms lie together in each lane of a right operand.
    static constexpr int kRowMultiple = 8;
    static constexpr int kDepthMultiple = 1;
    static constexpr int kNumbersPerLane = 1;
    // Whether the operand that left_of_rows makes serves as that of left_of_columns too.
    static constexpr bool kColumnsLieAsRows = true;

    template <class T>
    static void left_of_rows(const TokenRows<const T>& source, int count, int head_dim, float* block,
                             int block_stride) {
        load_rows(source, count, round_up(count, kRowMultiple), head_dim, block, block_stride);
    }
    template <class T>
    static void left_of_columns(const TokenRows<const T>& source, int count, int head_dim, float* block,
                                int block_stride) {
        load_rows(source, count, count, head_dim, block, block_stride);
    }
    template <class T>
    static void right_of_rows(const TokenRows<const T>& source, int count, int head_dim, float* block,
                              int block_stride) {
        load_rows(source, count, count, head_dim, block, block_stride);
    }
    template <class T>
    static void right_of_columns(const TokenRows<const T>& source, int count, int head_dim, float* block,
                                 int block_stride) {
        load_transposed(source, count, padded_queries(count), head_dim, block, block_stride);
    }

    // exp(score * scale - max * scale), exactly 1 for the maximum itself; and exp(score * scale - lse).
    static ALWAYS_INLINE Vector weight_by_max(Vector score, float scale, Vector max) {
        return exp((score - max) * scale);
    }
    static ALWAYS_INLINE Vector weight_by_lse(Vector score, float scale, Vector lse) {
        return exp(score * scale - lse);
    }

    // Stores the weights of two keys, one vector of queries, as the right operand [key][query], which may
    // overwrite their scores [key][query].
    static ALWAYS_INLINE void store_right(float* right, int key, int lane, Vector first, Vector second) {
        store(right + key * kQueryBlock + lane, first);
        store(right + (key + 1) * kQueryBlock + lane, second);
    }
    // Stores the weights of two keys, two vectors of queries each, as the left operand [key][query], and as
    // both.
    static ALWAYS_INLINE void store_left(float* left, int key, int lane, const Vector (&x)[2][2]) {
        for (int i = 0; i < 2; ++i) {
            for (int j = 0; j < 2; ++j)
                store(left + (key + i) * kQueryBlock + lane + j * kVectorLanes, x[i][j]);
        }
    }
    static ALWAYS_INLINE void store_left_and_right(float* left, float*, int key, int lane,
                                                   const Vector (&x)[2][2]) {
        store_left(left, key, lane, x);
    }

    // c[row][lane] (+)= sum over k of left[row][k] * right[k][lane]. rows is a multiple of kRowMultiple,
    // lanes of 16, and depth of kDepthMultiple.
    template <Result result>
    static void product(int rows, int lanes, int depth, const float* left, int left_stride,
                        const float* right, int right_stride, float* c, int c_stride) {
        in_short_sums<Left::as_is, result>(rows, lanes, depth, left, left_stride, right, right_stride, c,
                                           c_stride);
    }
    // The same with a left operand made by left_of_columns.
    template <Result result>
    static void product_of_columns(int rows, int lanes, int depth, const float* left, int left_stride,
                                   const float* right, int right_stride, float* c, int c_stride) {
        in_short_sums<Left::transposed, result>(rows, lanes, depth, left, left_stride, right, right_stride, c,
                                                c_stride);
    }

private:
    enum class Left { as_is, transposed };  // the left operand lies as [row][k], or as [k][row]

    // A tile of the result that fits into registers beside the operands: 32 vector registers with AVX-512,
    // else 16.
    static constexpr int kTileRows = kVectorBytes == 64 ? 8 : 4;
    static constexpr int kTileVectors = 2;

    template <Left layout, Result result, int vectors>
    static ALWAYS_INLINE void tile(int depth, const float* a, int a_stride, const float* b, int b_stride,
                                   float* c, int c_stride) {
        Vector sum[kTileRows][vectors];
#pragma GCC unroll 16
        for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 4
            for (int j = 0; j < vectors; ++j) sum[i][j] = Vector{};
        }
        for (int k = 0; k < depth; ++k) {
            Vector right[vectors];
#pragma GCC unroll 4
            for (int j = 0; j < vectors; ++j)
                right[j] = load<Vector>(b + (int64_t)k * b_stride + j * kVectorLanes);
#pragma GCC unroll 16
            for (int i = 0; i < kTileRows; ++i) {
                const Vector factor = broadcast(layout == Left::as_is ? a[(int64_t)i * a_stride + k]
                                                                      : a[(int64_t)k * a_stride + i]);
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

    template <Left layout, Result result>
    static void tiles(int rows, int lanes, int depth, const float* a, int a_stride, const float* b,
                      int b_stride, float* c, int c_stride) {
        const int a_step = layout == Left::as_is ? a_stride : 1;
        int lane = 0;
        for (; lane + kTileVectors * kVectorLanes <= lanes; lane += kTileVectors * kVectorLanes) {
            for (int row = 0; row < rows; row += kTileRows) {
                tile<layout, result, kTileVectors>(depth, a + row * a_step, a_stride, b + lane, b_stride,
                                                   c + row * c_stride + lane, c_stride);
            }
        }
        for (; lane < lanes; lane += kVectorLanes) {
            for (int row = 0; row < rows; row += kTileRows) {
                tile<layout, result, 1>(depth, a + row * a_step, a_stride, b + lane, b_stride,
                                        c + row * c_stride + lane, c_stride);
            }
        }
    }

    // Sums of at most 64 terms, which are then added: a long sum is as accurate as a short one.
    template <Left layout, Result result>
    static void in_short_sums(int rows, int lanes, int depth, const float* a, int a_stride, const float* b,
                              int b_stride, float* c, int c_stride) {
        constexpr int longest = 64;
        tiles<layout, result>(rows, lanes, at_most(depth, longest), a, a_stride, b, b_stride, c, c_stride);
        for (int k = longest; k < depth; k += longest) {
            const float* a_from_k = a + (layout == Left::as_is ? k : (int64_t)k * a_stride);
            tiles<layout, Result::add>(rows, lanes, at_most(depth - k, longest), a_from_k, a_stride,
                                       b + (int64_t)k * b_stride, b_stride, c, c_stride);
        }
    }
};

}  // namespace lsm2::INSTRUCTION_SET
