// Tile instructions in every form that compilers emit, against plain loops. Prints how many of them the
// emulator carried out. With the argument "mismatch", "unconfigured" or "illegal" it does something wrong
// instead, which must end it. GCC's tile intrinsics do not tell the compiler which memory they read: hence
// the fences.
#include <dlfcn.h>
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

namespace {

struct alignas(64) Configuration {
    uint8_t palette, start_row, reserved_1[14];
    uint16_t column_bytes[8];
    uint8_t reserved_2[16];
    uint8_t rows[8], reserved_3[8];
};

Configuration all_of(int rows, int column_bytes) {
    Configuration result = {};
    result.palette = 1;
    for (int i = 0; i < 8; ++i)
        result.rows[i] = (uint8_t)rows, result.column_bytes[i] = (uint16_t)column_bytes;
    return result;
}

const Configuration full = all_of(16, 64);
int failures = 0;

void fence() { asm volatile("" : : : "memory"); }

void expect(bool is_right, const char* what) {
    if (is_right) return;
    printf("wrong: %s\n", what);
    ++failures;
}

uint16_t bfloat16_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)(bits >> 16);
}

// Small whole numbers, so that every order of the sums gives the same bits.
int number_at(int i, int j) { return (i * 7 + j * 13 + i * j) % 17 - 8; }

constexpr int kSize = 32, kDepth = 64;  // (32, 64) times (64, 32), in tiles of 16 rows and 64 bytes

void test_product() {
    static uint16_t a[kSize][kDepth], b[kDepth / 2][kSize][2];  // rows of b in pairs, as tdpbf16ps wants them
    static float c[kSize][kSize];
    for (int i = 0; i < kSize; ++i) {
        for (int k = 0; k < kDepth; ++k)
            a[i][k] = bfloat16_of((float)number_at(i, k)),
            b[k / 2][i][k % 2] = bfloat16_of((float)number_at(k, i));
    }
    _tile_loadconfig(&full);
    fence();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int k = 0; k < kDepth; k += 32) {
        _tile_loadd(4, &a[0][k], sizeof a[0]);
        _tile_loadd(5, &a[16][k], sizeof a[0]);
        _tile_stream_loadd(6, &b[k / 2][0], sizeof b[0]);
        _tile_loadd(7, &b[k / 2][16], sizeof b[0]);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, &c[0][0], sizeof c[0]);
    _tile_stored(1, &c[0][16], sizeof c[0]);
    _tile_stored(2, &c[16][0], sizeof c[0]);
    _tile_stored(3, &c[16][16], sizeof c[0]);
    Configuration stored = {};
    fence();
    _tile_storeconfig(&stored);
    fence();
    expect(memcmp(&stored, &full, sizeof full) == 0, "sttilecfg");
    _tile_release();
    fence();
    _tile_storeconfig(&stored);
    fence();
    expect(stored.palette == 0 && stored.rows[0] == 0, "tilerelease");
    for (int i = 0; i < kSize; ++i) {
        for (int j = 0; j < kSize; ++j) {
            int sum = 0;
            for (int k = 0; k < kDepth; ++k) sum += number_at(i, k) * number_at(k, j);
            expect(c[i][j] == (float)sum, "product");
        }
    }
}

void test_small_tiles() {  // 3 rows, 5 pairs, 7 columns; what lies outside is neither read nor written
    Configuration sizes = {};
    sizes.palette = 1;
    sizes.rows[0] = 3, sizes.column_bytes[0] = 7 * 4;
    sizes.rows[1] = 3, sizes.column_bytes[1] = 5 * 4;
    sizes.rows[2] = 5, sizes.column_bytes[2] = 7 * 4;
    uint16_t a[3][10], b[5][7][2];
    float c[4][9];
    for (int i = 0; i < 3; ++i) {
        for (int k = 0; k < 10; ++k) a[i][k] = bfloat16_of((float)number_at(i, k));
    }
    for (int j = 0; j < 7; ++j) {
        for (int k = 0; k < 10; ++k) b[k / 2][j][k % 2] = bfloat16_of((float)number_at(k, j));
    }
    for (auto& row : c) {
        for (float& x : row) x = 1000;
    }
    fence();
    _tile_loadconfig(&sizes);
    _tile_loadd(0, c, sizeof c[0]);
    _tile_loadd(1, a, sizeof a[0]);
    _tile_loadd(2, b, sizeof b[0]);
    _tile_dpbf16ps(0, 1, 2);
    _tile_stored(0, c, sizeof c[0]);
    _tile_release();
    for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 9; ++j) {
            int sum = 1000;
            for (int k = 0; k < 10 && i < 3 && j < 7; ++k) sum += number_at(i, k) * number_at(k, j);
            expect(c[i][j] == (float)sum, "small tiles");
        }
    }
}

void test_denormal_numbers() {
    const Configuration one = all_of(1, 4);
    const auto product = [&](float a, float b, float c) {
        const uint16_t pair_a[2] = {bfloat16_of(a), 0}, pair_b[2] = {bfloat16_of(b), 0};
        fence();
        _tile_loadconfig(&one);
        _tile_loadd(0, &c, 4);
        _tile_loadd(1, pair_a, 4);
        _tile_loadd(2, pair_b, 4);
        _tile_dpbf16ps(0, 1, 2);
        _tile_stored(0, &c, 4);
        _tile_release();
        return c;
    };
    expect(product(0x1p-127f, 0x1p10f, 0) == 0, "a denormal factor is zero");
    expect(product(0x1p-100f, 0x1p-40f, 0) == 0, "a denormal product is zero");
    expect(product(0, 0, 0x1p-127f) == 0, "a denormal sum is zero");
    expect(product(0x1p-100f, 0x1p-20f, 0) == 0x1p-120f, "small numbers");
    expect(product(1, 1, 0x1p24f) == 0x1p24f && product(3, 1, 0x1p24f) == 0x1p24f + 4, "ties go to even");
}

alignas(64) char from[16 * 64 * 8];
alignas(64) char to[16 * 64];

// Checks that tile 3 holds 16 rows that lie `stride` bytes apart in `from`.
void expect_rows(int stride, const char* what) {
    _tile_stored(3, to, 64);
    for (int row = 0; row < 16; ++row)
        expect(memcmp(to + 64 * row, from + (int64_t)stride * row, 64) == 0, what);
}

#define LOAD(base, index, scale, displacement)                                                  \
    do {                                                                                        \
        const uint64_t pointer = (uint64_t)from - (displacement);                               \
        const int64_t stride = 128 / (scale);                                                   \
        asm volatile("movq %0, %%" base "\n\tmovq %1, %%" index                                 \
                     "\n\t"                                                                     \
                     "tileloadd " #displacement "(%%" base ", %%" index ", " #scale "), %%tmm3" \
                     :                                                                          \
                     : "r"(pointer), "r"(stride)                                                \
                     : base, index, "memory");                                                  \
        expect_rows(128, "tileloadd " #displacement "(" base ", " index ", " #scale ")");       \
    } while (0)

__attribute__((noinline)) void test_addresses() {  // not inlined, so that no frame pointer occupies rbp
    for (size_t i = 0; i < sizeof from; ++i) from[i] = (char)(i * 31 + i / 64);
    fence();
    _tile_loadconfig(&full);
    LOAD("rax", "rcx", 1, 0);
    LOAD("rcx", "rdx", 2, 8);
    LOAD("rdx", "rbx", 4, -128);
    LOAD("rbx", "rbp", 8, 127);
    LOAD("rbp", "rsi", 1, 0);
    LOAD("rsi", "rdi", 2, 128);
    LOAD("rdi", "r8", 4, -65536);
    LOAD("r8", "r9", 8, 0);
    LOAD("r9", "r10", 1, 64);
    LOAD("r10", "r11", 2, 4096);
    LOAD("r11", "r12", 4, 0);
    LOAD("r12", "r13", 8, 0);
    LOAD("r13", "r14", 1, 0);
    LOAD("r14", "r15", 2, -1);
    LOAD("r15", "rax", 4, 1000000);
    // From the stack: below the 128 bytes that belong to the function that was interrupted.
    const char* source = from;
    asm volatile(
        "leaq -1152(%%rsp), %%rsp\n\tmovq %%rsp, %%rdi\n\tmovl $1024, %%ecx\n\trep movsb\n\t"
        "tileloadd (%%rsp, %%rax, 1), %%tmm3\n\tleaq 1152(%%rsp), %%rsp"
        : "+S"(source)
        : "a"((int64_t)64)
        : "rdi", "rcx", "memory");
    expect_rows(64, "tileloadd (rsp, rax, 1)");
    asm volatile("tileloadd 64(%0), %%tmm3"
                 :
                 : "r"((uint64_t)from - 64)
                 : "memory");  // no index: every row is the first
    expect_rows(0, "tileloadd 64(base)");
}

void test_threads() {  // each has tiles of its own
    fence();
    _tile_loadconfig(&full);
    _tile_loadd(3, from, 64);
    std::thread([] {
        Configuration stored = all_of(1, 4);
        fence();
        _tile_storeconfig(&stored);
        fence();
        expect(stored.palette == 0, "a new thread has no tiles configured");
        const Configuration small = all_of(2, 8);
        fence();
        _tile_loadconfig(&small);
        _tile_zero(3);
    }).join();
    expect_rows(64, "tiles after another thread's work");
    _tile_release();
}

}  // namespace

int main(int count, char** arguments) {
    constexpr int kRequestPermission = 0x1023, kTileData = 18;
    syscall(SYS_arch_prctl, kRequestPermission,
            kTileData);  // a processor with AMX wants it; where there is none, it fails
    if (count > 1) {
        Configuration wrong = all_of(16, 64);
        wrong.rows[2] = 8;
        if (!strcmp(arguments[1], "mismatch")) {
            fence();
            _tile_loadconfig(&wrong);
            _tile_dpbf16ps(0, 1, 2);
        }
        if (!strcmp(arguments[1], "unconfigured")) _tile_zero(0);
        if (!strcmp(arguments[1], "illegal")) __builtin_trap();
        return 0;
    }
    test_product();
    test_small_tiles();
    test_denormal_numbers();
    test_addresses();
    test_threads();
    const auto emulated = (uint64_t (*)())dlsym(RTLD_DEFAULT, "amx_emulator_count");
    printf("%llu\n", emulated ? (unsigned long long)emulated() : 0ull);
    return failures > 0;
}
