// Gathering and scattering of whole rows of bytes, whatever their element type: the machine's own memcpy knows its instruction set.
#include <cstring>

#include "kernels.h"

namespace lsm2 {

void copy_rows(char* target, const char* const* sources, int64_t num_rows, int64_t row_bytes) {
    for (int64_t row = 0; row < num_rows; ++row, target += row_bytes) {
        if (sources[row]) {
            std::memcpy(target, sources[row], row_bytes);
        } else {
            std::memset(target, 0, row_bytes);
        }
    }
}

}  // namespace lsm2
