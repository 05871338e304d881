// Checks tensors, with messages that reach the user, and turns them into the plain data of kernels.h.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "kernels.h"
#include "memory.h"

namespace lsm2 {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

inline Element element_of(const Tensor& x, const char* name) {
    switch (x.scalar_type()) {
        case ScalarType::Float: return Element::float32;
        case ScalarType::BFloat16: return Element::bfloat16;
        case ScalarType::Half: return Element::float16;
        default: STD_TORCH_CHECK(false, "lsm2_kernels: ", name, " must be float32, bfloat16 or float16");
    }
}

inline std::string shape_of(const Tensor& x) {
    std::string shape = "(";
    for (int64_t d = 0; d < x.dim(); ++d) shape += (d ? ", " : "") + std::to_string(x.size(d));
    return shape + ")";
}

inline void check_rows(const Tensor& x, const char* name, const Tensor& like) {
    STD_TORCH_CHECK(x.dim() == like.dim(), "lsm2_kernels: ", name, " must have ", like.dim(),
                    " dimensions, not ", x.dim());
    STD_TORCH_CHECK(x.scalar_type() == like.scalar_type(), "lsm2_kernels: ", name,
                    " must have the dtype of q");
    STD_TORCH_CHECK(x.is_cpu(), "lsm2_kernels: ", name, " must be on the CPU");
    const int64_t last = x.dim() - 1;
    STD_TORCH_CHECK(x.size(last) == like.size(last), "lsm2_kernels: ", name, " has head dim ", x.size(last),
                    " where q has ", like.size(last));
}

inline void check_same_shape(const Tensor& x, const char* name, const Tensor& like) {
    check_rows(x, name, like);
    for (int64_t d = 0; d < x.dim(); ++d) {
        STD_TORCH_CHECK(x.size(d) == like.size(d), "lsm2_kernels: ", name, " has shape ", shape_of(x),
                        "; it should be ", shape_of(like));
    }
}

// q, k, v: (tokens, heads, head_dim) or (sequences, heads, tokens, head_dim).
inline void check_qkv(const Tensor& q, const Tensor& k, const Tensor& v, int64_t num_dims) {
    STD_TORCH_CHECK(q.dim() == num_dims, "lsm2_kernels: q must have ", num_dims, " dimensions, not ",
                    q.dim());
    element_of(q, "q");
    check_rows(q, "q", q);
    check_rows(k, "k", q);
    check_same_shape(v, "v", k);
    const int64_t head_dim = q.size(num_dims - 1);
    STD_TORCH_CHECK(head_dim % 8 == 0 && head_dim >= 8 && head_dim <= 256,
                    "lsm2_kernels: the head dim must be a multiple of 8 from 8 to 256, not ", head_dim);
    STD_TORCH_CHECK(k.size(1) > 0 ? q.size(1) % k.size(1) == 0 : q.size(1) == 0, "lsm2_kernels: ", q.size(1),
                    " query heads are no multiple of ", k.size(1), " key heads");
}

inline Tensor new_tensor(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef sizes,
                         std::optional<ScalarType> dtype = std::nullopt) {
    const Tensor x = torch::stable::new_empty(like, sizes, dtype);
    prefer_large_pages(x.mutable_data_ptr(), x.numel() * (int64_t)x.element_size());
    return x;
}

inline Tensor with_contiguous_rows(const Tensor& x) {
    return x.stride(x.dim() - 1) == 1 ? x : torch::stable::contiguous(x);
}

inline Rows rows_of(const Tensor& x) {
    if (x.dim() == 4) return {x.const_data_ptr(), x.stride(0), x.stride(2), x.stride(1)};
    return {x.const_data_ptr(), 0, x.stride(0), x.stride(1)};
}

inline WritableRows writable_rows_of(const Tensor& x) {
    const Rows rows = rows_of(x);
    return {x.mutable_data_ptr(), rows.sequence_stride, rows.token_stride, rows.head_stride};
}

// (heads, tokens), or (sequences, heads, tokens) where q has four dimensions.
inline Statistics statistics_of(const OptionalTensor& x, const char* name, const Tensor& q) {
    if (!x) return {nullptr, 0, 0, 0};
    STD_TORCH_CHECK(x->scalar_type() == ScalarType::Float && x->is_cpu() && x->dim() == q.dim() - 1,
                    "lsm2_kernels: ", name, " must be float32 with ", q.dim() - 1, " dimensions");
    const bool is_packed = q.dim() == 3;
    const bool fits = is_packed
                          ? x->size(0) == q.size(1) && x->size(1) == q.size(0)
                          : x->size(0) == q.size(0) && x->size(1) == q.size(1) && x->size(2) == q.size(2);
    STD_TORCH_CHECK(fits, "lsm2_kernels: ", name, " has shape ", shape_of(*x), " where q has ", shape_of(q));
    if (is_packed) return {x->const_data_ptr<float>(), 0, x->stride(1), x->stride(0)};
    return {x->const_data_ptr<float>(), x->stride(0), x->stride(2), x->stride(1)};
}

inline WritableStatistics writable_statistics_of(const Tensor& x, const Tensor& q) {
    const Statistics statistics = statistics_of(x, "lse", q);
    return {x.mutable_data_ptr<float>(), statistics.sequence_stride, statistics.token_stride,
            statistics.head_stride};
}

// The values of cu_seqlens, checked.
inline std::vector<int64_t> offsets_of(const Tensor& cu_seqlens, const char* name, int64_t num_tokens) {
    STD_TORCH_CHECK(cu_seqlens.is_cpu() && cu_seqlens.dim() == 1 && cu_seqlens.size(0) >= 1,
                    "lsm2_kernels: ", name, " must have shape (sequences + 1,)");
    const bool is_int32 = cu_seqlens.scalar_type() == ScalarType::Int;
    STD_TORCH_CHECK(is_int32 || cu_seqlens.scalar_type() == ScalarType::Long, "lsm2_kernels: ", name,
                    " must be int32 or int64");
    const void* data = cu_seqlens.const_data_ptr();
    std::vector<int64_t> offsets(cu_seqlens.size(0));
    for (size_t i = 0; i < offsets.size(); ++i) {
        const int64_t at = (int64_t)i * cu_seqlens.stride(0);
        offsets[i] = is_int32 ? ((const int32_t*)data)[at] : ((const int64_t*)data)[at];
        STD_TORCH_CHECK(offsets[i] >= (i ? offsets[i - 1] : 0), "lsm2_kernels: ", name,
                        " must not decrease, but element ", i, " is ", offsets[i]);
    }
    STD_TORCH_CHECK(offsets[0] == 0, "lsm2_kernels: ", name, " must start with 0, not ", offsets[0]);
    STD_TORCH_CHECK(offsets.back() <= num_tokens, "lsm2_kernels: ", name, " ends with ", offsets.back(),
                    ", but there are only ", num_tokens, " tokens");
    return offsets;
}

// How many rows of this size are worth starting another thread for.
inline int64_t rows_worth_a_thread(int64_t row_bytes) { return 1 + (1 << 16) / (1 + row_bytes); }

// Sets the rows of a contiguous tensor from `first` on to zero.
inline void zero_tail(const Tensor& x, int64_t first) {
    if (x.numel() == 0) return;
    const int64_t row_bytes = x.numel() / x.size(0) * (int64_t)x.element_size();
    std::memset((char*)x.mutable_data_ptr() + first * row_bytes, 0, (x.size(0) - first) * row_bytes);
}

}  // namespace lsm2
