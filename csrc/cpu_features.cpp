// The instruction sets that this build contains and this machine can run.
#include "kernels.h"

#ifdef LSM2_HAS_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define DECLARE_KERNELS(instruction_set)                                           \
    namespace instruction_set {                                                    \
    int64_t query_chunk();                                                         \
    int64_t forward_scratch_bytes(int);                                            \
    void attention_forward(const Forward&, const Span&, int64_t, char*);           \
    int64_t backward_key_chunk(int);                                               \
    int64_t backward_scratch_bytes(int);                                           \
    int64_t partial_floats(int, int, int64_t);                                     \
    void attention_backward(const Backward&, const Span&, int64_t, float*, char*); \
    void sum_query_gradients(const Backward&, const Span&, int64_t, float*, int);  \
    }                                                                              \
    static const Kernels* instruction_set##_kernels() {                            \
        static const Kernels kernels{#instruction_set,                             \
                                     instruction_set::query_chunk(),               \
                                     instruction_set::forward_scratch_bytes,       \
                                     instruction_set::attention_forward,           \
                                     instruction_set::backward_key_chunk,          \
                                     instruction_set::backward_scratch_bytes,      \
                                     instruction_set::partial_floats,              \
                                     instruction_set::attention_backward,          \
                                     instruction_set::sum_query_gradients};        \
        return &kernels;                                                           \
    }

namespace lsm2 {

DECLARE_KERNELS(portable)

#ifdef LSM2_HAS_X86
DECLARE_KERNELS(avx2)
DECLARE_KERNELS(avx512)

// __builtin_cpu_supports asks CPUID and, by xgetbv, whether the operating system saves the wide registers.
static bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

#ifdef LSM2_HAS_AVX512_BF16
DECLARE_KERNELS(avx512_bf16)
static bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#endif

#ifdef LSM2_HAS_AMX
DECLARE_KERNELS(amx)

// Whether the processor has AMX-TILE and AMX-BF16, and Linux lets this process use the tile registers.
static bool has_amx() {
#ifdef LSM2_ASSUME_AMX  // a test build, whose AMX instructions are trapped and emulated
    return has_avx512_bf16();
#else
    static const bool granted = [] {
        unsigned a, b, c, d;
        constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;
        if (!has_avx512_bf16() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) ||
            (d & (amx_bf16 | amx_tile)) != (amx_bf16 | amx_tile)) {
            return false;
        }
        constexpr long request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM
        constexpr long tile_data = 18;               // XFEATURE_XTILEDATA
        return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
    }();
    return granted;
#endif
}
#endif

const Kernels* kernels_for(int instruction_set) {
    switch (instruction_set) {
        case 0: return portable_kernels();
#ifdef LSM2_HAS_X86
        case 1: return has_avx2() ? avx2_kernels() : nullptr;
        case 2: return has_avx512() ? avx512_kernels() : nullptr;
#endif
#ifdef LSM2_HAS_AVX512_BF16
        case 3: return has_avx512_bf16() ? avx512_bf16_kernels() : nullptr;
#endif
#ifdef LSM2_HAS_AMX
        case 4: return has_amx() ? amx_kernels() : nullptr;
#endif
        default: return nullptr;
    }
}

}  // namespace lsm2
