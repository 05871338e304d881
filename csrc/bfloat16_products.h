// Products of small bfloat16 blocks in scratch memory, summed in float32: by AMX tiles, or by AVX-512's dot
// products of pairs. float_products.h explains the terms. Both instruction sets read a left operand as
// [row][k] and a right one as [k / 2][lane][k % 2]. Other instruction sets convert bfloat16 tensors to
// float32 blocks.
#pragma once

#include "float_products.h"

#ifndef __AVX512BF16__
namespace lsm2::INSTRUCTION_SET {
using BFloat16Products = FloatProducts;
}
#else
#include <immintrin.h>

#include "blocks.h"
#include "elements.h"

namespace lsm2::INSTRUCTION_SET {

#ifdef __AMX_BF16__
// Compilers do not know what tile loads read: this makes them first write what `memory` leads to.
ALWAYS_INLINE void write_before_tile_loads(const void* memory) {
    __asm__ volatile("" : : "r"(memory) : "memory");
}

// A tile register holds 16 rows of 64 bytes: 16 x 16 sums, or 16 rows of 32 terms.
constexpr int kTileRows = 16;
constexpr int kTileDepth = 32;

template <Result result, int tall, int wide>
ALWAYS_INLINE void tile_product(int depth, const BFloat16* a, int a_stride, const BFloat16* b, int b_stride,
                                float* c, int c_stride) {
    write_before_tile_loads(a);
    const int64_t a_bytes = a_stride * 2, b_bytes = b_stride * 2, c_bytes = c_stride * 4;
    float* below = c + kTileRows * c_stride;
    if (result == Result::add) {
        _tile_loadd(0, c, c_bytes);
        if (wide == 2) _tile_loadd(1, c + 16, c_bytes);
        if (tall == 2) _tile_loadd(2, below, c_bytes);
        if (tall == 2 && wide == 2) _tile_loadd(3, below + 16, c_bytes);
    } else {
        _tile_zero(0);
        if (wide == 2) _tile_zero(1);
        if (tall == 2) _tile_zero(2);
        if (tall == 2 && wide == 2) _tile_zero(3);
    }
    for (int k = 0; k < depth; k += kTileDepth) {
        const BFloat16* right = b + (int64_t)(k / 2) * b_stride;
        _tile_loadd(4, a + k, a_bytes);
        if (tall == 2) _tile_loadd(5, a + kTileRows * a_stride + k, a_bytes);
        _tile_loadd(6, right, b_bytes);
        if (wide == 2) _tile_loadd(7, right + 32, b_bytes);
        _tile_dpbf16ps(0, 4, 6);
        if (wide == 2) _tile_dpbf16ps(1, 4, 7);
        if (tall == 2) _tile_dpbf16ps(2, 5, 6);
        if (tall == 2 && wide == 2) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, c_bytes);
    if (wide == 2) _tile_stored(1, c + 16, c_bytes);
    if (tall == 2) _tile_stored(2, below, c_bytes);
    if (tall == 2 && wide == 2) _tile_stored(3, below + 16, c_bytes);
}

template <Result result, int wide>
void tile_column(int rows, int depth, const BFloat16* a, int a_stride, const BFloat16* b, int b_stride,
                 float* c, int c_stride) {
    int row = 0;
    for (; row + 2 * kTileRows <= rows; row += 2 * kTileRows) {
        tile_product<result, 2, wide>(depth, a + row * a_stride, a_stride, b, b_stride, c + row * c_stride,
                                      c_stride);
    }
    if (row < rows)
        tile_product<result, 1, wide>(depth, a + row * a_stride, a_stride, b, b_stride, c + row * c_stride,
                                      c_stride);
}

// Configures the tile registers and, at the end, releases them: released ones slow down neither the operating
// system nor other libraries.
struct MatrixUnit {
    MatrixUnit() {
        struct {
            uint8_t palette = 1, start_row = 0, reserved[14] = {};
            uint16_t row_bytes[16] = {};
            uint8_t rows[16] = {};
        } configuration;
        for (int i = 0; i < 8; ++i) configuration.row_bytes[i] = 64, configuration.rows[i] = 16;
        write_before_tile_loads(&configuration);
        _tile_loadconfig(&configuration);
    }
    ~MatrixUnit() { _tile_release(); }
};
#else
constexpr int kTileRows = 8;
constexpr int kTileDepth = 2;

template <Result result, int wide>
void tile_column(int rows, int depth, const BFloat16* a, int a_stride, const BFloat16* b, int b_stride,
                 float* c, int c_stride) {
    for (int row = 0; row < rows; row += kTileRows, a += kTileRows * a_stride, c += kTileRows * c_stride) {
        Vector sum[kTileRows][wide];
#pragma GCC unroll 8
        for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 2
            for (int j = 0; j < wide; ++j) sum[i][j] = Vector{};
        }
        for (int k = 0; k < depth; k += 2) {
            __m512bh right[wide];
#pragma GCC unroll 2
            for (int j = 0; j < wide; ++j)
                right[j] = load<__m512bh>(b + (int64_t)(k / 2) * b_stride + 32 * j);
#pragma GCC unroll 8
            for (int i = 0; i < kTileRows; ++i) {
                const __m512bh pair = (__m512bh)_mm512_set1_epi32(load<int>(a + (int64_t)i * a_stride + k));
#pragma GCC unroll 2
                for (int j = 0; j < wide; ++j)
                    sum[i][j] = (Vector)_mm512_dpbf16_ps((__m512)sum[i][j], right[j], pair);
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 2
            for (int j = 0; j < wide; ++j) {
                float* at = c + i * c_stride + 16 * j;
                store(at, result == Result::add ? load<Vector>(at) + sum[i][j] : sum[i][j]);
            }
        }
    }
}

struct MatrixUnit {};
#endif

// 2**x for x <= 127; at least the smallest normal number, NaN for NaN, exactly 1 for 0. Relative error below
// 3e-6, enough for a weight that is rounded to bfloat16. The polynomial 1 + r * ... of degree 4 minimises the
// largest relative error of 2**r on [0, 1].
ALWAYS_INLINE Vector rough_exp2(Vector x) {
    x = maximum(broadcast(-126.0f), x);
    // x minus the integer below it.
    const Vector r = (Vector)_mm512_reduce_ps((__m512)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    Vector p = broadcast(0.013426684923339507f) * r + 0.05224247271374617f;
    p = p * r + 0.2412802059140529f;
    p = p * r + 0.6930448446223904f;
    p = p * r + 1.0f;
    // Times 2 to the power of that integer.
    return (Vector)_mm512_maskz_scalef_ps(0xffff, (__m512)p, (__m512)x);
}

struct BFloat16Products {
    using Number = BFloat16;
    using Unit = MatrixUnit;
    static constexpr int kRowMultiple = kTileRows;
    static constexpr int kDepthMultiple = kTileDepth;
    static constexpr int kNumbersPerLane = 2;
    static constexpr bool kColumnsLieAsRows = false;

    static void left_of_rows(const TokenRows<const BFloat16>& source, int count, int head_dim,
                             BFloat16* block, int block_stride) {
        for (int row = 0; row < round_up(count, kRowMultiple); ++row, block += block_stride) {
            const int filled = row < count ? head_dim : 0;
            int d = 0;
            for (; d + 32 <= filled; d += 32) store(block + d, load<Vector>(source[row] + d));
            for (; d < filled; d += 8) store(block + d, load<EightHalves>(source[row] + d));
            for (; d < block_stride; d += 8) store(block + d, EightHalves{});
        }
    }
    static void left_of_columns(const TokenRows<const BFloat16>& source, int count, int head_dim,
                                BFloat16* block, int block_stride) {
        for (int d = 0; d < round_up(head_dim, kRowMultiple); d += 8) {
            for (int row = 0; row < round_up(count, kTransposedDepth); row += 16) {
                EightBits x[8];
                for (int i = 0; i < 8; ++i) x[i] = two_rows(source, count, head_dim, row + 2 * i, d);
                transpose(x);
                for (int i = 0; i < 8; ++i) store(block + (d + i) * block_stride + row, x[i]);
            }
        }
    }
    static void right_of_rows(const TokenRows<const BFloat16>& source, int count, int head_dim,
                              BFloat16* block, int block_stride) {
        for (int row = 0; row < round_up(count, kDepthMultiple); row += 2, block += block_stride) {
            for (int d = 0; d < head_dim; d += 32) {
                store_pairs(block + 2 * d, part_of_row<__m512i>(source, count, head_dim, row, d),
                            part_of_row<__m512i>(source, count, head_dim, row + 1, d));
            }
        }
    }
    static void right_of_columns(const TokenRows<const BFloat16>& source, int count, int head_dim,
                                 BFloat16* block, int block_stride) {
        for (int row = 0; row < padded_queries(count); row += 8) {
            for (int d = 0; d < round_up(head_dim, kTransposedDepth); d += 16) {
                EightBits x[8];
                for (int i = 0; i < 8; ++i)
                    x[i] = (EightBits)part_of_row<__m256i>(source, count, head_dim, row + i, d);
                transpose(x);
                for (int i = 0; i < 8; ++i) store(block + (d / 2 + i) * block_stride + 2 * row, x[i]);
            }
        }
    }

    static ALWAYS_INLINE Vector weight_by_max(Vector score, float scale, Vector max) {
        return weight_by_lse(score, scale, max * scale);
    }
    static ALWAYS_INLINE Vector weight_by_lse(Vector score, float scale, Vector lse) {
        return rough_exp2(score * (scale * kLog2e) - lse * kLog2e);
    }

    static ALWAYS_INLINE void store_right(BFloat16* right, int key, int lane, Vector first, Vector second) {
        const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
        store(right + key * kQueryBlock + 2 * lane, _mm512_permutexvar_epi16(interleaving(0, 16), both));
    }
    static ALWAYS_INLINE void store_left(BFloat16* left, int key, int lane, const Vector (&x)[2][2]) {
        for (int i = 0; i < 2; ++i)
            store(left + (key + i) * kQueryBlock + lane,
                  _mm512_cvtne2ps_pbh((__m512)x[i][1], (__m512)x[i][0]));
    }
    static ALWAYS_INLINE void store_left_and_right(BFloat16* left, BFloat16* right, int key, int lane,
                                                   const Vector (&x)[2][2]) {
        const __m512i first = (__m512i)_mm512_cvtne2ps_pbh((__m512)x[0][1], (__m512)x[0][0]);
        const __m512i second = (__m512i)_mm512_cvtne2ps_pbh((__m512)x[1][1], (__m512)x[1][0]);
        store(left + key * kQueryBlock + lane, first);
        store(left + (key + 1) * kQueryBlock + lane, second);
        store_pairs(right + key * kQueryBlock + 2 * lane, first, second);
    }

    template <Result result>
    static void product(int rows, int lanes, int depth, const BFloat16* left, int left_stride,
                        const BFloat16* right, int right_stride, float* c, int c_stride) {
        int lane = 0;
        for (; lane + 32 <= lanes; lane += 32)
            tile_column<result, 2>(rows, depth, left, left_stride, right + 2 * lane, right_stride, c + lane,
                                   c_stride);
        if (lane < lanes)
            tile_column<result, 1>(rows, depth, left, left_stride, right + 2 * lane, right_stride, c + lane,
                                   c_stride);
    }
    template <Result result>
    static void product_of_columns(int rows, int lanes, int depth, const BFloat16* left, int left_stride,
                                   const BFloat16* right, int right_stride, float* c, int c_stride) {
        product<result>(rows, lanes, depth, left, left_stride, right, right_stride, c, c_stride);
    }

private:
    static constexpr float kLog2e = 1.44269504088896341f;
    // Transposing takes 16 numbers at a time.
    static constexpr int kTransposedDepth = kDepthMultiple < 16 ? 16 : kDepthMultiple;

    // As many numbers of a row as a vector holds, from d on; zeros past the head dim and past the last row.
    template <class Bits>
    static ALWAYS_INLINE Bits part_of_row(const TokenRows<const BFloat16>& source, int count, int head_dim,
                                          int row, int d) {
        if (row >= count || d >= head_dim) return Bits{};
        const uint32_t filled = head_dim - d >= 32 ? ~0u : (1u << (head_dim - d)) - 1;
        if constexpr (sizeof(Bits) == 64) return _mm512_maskz_loadu_epi16(filled, source[row] + d);
        else return _mm256_maskz_loadu_epi16((uint16_t)filled, source[row] + d);
    }

    // first[0], second[0], first[1], second[1], ...
    static ALWAYS_INLINE void store_pairs(BFloat16* target, __m512i first, __m512i second) {
        store(target, _mm512_permutex2var_epi16(first, interleaving(0, 32), second));
        store(target + 32, _mm512_permutex2var_epi16(first, interleaving(16, 48), second));
    }

    // Pairs (source[row][d], source[row + 1][d]) for eight d; zeros outside of the source.
    static ALWAYS_INLINE EightBits two_rows(const TokenRows<const BFloat16>& source, int count, int head_dim,
                                            int row, int d) {
        EightHalves x[2] = {};
        for (int i = 0; i < 2; ++i) {
            if (row + i < count && d < head_dim) x[i] = load<EightHalves>(source[row + i] + d);
        }
        return __builtin_convertvector(x[0], EightBits) | (__builtin_convertvector(x[1], EightBits) << 16);
    }

    // Indices a, b, a + 1, b + 1, ... of 16-bit numbers.
    static ALWAYS_INLINE __m512i interleaving(int a, int b) {
        const __m512i steps = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        const __m512i both = _mm512_or_si512(steps, _mm512_slli_epi32(steps, 16));
        return _mm512_add_epi32(both, _mm512_set1_epi32(a | (b << 16)));
    }
};

}  // namespace lsm2::INSTRUCTION_SET
#endif
