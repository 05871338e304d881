// Moves rows between tensors of float32, bfloat16 or float16 and float32 blocks in scratch memory, transposed
// or not. Head dims are multiples of 8, so eight elements are moved at a time, whatever the width of the
// machine's vectors.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace lsm2::INSTRUCTION_SET {

typedef float Eight __attribute__((vector_size(32)));
typedef uint32_t EightBits __attribute__((vector_size(32)));
typedef uint16_t EightHalves __attribute__((vector_size(16)));

struct Float32 {
    float value;
    static ALWAYS_INLINE Eight load_eight(const Float32* source) { return load<Eight>(source); }
    static ALWAYS_INLINE void store_eight(Float32* target, Eight x) { store(target, x); }
};

struct BFloat16 {
    uint16_t bits;
    static ALWAYS_INLINE Eight load_eight(const BFloat16* source) {
        return (Eight)(__builtin_convertvector(load<EightHalves>(source), EightBits) << 16);
    }
    static ALWAYS_INLINE void store_eight(BFloat16* target, Eight x) {
        const EightBits bits = (EightBits)x;
        const EightBits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
        store(target, __builtin_convertvector(x == x ? rounded : EightBits{} + 0x7fc0, EightHalves));
    }
};

struct Float16 {
    uint16_t bits;
    static ALWAYS_INLINE Eight load_eight(const Float16* source) {
        const EightBits half = __builtin_convertvector(load<EightHalves>(source), EightBits);
        const EightBits magnitude = (half & 0x7fff) << 13;
        // Corrects the exponent's bias; subnormals become normal.
        const EightBits finite = (EightBits)((Eight)magnitude * 0x1p112f);
        return (Eight)((magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : finite) |
                       ((half & 0x8000) << 16));
    }
    static ALWAYS_INLINE void store_eight(Float16* target, Eight x) {
        const EightBits bits = (EightBits)x;
        const EightBits magnitude = bits & 0x7fffffff;
        const EightBits normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
        // The last bit of 0.5 is 2**-24, float16's smallest step, so this sum rounds a subnormal to nearest,
        // ties to even.
        const EightBits subnormal = (EightBits)((Eight)magnitude + 0.5f) - 0x3f000000u;
        EightBits half = magnitude < 0x38800000u ? subnormal : normal;
        half = magnitude >= 0x47800000u ? EightBits{} + 0x7c00 : half;
        half = magnitude > 0x7f800000u ? EightBits{} + 0x7e00 : half;
        store(target, __builtin_convertvector(half | ((bits >> 16) & 0x8000), EightHalves));
    }
};

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, EightBits{__VA_ARGS__})
#endif

template <class Row>  // eight 32-bit numbers
ALWAYS_INLINE void transpose(Row (&x)[8]) {
    Row y[8];
    for (int i = 0; i < 8; i += 2) {
        y[i] = SHUFFLE(x[i], x[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        y[i + 1] = SHUFFLE(x[i], x[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4) {
        for (int j = 0; j < 2; ++j) {
            x[i + 2 * j] = SHUFFLE(y[i + j], y[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            x[i + 2 * j + 1] = SHUFFLE(y[i + j], y[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    }
    for (int i = 0; i < 4; ++i) {
        y[i] = SHUFFLE(x[i], x[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        y[i + 4] = SHUFFLE(x[i], x[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    for (int i = 0; i < 8; ++i) x[i] = y[i];
}

// Rows of one head of a tensor, one for each token that takes part.
template <class T>
struct TokenRows {
    T* first;
    int64_t stride;
    const int64_t* tokens;  // null: one token after the other
    ALWAYS_INLINE T* operator[](int64_t i) const { return first + (tokens ? tokens[i] : i) * stride; }
    ALWAYS_INLINE TokenRows from(int64_t i) const {
        return tokens ? TokenRows{first, stride, tokens + i} : TokenRows{first + i * stride, stride, nullptr};
    }
};

// The rows from `token` on, as spans count them; `tensor` is one of kernels.h.
template <class T, class Tensor>
TokenRows<T> token_rows(const Tensor& tensor, const int64_t* tokens, const Span& span, int64_t token,
                        int64_t head) {
    T* first = (T*)tensor.data + span.sequence * tensor.sequence_stride + head * tensor.head_stride;
    return TokenRows<T>{first, tensor.token_stride, tokens}.from(token);
}

// Prefetches one of num_steps shares of at most `count` rows from `first` on, before `end`. The rows of a
// head lie far apart, which no processor predicts by itself.
template <class T>
void prefetch_share(const TokenRows<T>& source, int64_t first, int count, int64_t end, int step,
                    int num_steps, int head_dim) {
    const int64_t share_end = first + count * (step + 1) / num_steps;
    for (int64_t row = first + count * step / num_steps; row < share_end && row < end; ++row) {
        for (int d = 0; d < head_dim; d += 64 / (int)sizeof(T)) __builtin_prefetch(source[row] + d);
    }
}

// block[row][d] = source[row][d]; zeros for count <= row < padded_count and for head_dim <= d < block_stride.
template <class T>
void load_rows(const TokenRows<const T>& source, int count, int padded_count, int head_dim, float* block,
               int block_stride) {
    for (int row = 0; row < padded_count; ++row, block += block_stride) {
        const int filled = row < count ? head_dim : 0;
        for (int d = 0; d < filled; d += 8) store(block + d, T::load_eight(source[row] + d));
        for (int d = filled; d < block_stride; d += 8) store(block + d, Eight{});
    }
}

// block[d][row] = source[row][d]; zeros for count <= row < padded_count.
template <class T>
void load_transposed(const TokenRows<const T>& source, int count, int padded_count, int head_dim,
                     float* block, int block_stride) {
    for (int row = 0; row < padded_count; row += 8) {
        for (int d = 0; d < head_dim; d += 8) {
            Eight x[8];
            for (int i = 0; i < 8; ++i) x[i] = row + i < count ? T::load_eight(source[row + i] + d) : Eight{};
            transpose(x);
            for (int i = 0; i < 8; ++i) store(block + (d + i) * block_stride + row, x[i]);
        }
    }
}

// target[row][d] = block[row][d] * factor.
template <class T>
void store_rows(const TokenRows<T>& target, int count, int head_dim, const float* block, int block_stride,
                float factor) {
    for (int row = 0; row < count; ++row) {
        for (int d = 0; d < head_dim; d += 8)
            T::store_eight(target[row] + d, load<Eight>(block + row * block_stride + d) * factor);
    }
}

// target[row][d] = block[d][row] * factors[row].
template <class T>
void store_transposed(const TokenRows<T>& target, int count, int head_dim, const float* block,
                      int block_stride, const float* factors) {
    for (int row = 0; row < count; row += 8) {
        const Eight factor = load<Eight>(factors + row);
        const int rows = count - row < 8 ? count - row : 8;
        for (int d = 0; d < head_dim; d += 8) {
            Eight x[8];
            for (int i = 0; i < 8; ++i) x[i] = load<Eight>(block + (d + i) * block_stride + row) * factor;
            transpose(x);
            for (int i = 0; i < rows; ++i) T::store_eight(target[row + i] + d, x[i]);
        }
    }
}

}  // namespace lsm2::INSTRUCTION_SET
