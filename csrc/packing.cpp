// Gathering of whole rows of bytes, whatever their element type: the machine's own memcpy knows its instruction set.
#include <cstring>

#include "kernels.h"

namespace lsm2 {

void gather_rows(char* target, const char* source, const int64_t* indices, int64_t count, int64_t num_source_rows, int64_t row_bytes, const char* substitute) {
    for (int64_t i = 0; i < count; ++i, target += row_bytes) {
        const bool is_named = indices[i] >= 0 && indices[i] < num_source_rows;
        const char* row = is_named ? source + indices[i] * row_bytes : substitute;
        if (row) {
            std::memcpy(target, row, row_bytes);
        } else {
            std::memset(target, 0, row_bytes);
        }
    }
}

}  // namespace lsm2
