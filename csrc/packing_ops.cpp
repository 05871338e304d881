// The packing ops: rows of bytes are gathered whole, whatever their element type. The machine's own memcpy
// knows its instruction set.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "tensors.h"

namespace lsm2 {
namespace {

int64_t row_elements_of(const Tensor& x) {
    int64_t elements = 1;
    for (int64_t d = 1; d < x.dim(); ++d) elements *= x.size(d);
    return elements;
}

Tensor checked_indices(const Tensor& indices) {
    STD_TORCH_CHECK(indices.is_cpu() && indices.dim() == 1 && indices.scalar_type() == ScalarType::Long,
                    "lsm2_kernels: indices must be int64 of shape (tokens,)");
    return torch::stable::contiguous(indices);
}

// One row of the result for each index: that row of x or, where x has no such row, `substitute`, or zeros
// where that is null.
Tensor gather(const Tensor& x, const int64_t* indices, int64_t count, const char* substitute) {
    std::vector<int64_t> sizes(x.sizes().begin(), x.sizes().end());
    sizes[0] = count;
    Tensor result = new_tensor(x, sizes);
    if (result.numel() == 0) return result;
    const int64_t row_bytes = row_elements_of(x) * (int64_t)x.element_size();
    const int64_t num_rows = x.size(0);
    const char* source = (const char*)x.const_data_ptr();
    char* target = (char*)result.mutable_data_ptr();
    const auto gather_rows = [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const bool is_named = indices[i] >= 0 && indices[i] < num_rows;
            const char* row = is_named ? source + indices[i] * row_bytes : substitute;
            if (row) std::memcpy(target + i * row_bytes, row, row_bytes);
            else std::memset(target + i * row_bytes, 0, row_bytes);
        }
    };
    torch::stable::parallel_for(0, count, rows_worth_a_thread(row_bytes), gather_rows);
    return result;
}

Tensor pack(const Tensor& any_x, const Tensor& any_indices) {
    STD_TORCH_CHECK(any_x.dim() >= 1, "lsm2_kernels: x must have at least one dimension");
    const Tensor x = torch::stable::contiguous(any_x), indices = checked_indices(any_indices);
    return gather(x, indices.const_data_ptr<int64_t>(), indices.size(0), nullptr);
}

Tensor unpack(const Tensor& any_x, const Tensor& any_indices, const OptionalTensor& any_fill,
              int64_t num_rows) {
    STD_TORCH_CHECK(any_x.dim() >= 1 && num_rows >= 0,
                    "lsm2_kernels: x must have at least one dimension, and num_rows must not be negative");
    const Tensor x = torch::stable::contiguous(any_x), indices = checked_indices(any_indices);
    STD_TORCH_CHECK(indices.size(0) == x.size(0), "lsm2_kernels: x has ", x.size(0), " rows, but there are ",
                    indices.size(0), " indices");
    OptionalTensor fill;
    if (any_fill) {
        fill = torch::stable::contiguous(*any_fill);
        STD_TORCH_CHECK(
            fill->scalar_type() == x.scalar_type() && fill->is_cpu() && fill->numel() == row_elements_of(x),
            "lsm2_kernels: fill must have the dtype of x and as many numbers as one of its rows");
    }
    // The row of x that belongs in each row of the result, or -1.
    const Tensor row_of = new_tensor(indices, {num_rows});
    int64_t* rows = row_of.mutable_data_ptr<int64_t>();
    std::fill(rows, rows + num_rows, -1);
    const int64_t* targets = indices.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < indices.size(0); ++i) {
        if (targets[i] >= 0 && targets[i] < num_rows) rows[targets[i]] = i;
    }
    return gather(x, rows, num_rows, fill ? (const char*)fill->const_data_ptr() : nullptr);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(lsm2_kernels, CPU, library) {
    library.impl("pack", TORCH_BOX(&pack));
    library.impl("unpack", TORCH_BOX(&unpack));
}

}  // namespace lsm2
