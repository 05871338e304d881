// Vectors as wide as the instruction set of this translation unit, by the vector extensions of GCC and Clang.
// All of it lies in the namespace of the instruction set, so that no two instruction sets share a function.
#pragma once

#include <cstdint>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#define ALWAYS_INLINE inline __attribute__((always_inline))

namespace lsm2::INSTRUCTION_SET {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kVectorLanes = kVectorBytes / 4;

typedef float Vector __attribute__((vector_size(kVectorBytes)));
typedef int32_t IntVector __attribute__((vector_size(kVectorBytes)));

template <class V>
ALWAYS_INLINE V load(const void* source) {
    V value;
    __builtin_memcpy(&value, source, sizeof(V));
    return value;
}

template <class V>
ALWAYS_INLINE void store(void* target, V value) {
    __builtin_memcpy(target, &value, sizeof(V));
}

ALWAYS_INLINE Vector broadcast(float value) { return value - Vector{}; }

// b where either is NaN.
ALWAYS_INLINE Vector maximum(Vector a, Vector b) {
#if defined(__AVX512F__)
    // Masked, because GCC 12 warns that _mm512_max_ps reads an uninitialised value.
    return (Vector)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (Vector)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return a > b ? a : b;
#endif
}

// e**x for x <= 88, with a relative error below 1.5e-7; at least the smallest normal number, NaN for NaN,
// exactly 1 for 0.
ALWAYS_INLINE Vector exp(Vector x) {
    x = maximum(broadcast(-87.3f), x);
    // Adding 1.5 * 2**23 leaves the nearest integer in the low bits.
    const Vector to_integer = broadcast(12582912.0f);
    const Vector shifted = x * 1.44269504088896341f + to_integer;
    const Vector n = shifted - to_integer;
    // r = x - n ln(2); the first product is exact (Cody and Waite).
    const Vector r = x - n * 0.693359375f + n * 2.12194440e-4f;
    // e**r: the polynomial 1 + r + ... of degree 6 that minimises the largest relative error on
    // [-ln(2) / 2, ln(2) / 2].
    Vector p = broadcast(0.001381459878757596f);
    p = p * r + 0.008368716575205326f;
    p = p * r + 0.04166838899254799f;
    p = p * r + 0.1666652113199234f;
    p = p * r + 0.4999999403953552f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return (Vector)((IntVector)p + ((IntVector)shifted << 23));  // times 2**n: n is added to the exponent
}

}  // namespace lsm2::INSTRUCTION_SET
