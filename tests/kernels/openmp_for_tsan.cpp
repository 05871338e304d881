// Tells ThreadSanitizer where OpenMP's threads start and are waited for: torch's libgomp is not instrumented,
// and without this every variable that a worker reads would look like a race. To be preloaded together with
// libtsan.
#include <dlfcn.h>

extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}

namespace {

struct Region {
    void (*body)(void*);
    void* data;
    char start, end;
};

void run(void* raw) {
    auto* region = (Region*)raw;
    __tsan_acquire(&region->start);
    region->body(region->data);
    __tsan_release(&region->end);
}

}  // namespace

extern "C" void GOMP_parallel(void (*body)(void*), void* data, unsigned num_threads, unsigned flags) {
    static const auto original =
        (void (*)(void (*)(void*), void*, unsigned, unsigned))dlsym(RTLD_NEXT, "GOMP_parallel");
    Region region{body, data, 0, 0};
    __tsan_release(&region.start);
    original(run, &region, num_threads, flags);
    __tsan_acquire(&region.end);
}
