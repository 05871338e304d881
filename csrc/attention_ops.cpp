// The attention ops: they check tensors, allocate results and call the kernels. Only the *_ops.cpp, tensors.h
// and threads.h use torch, and only its stable ABI. lsm2_kernels/_ops.py defines the schemas.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <tuple>
#include <vector>

#include "kernels.h"
#include "tensors.h"
#include "work_items.h"

namespace lsm2 {
namespace {

using TwoTensors = std::tuple<Tensor, Tensor>;
using ThreeTensors = std::tuple<Tensor, Tensor, Tensor>;

// Instruction set

// The number of the instruction set in use: at first the newest that this build and this machine have.
std::atomic<int>& current_instruction_set() {
    static std::atomic<int> current = [] {
        int newest = kNumInstructionSets - 1;
        while (!kernels_for(newest)) --newest;
        return newest;
    }();
    return current;
}

// Uses the instruction set of this number from now on, or for -1 changes nothing; returns the one in use.
int64_t cpu_instruction_set(int64_t number) {
    if (number != -1) {
        STD_TORCH_CHECK(number >= 0 && number < kNumInstructionSets && kernels_for((int)number),
                        "lsm2_kernels: this machine or build has no kernels for instruction set ", number);
        current_instruction_set() = (int)number;
    }
    return current_instruction_set();
}

const Kernels& kernels() { return *kernels_for(current_instruction_set()); }

// Attention

// The tokens that take part, sequence by sequence.
struct Sequences {
    std::vector<Span> spans;
    // Position in its sequence of each token of the spans; empty for packed tensors.
    std::vector<int64_t> tokens;
    int64_t end_of_queries = 0, end_of_keys = 0;

    const int64_t* tokens_or_null() const { return tokens.empty() ? nullptr : tokens.data(); }
};

Sequences packed_sequences(const Tensor& q, const Tensor& k, const Tensor& cu_seqlens_q,
                           const Tensor& cu_seqlens_k) {
    const std::vector<int64_t> queries = offsets_of(cu_seqlens_q, "cu_seqlens_q", q.size(0));
    const std::vector<int64_t> keys = offsets_of(cu_seqlens_k, "cu_seqlens_k", k.size(0));
    STD_TORCH_CHECK(queries.size() == keys.size(), "lsm2_kernels: cu_seqlens_q names ", queries.size() - 1,
                    " sequences and cu_seqlens_k ", keys.size() - 1);
    Sequences sequences{{}, {}, queries.back(), keys.back()};
    for (size_t i = 0; i + 1 < queries.size(); ++i) {
        const int64_t num_queries = queries[i + 1] - queries[i], num_keys = keys[i + 1] - keys[i];
        sequences.spans.push_back({0, queries[i], num_queries, keys[i], num_keys});
    }
    return sequences;
}

Sequences kept_sequences(const Tensor& q, const Tensor& k, const Tensor& any_keep) {
    STD_TORCH_CHECK(k.size(0) == q.size(0) && k.size(2) == q.size(2), "lsm2_kernels: k has shape ",
                    shape_of(k), " where q has ", shape_of(q));
    STD_TORCH_CHECK(any_keep.is_cpu() && any_keep.scalar_type() == ScalarType::Bool && any_keep.dim() == 2 &&
                        any_keep.size(0) == q.size(0) && any_keep.size(1) == q.size(2),
                    "lsm2_kernels: keep must be bool of shape (", q.size(0), ", ", q.size(2), ")");
    const Tensor keep = torch::stable::contiguous(any_keep);
    const bool* is_kept = keep.const_data_ptr<bool>();
    Sequences sequences;
    for (int64_t sequence = 0; sequence < keep.size(0); ++sequence) {
        const int64_t begin = sequences.tokens.size();
        for (int64_t token = 0; token < keep.size(1); ++token, ++is_kept) {
            if (*is_kept) sequences.tokens.push_back(token);
        }
        const int64_t count = sequences.tokens.size() - begin;
        sequences.spans.push_back({sequence, begin, count, begin, count});
    }
    return sequences;
}

// Fills out and lse where tokens take part.
void forward(const Tensor& any_q, const Tensor& any_k, const Tensor& any_v, const Sequences& sequences,
             double scale, const Tensor& out, const Tensor& lse) {
    if (any_q.numel() == 0) return;
    const Tensor q = with_contiguous_rows(any_q);
    const Tensor k = with_contiguous_rows(any_k);
    const Tensor v = with_contiguous_rows(any_v);
    const int64_t head_dim = q.size(q.dim() - 1), num_heads = q.size(1);
    const Forward problem{element_of(q, "q"),
                          (int)head_dim,
                          (int)(num_heads / k.size(1)),
                          (float)scale,
                          sequences.tokens_or_null(),
                          rows_of(q),
                          rows_of(k),
                          rows_of(v),
                          writable_rows_of(out),
                          writable_statistics_of(lse, q)};
    run_forward(kernels(), problem, num_heads, sequences.spans);
}

// Fills dq, dk and dv where tokens take part.
void backward(const Tensor& any_grad_out, const OptionalTensor& grad_lse, const Tensor& any_q,
              const Tensor& any_k, const Tensor& any_v, const Tensor& any_out, const Tensor& lse,
              const Sequences& sequences, double scale, WritableRows dq, WritableRows dk, WritableRows dv) {
    check_same_shape(any_grad_out, "grad_out", any_q);
    check_same_shape(any_out, "out", any_q);
    const Tensor grad_out = with_contiguous_rows(any_grad_out), out = with_contiguous_rows(any_out);
    const Tensor q = with_contiguous_rows(any_q);
    const Tensor k = with_contiguous_rows(any_k);
    const Tensor v = with_contiguous_rows(any_v);
    const int64_t num_key_heads = k.size(1), head_dim = q.size(q.dim() - 1);
    if (num_key_heads == 0) return;
    const Backward problem{element_of(q, "q"),
                           (int)head_dim,
                           (int)(q.size(1) / num_key_heads),
                           (float)scale,
                           sequences.tokens_or_null(),
                           rows_of(q),
                           rows_of(k),
                           rows_of(v),
                           rows_of(out),
                           rows_of(grad_out),
                           statistics_of(lse, "lse", q),
                           statistics_of(grad_lse, "grad_lse", q),
                           dq,
                           dk,
                           dv};
    run_backward(kernels(), problem, num_key_heads, sequences.spans);
}

TwoTensors varlen_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& cu_seqlens_q,
                            const Tensor& cu_seqlens_k, double scale) {
    check_qkv(q, k, v, 3);
    const Sequences sequences = packed_sequences(q, k, cu_seqlens_q, cu_seqlens_k);
    const int64_t num_tokens = q.size(0), num_heads = q.size(1), end = sequences.end_of_queries;
    const Tensor out = new_tensor(q, {num_tokens, num_heads, q.size(2)});
    const Tensor lse = new_tensor(q, {num_heads, num_tokens}, ScalarType::Float);
    zero_tail(out, end);
    for (int64_t head = 0; head < num_heads; ++head) {
        float* row = lse.mutable_data_ptr<float>() + head * num_tokens;
        std::fill(row + end, row + num_tokens, -__builtin_inff());
    }
    forward(q, k, v, sequences, scale, out, lse);
    return {out, lse};
}

ThreeTensors varlen_attention_backward(const Tensor& grad_out, const OptionalTensor& grad_lse,
                                       const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                                       const Tensor& lse, const Tensor& cu_seqlens_q,
                                       const Tensor& cu_seqlens_k, double scale) {
    check_qkv(q, k, v, 3);
    const Sequences sequences = packed_sequences(q, k, cu_seqlens_q, cu_seqlens_k);
    const Tensor dq = new_tensor(q, q.sizes()), dk = new_tensor(k, k.sizes()), dv = new_tensor(v, v.sizes());
    zero_tail(dq, sequences.end_of_queries);
    zero_tail(dk, sequences.end_of_keys);
    zero_tail(dv, sequences.end_of_keys);
    backward(grad_out, grad_lse, q, k, v, out, lse, sequences, scale, writable_rows_of(dq),
             writable_rows_of(dk), writable_rows_of(dv));
    return {dq, dk, dv};
}

Tensor part_of(const Tensor& qkv, int64_t i) {
    STD_TORCH_CHECK(qkv.dim() == 4 && qkv.size(1) == 3,
                    "lsm2_kernels: qkv must have shape (tokens, 3, heads, head_dim)");
    return torch::stable::select(qkv, 1, i);
}

TwoTensors varlen_attention_qkvpacked(const Tensor& qkv, const Tensor& cu_seqlens, double scale) {
    return varlen_attention(part_of(qkv, 0), part_of(qkv, 1), part_of(qkv, 2), cu_seqlens, cu_seqlens, scale);
}

Tensor varlen_attention_qkvpacked_backward(const Tensor& grad_out, const OptionalTensor& grad_lse,
                                           const Tensor& qkv, const Tensor& out, const Tensor& lse,
                                           const Tensor& cu_seqlens, double scale) {
    const Tensor q = part_of(qkv, 0), k = part_of(qkv, 1), v = part_of(qkv, 2);
    check_qkv(q, k, v, 3);
    const Sequences sequences = packed_sequences(q, k, cu_seqlens, cu_seqlens);
    const Tensor dqkv = new_tensor(qkv, qkv.sizes());
    zero_tail(dqkv, sequences.end_of_queries);
    const auto gradient = [&](int64_t i) { return writable_rows_of(part_of(dqkv, i)); };
    backward(grad_out, grad_lse, q, k, v, out, lse, sequences, scale, gradient(0), gradient(1), gradient(2));
    return dqkv;
}

// A new tensor (sequences, heads, tokens, head_dim), zero where not kept. The heads of a token lie side by
// side in memory, as a projection reads and writes them.
Tensor new_by_token(const Tensor& like, const Tensor& keep) {
    const int64_t num_heads = like.size(1), head_dim = like.size(3), num_tokens = like.size(0) * like.size(2);
    const Tensor x = new_tensor(like, {like.size(0), like.size(2), num_heads, head_dim});
    const int64_t row_bytes = num_heads * head_dim * (int64_t)x.element_size();
    char* rows = (char*)x.mutable_data_ptr();
    const Tensor contiguous_keep = torch::stable::contiguous(keep);
    const bool* is_kept = contiguous_keep.const_data_ptr<bool>();
    const auto zero_where_not_kept = [&](int64_t begin, int64_t end) {
        for (int64_t token = begin; token < end; ++token) {
            if (!is_kept[token]) std::memset(rows + token * row_bytes, 0, row_bytes);
        }
    };
    torch::stable::parallel_for(0, num_tokens, rows_worth_a_thread(row_bytes), zero_where_not_kept);
    return torch::stable::transpose(x, 1, 2);
}

TwoTensors masked_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& keep,
                            double scale) {
    check_qkv(q, k, v, 4);
    const Sequences sequences = kept_sequences(q, k, keep);
    const Tensor out = new_by_token(q, keep);
    const Tensor lse = new_tensor(q, {q.size(0), q.size(1), q.size(2)}, ScalarType::Float);
    float* all = lse.mutable_data_ptr<float>();
    std::fill(all, all + lse.numel(), -__builtin_inff());
    forward(q, k, v, sequences, scale, out, lse);
    return {out, lse};
}

ThreeTensors masked_attention_backward(const Tensor& grad_out, const OptionalTensor& grad_lse,
                                       const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& keep,
                                       const Tensor& out, const Tensor& lse, double scale) {
    check_qkv(q, k, v, 4);
    const Sequences sequences = kept_sequences(q, k, keep);
    const Tensor dq = new_by_token(q, keep), dk = new_by_token(k, keep), dv = new_by_token(v, keep);
    backward(grad_out, grad_lse, q, k, v, out, lse, sequences, scale, writable_rows_of(dq),
             writable_rows_of(dk), writable_rows_of(dv));
    return {dq, dk, dv};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(lsm2_kernels, library) {
    library.def("_cpu_instruction_set(int number) -> int");
}

STABLE_TORCH_LIBRARY_IMPL(lsm2_kernels, CompositeExplicitAutograd, library) {
    library.impl("_cpu_instruction_set", TORCH_BOX(&cpu_instruction_set));
}

STABLE_TORCH_LIBRARY_IMPL(lsm2_kernels, CPU, library) {
    library.impl("varlen_attention", TORCH_BOX(&varlen_attention));
    library.impl("varlen_attention_backward", TORCH_BOX(&varlen_attention_backward));
    library.impl("varlen_attention_qkvpacked", TORCH_BOX(&varlen_attention_qkvpacked));
    library.impl("varlen_attention_qkvpacked_backward", TORCH_BOX(&varlen_attention_qkvpacked_backward));
    library.impl("masked_attention", TORCH_BOX(&masked_attention));
    library.impl("masked_attention_backward", TORCH_BOX(&masked_attention_backward));
}

}  // namespace lsm2
