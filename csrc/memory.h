// Allocation of memory aligned for vectors, in large pages where it is large.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace lsm2 {

// Asks for large pages for large memory: the first touch of a page costs more than filling it. Linux may
// ignore this hint.
inline void prefer_large_pages([[maybe_unused]] void* memory, [[maybe_unused]] int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr uintptr_t page = 4096, worthwhile = 4 << 20;
    const uintptr_t begin = ((uintptr_t)memory + page - 1) & ~(page - 1);
    const uintptr_t end = ((uintptr_t)memory + (uintptr_t)bytes) & ~(page - 1);
    if ((uintptr_t)bytes >= worthwhile) madvise((void*)begin, end - begin, MADV_HUGEPAGE);
#endif
}

struct FreeAligned {
    void operator()(char* memory) const { ::operator delete(memory, std::align_val_t(64)); }
};
using Memory = std::unique_ptr<char, FreeAligned>;

inline Memory allocate(int64_t bytes) {
    Memory memory((char*)::operator new(bytes, std::align_val_t(64)));
    prefer_large_pages(memory.get(), bytes);
    return memory;
}

}  // namespace lsm2
