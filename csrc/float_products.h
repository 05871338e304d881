// Products of small float32 blocks in scratch memory: all the arithmetic of attention but the exponentials.
#pragma once

#include "blocks.h"
#include "elements.h"

namespace lsm2::INSTRUCTION_SET {

enum class Result { set, add };

// How operands lie in scratch memory, and their products. A block of rows [row][d] of a tensor enters a product as its left operand
// (rows broadcast) or as its right operand (rows or columns in the lanes of vectors), as it is or transposed ("columns").
struct FloatProducts {
    using Number = float;
    struct Unit {};  // what must be set up before the first product and released after the last: nothing
    static constexpr int kRowMultiple = 8;         // rows of a left operand come in such multiples,
    static constexpr int kDepthMultiple = 1;       // terms of a sum in such multiples,
    static constexpr int kNumbersPerLane = 1;      // and so many terms lie together in each lane of a right operand
    static constexpr bool kColumnsLieAsRows = true;  // left_of_rows serves as left_of_columns

    template <class T>
    static void left_of_rows(const TokenRows<const T>& source, int count, int head_dim, float* block, int block_stride) {
        load_rows(source, count, round_up(count, kRowMultiple), head_dim, block, block_stride);
    }
    template <class T>
    static void left_of_columns(const TokenRows<const T>& source, int count, int head_dim, float* block, int block_stride) {
        load_rows(source, count, count, head_dim, block, block_stride);
    }
    template <class T>
    static void right_of_rows(const TokenRows<const T>& source, int count, int head_dim, float* block, int block_stride) {
        load_rows(source, count, count, head_dim, block, block_stride);
    }
    template <class T>
    static void right_of_columns(const TokenRows<const T>& source, int count, int head_dim, float* block, int block_stride) {
        load_transposed(source, count, padded_queries(count), head_dim, block, block_stride);
    }

    // exp(score * scale - pivot * scale), as exactly as float32 can: the weight of the pivot itself is 1; and exp(score * scale - lse).
    static ALWAYS_INLINE Vector weight_by_pivot(Vector score, float scale, Vector pivot) { return exp((score - pivot) * scale); }
    static ALWAYS_INLINE Vector weight_by_lse(Vector score, float scale, Vector lse) { return exp(score * scale - lse); }

    // Weights of two keys, one vector of queries: into the right operand [key][query]; it may lie where the scores [key][query] lay.
    static ALWAYS_INLINE void store_right(float* right, int key, int lane, Vector first, Vector second) {
        store(right + key * kQueryBlock + lane, first);
        store(right + (key + 1) * kQueryBlock + lane, second);
    }
    // Weights of two keys, two vectors of queries each: into the left operand [key][query], and into both operands.
    static ALWAYS_INLINE void store_left(float* left, int key, int lane, const Vector (&x)[2][2]) {
        for (int i = 0; i < 2; ++i) {
            for (int j = 0; j < 2; ++j) store(left + (key + i) * kQueryBlock + lane + j * kVectorLanes, x[i][j]);
        }
    }
    static ALWAYS_INLINE void store_left_and_right(float* left, float*, int key, int lane, const Vector (&x)[2][2]) { store_left(left, key, lane, x); }

    // c[row][lane] (+)= sum over k of left[row][k] * right[k][lane]; rows: a multiple of kRowMultiple, lanes: of 16, depth: of kDepthMultiple.
    template <Result result>
    static void product(int rows, int lanes, int depth, const float* left, int left_stride, const float* right, int right_stride, float* c, int c_stride) {
        in_short_sums<Left::as_is, result>(rows, lanes, depth, left, left_stride, right, right_stride, c, c_stride);
    }
    // The same for a left operand that left_of_columns made.
    template <Result result>
    static void product_of_columns(int rows, int lanes, int depth, const float* left, int left_stride, const float* right, int right_stride, float* c,
                                   int c_stride) {
        in_short_sums<Left::transposed, result>(rows, lanes, depth, left, left_stride, right, right_stride, c, c_stride);
    }

private:
    enum class Left { as_is, transposed };  // the left operand lies as [row][k], or as [k][row]

    // A tile of the result that fits into registers beside the operands: 32 vector registers with AVX-512, else 16.
    static constexpr int kTileRows = kVectorBytes == 64 ? 8 : 4;
    static constexpr int kTileVectors = 2;

    template <Left layout, Result result, int vectors>
    static ALWAYS_INLINE void tile(int depth, const float* a, int a_stride, const float* b, int b_stride, float* c, int c_stride) {
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
                const Vector factor = broadcast(layout == Left::as_is ? a[(int64_t)i * a_stride + k] : a[(int64_t)k * a_stride + i]);
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
    static void tiles(int rows, int lanes, int depth, const float* a, int a_stride, const float* b, int b_stride, float* c, int c_stride) {
        const int a_step = layout == Left::as_is ? a_stride : 1;
        int lane = 0;
        for (; lane + kTileVectors * kVectorLanes <= lanes; lane += kTileVectors * kVectorLanes) {
            for (int row = 0; row < rows; row += kTileRows) {
                tile<layout, result, kTileVectors>(depth, a + row * a_step, a_stride, b + lane, b_stride, c + row * c_stride + lane, c_stride);
            }
        }
        for (; lane < lanes; lane += kVectorLanes) {
            for (int row = 0; row < rows; row += kTileRows) {
                tile<layout, result, 1>(depth, a + row * a_step, a_stride, b + lane, b_stride, c + row * c_stride + lane, c_stride);
            }
        }
    }

    // At most 64 terms are summed in a row, and such sums then added: the error of a long sum stays that of a short one.
    template <Left layout, Result result>
    static void in_short_sums(int rows, int lanes, int depth, const float* a, int a_stride, const float* b, int b_stride, float* c, int c_stride) {
        constexpr int longest = 64;
        tiles<layout, result>(rows, lanes, at_most(depth, longest), a, a_stride, b, b_stride, c, c_stride);
        for (int k = longest; k < depth; k += longest) {
            const float* a_from_k = a + (layout == Left::as_is ? k : (int64_t)k * a_stride);
            tiles<layout, Result::add>(rows, lanes, at_most(depth - k, longest), a_from_k, a_stride, b + (int64_t)k * b_stride, b_stride, c, c_stride);
        }
    }
};

}  // namespace lsm2::INSTRUCTION_SET
