// Which instruction sets this build holds and this machine can run.
#include "kernels.h"

#define DECLARE_LEVEL(set)                                                              \
    namespace set {                                                                     \
    int64_t query_chunk();                                                              \
    int64_t forward_scratch_floats(int head_dim);                                       \
    int64_t backward_scratch_floats(int head_dim, int64_t key_count);                   \
    void attention_forward(const Forward&, const Span&, int64_t head, float*);          \
    void attention_backward(const Backward&, const Span&, int64_t key_head, float*);    \
    }
#define KERNELS_OF_LEVEL(set) \
    Kernels { #set, set::query_chunk(), set::forward_scratch_floats, set::backward_scratch_floats, set::attention_forward, set::attention_backward }

namespace lsm2 {

DECLARE_LEVEL(portable)
#ifdef LSM2_X86_LEVELS
DECLARE_LEVEL(avx2)
DECLARE_LEVEL(avx512)
#endif

const Kernels* kernels_of_level(int level) {
    // __builtin_cpu_supports asks CPUID and, by xgetbv, whether the operating system saves the wide registers.
    static const Kernels portable_kernels = KERNELS_OF_LEVEL(portable);
    if (level == 0) return &portable_kernels;
#ifdef LSM2_X86_LEVELS
    static const Kernels avx2_kernels = KERNELS_OF_LEVEL(avx2), avx512_kernels = KERNELS_OF_LEVEL(avx512);
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (level == 1 && has_avx2) return &avx2_kernels;
    if (level == 2 && has_avx512) return &avx512_kernels;
#endif
    return nullptr;
}

}  // namespace lsm2
