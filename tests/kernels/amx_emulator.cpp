// Lets a processor without AMX run machine code that was compiled for it: preloaded into a process
// (LD_PRELOAD), this library catches SIGILL, carries out the tile instruction that raised it, and lets the
// thread go on behind that instruction.
//
//     VEX.128.NP.0F38.W0 49 /0 m512          ldtilecfg  [mem]
//     VEX.128.66.0F38.W0 49 /0 m512          sttilecfg  [mem]
//     VEX.128.NP.0F38.W0 49 C0               tilerelease
//     VEX.128.F2.0F38.W0 49 11:rrr:000       tilezero   tmm
//     VEX.128.F2.0F38.W0 4B /r sibmem        tileloadd  tmm, [base + index * scale + displacement]
//     VEX.128.66.0F38.W0 4B /r sibmem        tileloaddt1, the same but for a hint to the cache
//     VEX.128.F3.0F38.W0 4B /r sibmem        tilestored [base + index * scale + displacement], tmm
//     VEX.128.F3.0F38.W0 5C 11:rrr:bbb       tdpbf16ps  tmm(ModRM.reg), tmm(ModRM.rm), tmm(VEX.vvvv)
//
// Where a processor would raise an exception for a wrong tile or configuration, this prints why and aborts.
#include <immintrin.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <atomic>

namespace {

constexpr int kTiles = 8, kMostRows = 16, kMostColumnBytes = 64;

struct alignas(64) Configuration {  // as ldtilecfg reads it, palette 1
    uint8_t palette, start_row, reserved_1[14];
    uint16_t column_bytes[kTiles];
    uint8_t reserved_2[16];
    uint8_t rows[kTiles], reserved_3[8];
};
static_assert(sizeof(Configuration) == 64);

struct alignas(64) Tile {
    uint32_t rows[kMostRows][kMostColumnBytes / 4];
};

// A signal handler must not allocate, which other models of thread-local storage do at a thread's first
// access.
#define IN_STATIC_STORAGE thread_local __attribute__((tls_model("initial-exec")))
IN_STATIC_STORAGE Configuration configuration;  // palette 0: tiles are not configured, as in every new thread
IN_STATIC_STORAGE Tile tiles[kTiles];

std::atomic<uint64_t> executed{0};
struct sigaction previous_action;

void require(bool is_right, const char* complaint, int tile = -1) {
    if (is_right) return;
    if (tile < 0) dprintf(2, "amx_emulator: %s\n", complaint);
    else
        dprintf(2, "amx_emulator: %s (tile %d has %d rows of %d bytes)\n", complaint, tile,
                configuration.rows[tile], configuration.column_bytes[tile]);
    abort();
}

// Decoding

enum Prefix { none = 0, x66 = 1, xF3 = 2, xF2 = 3 };  // VEX.pp

struct Instruction {
    int opcode, prefix, reg, rm, vvvv, length;
    bool has_memory, has_sib;
    uint64_t address, stride;
};

int64_t displacement_at(const uint8_t* code, int bytes) {
    if (bytes == 0) return 0;
    if (bytes == 1) return (int8_t)*code;
    int32_t value;
    memcpy(&value, code, 4);
    return value;
}

bool decode(const uint8_t* code, const greg_t* registers, Instruction& result) {
    static const int kOrder[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                   REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    const auto value_of = [&](int number) { return (uint64_t)registers[kOrder[number]]; };

    // C4, then R X B (inverted) mmmmm, then W vvvv (inverted) L pp, then opcode and ModRM.
    if (code[0] != 0xC4 || (code[1] & 0x1F) != 2 || (code[2] & 0x84) != 0) return false;
    const int high_reg = (~code[1] >> 7 & 1) * 8, high_index = (~code[1] >> 6 & 1) * 8,
              high_base = (~code[1] >> 5 & 1) * 8;
    const int mod = code[4] >> 6, rm = code[4] & 7;
    result = {code[3],
              code[2] & 3,
              (code[4] >> 3 & 7) + high_reg,
              rm + high_base,
              ~code[2] >> 3 & 15,
              5,
              mod != 3,
              false,
              0,
              0};
    if (!result.has_memory) return true;

    int displacement_bytes = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    bool is_relative_to_code = false;
    if (rm == 4) {
        const uint8_t sib = code[result.length++];
        const int index = (sib >> 3 & 7) + high_index;
        result.has_sib = true;
        if (index != 4) result.stride = value_of(index) << (sib >> 6);
        if ((sib & 7) == 5 && mod == 0) displacement_bytes = 4;  // no base
        else result.address = value_of((sib & 7) + high_base);
    } else if (rm == 5 && mod == 0) {
        displacement_bytes = 4;
        is_relative_to_code = true;
    } else {
        result.address = value_of(rm + high_base);
    }
    result.address += (uint64_t)displacement_at(code + result.length, displacement_bytes);
    result.length += displacement_bytes;
    if (is_relative_to_code) result.address += (uint64_t)(code + result.length);
    return true;
}

// Execution

void release_tiles() {
    memset(&configuration, 0, sizeof configuration);
    memset(tiles, 0, sizeof tiles);
}

bool is_zero(const uint8_t* bytes, int count) {
    for (int i = 0; i < count; ++i) {
        if (bytes[i]) return false;
    }
    return true;
}

void load_configuration(const void* memory) {
    release_tiles();
    Configuration wanted;
    memcpy(&wanted, memory, sizeof wanted);
    if (wanted.palette == 0) return;
    require(wanted.palette == 1, "ldtilecfg: the palette is neither 0 nor 1");
    require(wanted.start_row == 0,
            "ldtilecfg: start_row is not 0, which is for instructions that were interrupted");
    require(is_zero(wanted.reserved_1, 14) && is_zero(wanted.reserved_2, 16) && is_zero(wanted.reserved_3, 8),
            "ldtilecfg: a reserved byte is not 0");
    configuration = wanted;
    for (int i = 0; i < kTiles; ++i) {
        require(wanted.rows[i] <= kMostRows && wanted.column_bytes[i] <= kMostColumnBytes,
                "ldtilecfg: too large", i);
        require((wanted.rows[i] == 0) == (wanted.column_bytes[i] == 0),
                "ldtilecfg: rows without columns or columns without rows", i);
    }
}

void require_configured(int tile, const char* instruction) {
    require(tile < kTiles && configuration.palette == 1 && configuration.rows[tile] > 0 &&
                configuration.column_bytes[tile] % 4 == 0,
            instruction, tile % kTiles);
}

float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

// Even and odd products have an accumulator each; they are added to each other, and then to the tile.
__attribute__((noinline)) void multiply(Tile& sum, const Tile& a, const Tile& b, int num_rows, int num_pairs,
                                        int num_columns) {
    for (int m = 0; m < num_rows; ++m) {
        float even[16] = {}, odd[16] = {};
        for (int k = 0; k < num_pairs; ++k) {
            const float a_even = from_bits(a.rows[m][k] << 16), a_odd = from_bits(a.rows[m][k] & 0xFFFF0000u);
            for (int n = 0; n < 16; ++n) {
                even[n] = __builtin_fmaf(a_even, from_bits(b.rows[k][n] << 16), even[n]);
                odd[n] = __builtin_fmaf(a_odd, from_bits(b.rows[k][n] & 0xFFFF0000u), odd[n]);
            }
        }
        for (int n = 0; n < num_columns; ++n) {
            const float total = from_bits(sum.rows[m][n]) + (even[n] + odd[n]);
            memcpy(&sum.rows[m][n], &total, 4);
        }
    }
}

void dot_products(int sum, int a, int b) {
    require_configured(sum, "tdpbf16ps: the sum is not configured");
    require_configured(a, "tdpbf16ps: the first factor is not configured");
    require_configured(b, "tdpbf16ps: the second factor is not configured");
    require(sum != a && sum != b && a != b, "tdpbf16ps: its three tiles must differ", sum);
    const uint8_t* rows = configuration.rows;
    const uint16_t* column_bytes = configuration.column_bytes;
    require(rows[sum] == rows[a], "tdpbf16ps: the sum must have the rows of the first factor", a);
    require(column_bytes[sum] == column_bytes[b],
            "tdpbf16ps: the sum must have the columns of the second factor", b);
    require(column_bytes[a] == 4 * rows[b],
            "tdpbf16ps: the first factor must have as many pairs in a row as the second has rows", b);
    const unsigned before = _mm_getcsr();
    _mm_setcsr(0x1F80 | _MM_FLUSH_ZERO_ON |
               _MM_DENORMALS_ZERO_ON);  // the rest: round to nearest even, no exceptions
    multiply(tiles[sum], tiles[a], tiles[b], rows[sum], rows[b], column_bytes[sum] / 4);
    _mm_setcsr(before);
}

void load_tile(int tile, uint64_t address, uint64_t stride) {
    require_configured(tile, "tileloadd: the tile is not configured");
    memset(&tiles[tile], 0, sizeof(Tile));
    for (int row = 0; row < configuration.rows[tile]; ++row)
        memcpy(tiles[tile].rows[row], (const void*)(address + row * stride),
               configuration.column_bytes[tile]);
}

void store_tile(int tile, uint64_t address, uint64_t stride) {
    require_configured(tile, "tilestored: the tile is not configured");
    for (int row = 0; row < configuration.rows[tile]; ++row)
        memcpy((void*)(address + row * stride), tiles[tile].rows[row], configuration.column_bytes[tile]);
}

bool execute(const Instruction& i) {
    const bool has_no_vvvv = i.vvvv == 0;
    if (i.opcode == 0x49 && i.has_memory && i.reg == 0 && i.prefix == none && has_no_vvvv) {
        load_configuration((const void*)i.address);
    } else if (i.opcode == 0x49 && i.has_memory && i.reg == 0 && i.prefix == x66 && has_no_vvvv) {
        memcpy((void*)i.address, &configuration, sizeof configuration);
    } else if (i.opcode == 0x49 && !i.has_memory && i.reg == 0 && i.rm == 0 && i.prefix == none &&
               has_no_vvvv) {
        release_tiles();
    } else if (i.opcode == 0x49 && !i.has_memory && i.rm == 0 && i.prefix == xF2 && has_no_vvvv) {
        require_configured(i.reg, "tilezero: the tile is not configured");
        memset(&tiles[i.reg], 0, sizeof(Tile));
    } else if (i.opcode == 0x4B && i.has_sib && (i.prefix == xF2 || i.prefix == x66) && has_no_vvvv) {
        load_tile(i.reg, i.address, i.stride);
    } else if (i.opcode == 0x4B && i.has_sib && i.prefix == xF3 && has_no_vvvv) {
        store_tile(i.reg, i.address, i.stride);
    } else if (i.opcode == 0x5C && !i.has_memory && i.prefix == xF3) {
        dot_products(i.reg, i.rm, i.vvvv);
    } else {
        return false;
    }
    return true;
}

void on_illegal_instruction(int signal, siginfo_t* info, void* raw_context) {
    greg_t* registers = ((ucontext_t*)raw_context)->uc_mcontext.gregs;
    Instruction instruction;
    if (decode((const uint8_t*)registers[REG_RIP], registers, instruction) && execute(instruction)) {
        registers[REG_RIP] += instruction.length;
        executed.fetch_add(1, std::memory_order_relaxed);
    } else if (previous_action.sa_flags & SA_SIGINFO) {
        previous_action.sa_sigaction(signal, info, raw_context);
    } else if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
        previous_action.sa_handler(signal);
    } else {
        sigaction(signal, &previous_action, nullptr);  // the instruction is met again and ends the process
    }
}

__attribute__((constructor)) void install() {
    struct sigaction action = {};
    action.sa_sigaction = on_illegal_instruction;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGILL, &action, &previous_action);
}

}  // namespace

extern "C" uint64_t amx_emulator_count() { return executed; }
