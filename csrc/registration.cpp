// The only file that sees torch, and only through its stable ABI: checks tensors, allocates results, and shares the work among
// torch's threads. The schemas are defined in lsm2_kernels/_ops.py.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>
#include <tuple>
#include <vector>

#include "kernels.h"
#include "threads.h"

namespace lsm2 {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

// Instruction set

std::atomic<int>& level_in_force() {
    static std::atomic<int> level = [] {
        int best = kNumLevels - 1;
        while (!kernels_of_level(best)) --best;
        return best;
    }();
    return level;
}

int64_t cpu_level(int64_t level) {
    if (level != -1) {
        STD_TORCH_CHECK(level >= 0 && level < kNumLevels && kernels_of_level((int)level), "lsm2_kernels: this machine or build has no kernels of level ",
                        level);
        level_in_force() = (int)level;
    }
    return level_in_force();
}

const Kernels& kernels() { return *kernels_of_level(level_in_force()); }

// Tensors

Element element_of(const Tensor& x, const char* name) {
    switch (x.scalar_type()) {
        case ScalarType::Float: return Element::float32;
        case ScalarType::BFloat16: return Element::bfloat16;
        case ScalarType::Half: return Element::float16;
        default: STD_TORCH_CHECK(false, "lsm2_kernels: ", name, " must be float32, bfloat16 or float16");
    }
}

void check_rows(const Tensor& x, const char* name, const Tensor& like) {
    STD_TORCH_CHECK(x.dim() == 3, "lsm2_kernels: ", name, " must have 3 dimensions (tokens, heads, head_dim), not ", x.dim());
    STD_TORCH_CHECK(x.scalar_type() == like.scalar_type(), "lsm2_kernels: ", name, " must have the dtype of q");
    STD_TORCH_CHECK(x.is_cpu(), "lsm2_kernels: ", name, " must be on the CPU");
    STD_TORCH_CHECK(x.size(2) == like.size(2), "lsm2_kernels: ", name, " has head dim ", x.size(2), " where q has ", like.size(2));
}

void check_same_shape(const Tensor& x, const char* name, const Tensor& like) {
    check_rows(x, name, like);
    STD_TORCH_CHECK(x.size(0) == like.size(0) && x.size(1) == like.size(1), "lsm2_kernels: ", name, " has shape (", x.size(0), ", ", x.size(1), ", ",
                    x.size(2), "); it should be (", like.size(0), ", ", like.size(1), ", ", like.size(2), ")");
}

Tensor with_contiguous_rows(const Tensor& x) { return x.stride(x.dim() - 1) == 1 ? x : torch::stable::contiguous(x); }

Rows rows_of(const Tensor& x) { return {x.const_data_ptr(), x.stride(0), x.stride(1)}; }

WritableRows writable_rows_of(const Tensor& x) { return {x.mutable_data_ptr(), x.stride(0), x.stride(1)}; }

Statistics statistics_of(const OptionalTensor& x, const char* name, const Tensor& q) {
    if (!x) return {nullptr, 0, 0};
    STD_TORCH_CHECK(x->scalar_type() == ScalarType::Float && x->is_cpu() && x->dim() == 2 && x->size(0) == q.size(1) && x->size(1) == q.size(0),
                    "lsm2_kernels: ", name, " must be float32 of shape (", q.size(1), ", ", q.size(0), ")");
    return {x->const_data_ptr<float>(), x->stride(0), x->stride(1)};
}

// Offsets of the sequences of a batch, checked.
std::vector<int64_t> offsets_of(const Tensor& cu_seqlens, const char* name, int64_t num_tokens) {
    STD_TORCH_CHECK(cu_seqlens.is_cpu() && cu_seqlens.dim() == 1 && cu_seqlens.size(0) >= 1, "lsm2_kernels: ", name,
                    " must have shape (sequences + 1,)");
    const bool is_int32 = cu_seqlens.scalar_type() == ScalarType::Int;
    STD_TORCH_CHECK(is_int32 || cu_seqlens.scalar_type() == ScalarType::Long, "lsm2_kernels: ", name, " must be int32 or int64");
    const void* data = cu_seqlens.const_data_ptr();
    std::vector<int64_t> offsets(cu_seqlens.size(0));
    for (size_t i = 0; i < offsets.size(); ++i) {
        const int64_t at = (int64_t)i * cu_seqlens.stride(0);
        offsets[i] = is_int32 ? ((const int32_t*)data)[at] : ((const int64_t*)data)[at];
        STD_TORCH_CHECK(offsets[i] >= (i ? offsets[i - 1] : 0), "lsm2_kernels: ", name, " must not decrease, but element ", i, " is ", offsets[i]);
    }
    STD_TORCH_CHECK(offsets[0] == 0, "lsm2_kernels: ", name, " must start with 0, not ", offsets[0]);
    STD_TORCH_CHECK(offsets.back() <= num_tokens, "lsm2_kernels: ", name, " ends with ", offsets.back(), ", but there are only ", num_tokens, " tokens");
    return offsets;
}

// Whole sequences.
std::vector<Span> sequences_of(const std::vector<int64_t>& queries, const std::vector<int64_t>& keys) {
    STD_TORCH_CHECK(queries.size() == keys.size(), "lsm2_kernels: cu_seqlens_q names ", queries.size() - 1, " sequences and cu_seqlens_k ", keys.size() - 1);
    std::vector<Span> sequences;
    for (size_t i = 0; i + 1 < queries.size(); ++i) sequences.push_back({queries[i], queries[i + 1] - queries[i], keys[i], keys[i + 1] - keys[i]});
    return sequences;
}

// Rows from `first` on, of a contiguous tensor.
void zero_tail(const Tensor& x, int64_t first) {
    if (x.numel() == 0) return;
    const int64_t row_bytes = x.numel() / x.size(0) * (int64_t)x.element_size();
    std::memset((char*)x.mutable_data_ptr() + first * row_bytes, 0, (x.size(0) - first) * row_bytes);
}

// Attention

struct Offsets {
    std::vector<int64_t> queries, keys;
};

Offsets check_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& cu_seqlens_q, const Tensor& cu_seqlens_k) {
    element_of(q, "q");
    check_rows(q, "q", q);
    check_rows(k, "k", q);
    check_same_shape(v, "v", k);
    STD_TORCH_CHECK(q.size(2) % 8 == 0 && q.size(2) >= 8 && q.size(2) <= 256, "lsm2_kernels: the head dim must be a multiple of 8 from 8 to 256, not ",
                    q.size(2));
    STD_TORCH_CHECK(k.size(1) > 0 ? q.size(1) % k.size(1) == 0 : q.size(1) == 0, "lsm2_kernels: ", q.size(1), " query heads are no multiple of ", k.size(1),
                    " key heads");
    return {offsets_of(cu_seqlens_q, "cu_seqlens_q", q.size(0)), offsets_of(cu_seqlens_k, "cu_seqlens_k", k.size(0))};
}

std::tuple<Tensor, Tensor> forward(const Tensor& any_q, const Tensor& any_k, const Tensor& any_v, const Tensor& cu_seqlens_q, const Tensor& cu_seqlens_k,
                                   double scale) {
    const Offsets offsets = check_attention(any_q, any_k, any_v, cu_seqlens_q, cu_seqlens_k);
    const Tensor q = with_contiguous_rows(any_q), k = with_contiguous_rows(any_k), v = with_contiguous_rows(any_v);
    const int64_t num_tokens = q.size(0), num_heads = q.size(1), head_dim = q.size(2);
    Tensor out = torch::stable::new_empty(q, {num_tokens, num_heads, head_dim});
    Tensor lse = torch::stable::new_empty(q, {num_heads, num_tokens}, ScalarType::Float);
    if (q.numel() == 0) return {out, lse};

    const int64_t end = offsets.queries.back();
    zero_tail(out, end);
    for (int64_t head = 0; head < num_heads; ++head) {
        float* row = lse.mutable_data_ptr<float>() + head * num_tokens;
        std::fill(row + end, row + num_tokens, -__builtin_inff());
    }

    const Kernels& set = kernels();
    std::vector<Span> chunks;  // of the queries of a sequence, the costliest first
    for (const Span& sequence : sequences_of(offsets.queries, offsets.keys)) {
        for (int64_t first = 0; first < sequence.query_count; first += set.query_chunk) {
            chunks.push_back({sequence.query_begin + first, std::min(set.query_chunk, sequence.query_count - first), sequence.key_begin, sequence.key_count});
        }
    }
    std::stable_sort(chunks.begin(), chunks.end(), [](const Span& a, const Span& b) { return a.query_count * a.key_count > b.query_count * b.key_count; });
    const Forward problem{element_of(q, "q"), (int)head_dim,  (int)(num_heads / k.size(1)),  (float)scale, rows_of(q), rows_of(k),
                          rows_of(v),         writable_rows_of(out), lse.mutable_data_ptr<float>(), num_tokens};
    share_among_threads((int64_t)chunks.size() * num_heads, set.forward_scratch_bytes((int)head_dim), [&](int64_t item, char* scratch) {
        set.attention_forward(problem, chunks[item / num_heads], item % num_heads, scratch);
    });
    return {out, lse};
}

// How the keys of a sequence are divided among workers: a function of their number and of the head dim alone, so that sums have one order.
struct KeySplit {
    Span sequence;
    int64_t chunk;
    int num_parts;
    int64_t first_item = 0, first_group = 0, partial_floats = 0;

    static constexpr int64_t kMostParts = 8;  // each part of a sequence holds gradients of all its queries

    KeySplit(const Span& sequence, int64_t chunk)
        : sequence(sequence), chunk(chunk), num_parts((int)std::clamp<int64_t>((sequence.key_count + chunk - 1) / chunk, 1, kMostParts)) {}

    int64_t cost_of_part() const { return sequence.query_count * sequence.key_count / num_parts; }

    Span part(int64_t i) const {
        const int64_t num_chunks = (sequence.key_count + chunk - 1) / chunk;
        const int64_t begin = num_chunks * i / num_parts * chunk, end = std::min(num_chunks * (i + 1) / num_parts * chunk, sequence.key_count);
        return {sequence.query_begin, sequence.query_count, sequence.key_begin + begin, end - begin};
    }
};

// dq, dk, dv: uninitialised views of contiguous tensors, in which rows past the last sequence are zero already.
void backward(const Tensor& any_grad_out, const OptionalTensor& grad_lse, const Tensor& any_q, const Tensor& any_k, const Tensor& any_v, const Tensor& any_out,
              const Tensor& lse, const Offsets& offsets, double scale, WritableRows dq, WritableRows dk, WritableRows dv) {
    check_same_shape(any_grad_out, "grad_out", any_q);
    check_same_shape(any_out, "out", any_q);
    const Tensor grad_out = with_contiguous_rows(any_grad_out), out = with_contiguous_rows(any_out);
    const Tensor q = with_contiguous_rows(any_q), k = with_contiguous_rows(any_k), v = with_contiguous_rows(any_v);
    const int64_t num_key_heads = k.size(1), head_dim = q.size(2);
    if (num_key_heads == 0) return;

    const Kernels& set = kernels();
    std::vector<KeySplit> splits;  // the costliest items first
    for (const Span& sequence : sequences_of(offsets.queries, offsets.keys)) splits.push_back(KeySplit(sequence, set.key_chunk((int)head_dim)));
    std::stable_sort(splits.begin(), splits.end(), [](const KeySplit& a, const KeySplit& b) { return a.cost_of_part() > b.cost_of_part(); });
    int64_t num_items = 0, num_groups = 0, largest_group = 0;
    for (KeySplit& split : splits) {
        split.first_item = num_items;
        split.first_group = num_groups;
        num_items += split.num_parts * num_key_heads;
        if (split.num_parts == 1) continue;
        num_groups += num_key_heads;
        split.partial_floats = set.partial_floats((int)head_dim, (int)(q.size(1) / num_key_heads), split.sequence.query_count);
        largest_group = std::max<int64_t>(largest_group, split.num_parts * split.partial_floats * (int64_t)sizeof(float));
    }
    PartialResults partials(num_groups, largest_group);
    const Backward problem{element_of(q, "q"), (int)head_dim,    (int)(q.size(1) / num_key_heads), (float)scale,
                           rows_of(q),         rows_of(k),       rows_of(v),                       rows_of(out),
                           rows_of(grad_out),  statistics_of(lse, "lse", q), statistics_of(grad_lse, "grad_lse", q), dq, dk, dv};
    share_among_threads(num_items, set.backward_scratch_bytes((int)head_dim), [&](int64_t item, char* scratch) {
        const KeySplit& split = *std::prev(std::upper_bound(splits.begin(), splits.end(), item, [](int64_t i, const KeySplit& x) { return i < x.first_item; }));
        const int64_t key_head = (item - split.first_item) / split.num_parts, part = (item - split.first_item) % split.num_parts;
        if (split.num_parts == 1) return set.attention_backward(problem, split.sequence, key_head, nullptr, scratch);
        const int64_t group = split.first_group + key_head;
        float* memory = (float*)partials.begin(group);
        set.attention_backward(problem, split.part(part), key_head, memory + part * split.partial_floats, scratch);
        if (!partials.end(group, split.num_parts)) return;
        set.sum_query_gradients(problem, split.sequence, key_head, memory, split.num_parts);
        partials.release(group);
    });
}

std::tuple<Tensor, Tensor> varlen_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& cu_seqlens_q, const Tensor& cu_seqlens_k,
                                            double scale) {
    return forward(q, k, v, cu_seqlens_q, cu_seqlens_k, scale);
}

std::tuple<Tensor, Tensor, Tensor> varlen_attention_backward(const Tensor& grad_out, const OptionalTensor& grad_lse, const Tensor& q, const Tensor& k,
                                                             const Tensor& v, const Tensor& out, const Tensor& lse, const Tensor& cu_seqlens_q,
                                                             const Tensor& cu_seqlens_k, double scale) {
    const Offsets offsets = check_attention(q, k, v, cu_seqlens_q, cu_seqlens_k);
    Tensor dq = torch::stable::new_empty(q, q.sizes()), dk = torch::stable::new_empty(k, k.sizes()), dv = torch::stable::new_empty(v, v.sizes());
    zero_tail(dq, offsets.queries.back());
    zero_tail(dk, offsets.keys.back());
    zero_tail(dv, offsets.keys.back());
    backward(grad_out, grad_lse, q, k, v, out, lse, offsets, scale, writable_rows_of(dq), writable_rows_of(dk), writable_rows_of(dv));
    return {dq, dk, dv};
}

void check_qkv(const Tensor& qkv) {
    STD_TORCH_CHECK(qkv.dim() == 4 && qkv.size(1) == 3, "lsm2_kernels: qkv must have shape (tokens, 3, heads, head_dim)");
}

std::tuple<Tensor, Tensor> varlen_attention_qkvpacked(const Tensor& qkv, const Tensor& cu_seqlens, double scale) {
    check_qkv(qkv);
    const auto part = [&](int64_t i) { return torch::stable::select(qkv, 1, i); };
    return forward(part(0), part(1), part(2), cu_seqlens, cu_seqlens, scale);
}

Tensor varlen_attention_qkvpacked_backward(const Tensor& grad_out, const OptionalTensor& grad_lse, const Tensor& qkv, const Tensor& out, const Tensor& lse,
                                           const Tensor& cu_seqlens, double scale) {
    check_qkv(qkv);
    const auto part = [&](int64_t i) { return torch::stable::select(qkv, 1, i); };
    const Offsets offsets = check_attention(part(0), part(1), part(2), cu_seqlens, cu_seqlens);
    Tensor dqkv = torch::stable::new_empty(qkv, qkv.sizes());
    zero_tail(dqkv, offsets.queries.back());
    const int64_t part_bytes = qkv.size(2) * qkv.size(3) * (int64_t)qkv.element_size();
    const auto part_of_gradient = [&](int64_t i) {
        return WritableRows{(char*)dqkv.mutable_data_ptr() + i * part_bytes, 3 * qkv.size(2) * qkv.size(3), qkv.size(3)};
    };
    backward(grad_out, grad_lse, part(0), part(1), part(2), out, lse, offsets, scale, part_of_gradient(0), part_of_gradient(1), part_of_gradient(2));
    return dqkv;
}

// Packing

int64_t row_elements_of(const Tensor& x) {
    int64_t elements = 1;
    for (int64_t d = 1; d < x.dim(); ++d) elements *= x.size(d);
    return elements;
}

Tensor checked_indices(const Tensor& indices) {
    STD_TORCH_CHECK(indices.is_cpu() && indices.dim() == 1 && indices.scalar_type() == ScalarType::Long, "lsm2_kernels: indices must be int64 of shape (tokens,)");
    return torch::stable::contiguous(indices);
}

// One row of the result for each index.
Tensor gather(const Tensor& x, const int64_t* indices, int64_t count, const char* substitute) {
    std::vector<int64_t> sizes(x.sizes().begin(), x.sizes().end());
    sizes[0] = count;
    Tensor result = torch::stable::new_empty(x, sizes);
    if (result.numel() == 0) return result;
    const int64_t row_bytes = row_elements_of(x) * (int64_t)x.element_size(), rows_worth_a_thread = 1 + (1 << 16) / row_bytes;
    const char* source = (const char*)x.const_data_ptr();
    char* target = (char*)result.mutable_data_ptr();
    torch::stable::parallel_for(0, count, rows_worth_a_thread, [&](int64_t begin, int64_t end) {
        gather_rows(target + begin * row_bytes, source, indices + begin, end - begin, x.size(0), row_bytes, substitute);
    });
    return result;
}

Tensor pack(const Tensor& any_x, const Tensor& any_indices) {
    STD_TORCH_CHECK(any_x.dim() >= 1, "lsm2_kernels: x must have at least one dimension");
    const Tensor x = torch::stable::contiguous(any_x), indices = checked_indices(any_indices);
    return gather(x, indices.const_data_ptr<int64_t>(), indices.size(0), nullptr);
}

Tensor unpack(const Tensor& any_x, const Tensor& any_indices, const OptionalTensor& any_fill, int64_t num_rows) {
    STD_TORCH_CHECK(any_x.dim() >= 1 && num_rows >= 0, "lsm2_kernels: x must have at least one dimension, and num_rows must not be negative");
    const Tensor x = torch::stable::contiguous(any_x), indices = checked_indices(any_indices);
    STD_TORCH_CHECK(indices.size(0) == x.size(0), "lsm2_kernels: x has ", x.size(0), " rows, but there are ", indices.size(0), " indices");
    OptionalTensor fill;
    if (any_fill) {
        fill = torch::stable::contiguous(*any_fill);
        STD_TORCH_CHECK(fill->scalar_type() == x.scalar_type() && fill->is_cpu() && fill->numel() == row_elements_of(x),
                        "lsm2_kernels: fill must have the dtype of x and the shape of one of its rows");
    }
    const Tensor row_of = torch::stable::new_empty(indices, {num_rows});  // row of x that belongs in each row of the result, or -1
    int64_t* rows = row_of.mutable_data_ptr<int64_t>();
    std::fill(rows, rows + num_rows, -1);
    const int64_t* targets = indices.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < indices.size(0); ++i) {
        if (targets[i] >= 0 && targets[i] < num_rows) rows[targets[i]] = i;
    }
    return gather(x, rows, num_rows, fill ? (const char*)fill->const_data_ptr() : nullptr);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(lsm2_kernels, library) { library.def("_cpu_level(int level) -> int"); }

STABLE_TORCH_LIBRARY_IMPL(lsm2_kernels, CompositeExplicitAutograd, library) { library.impl("_cpu_level", TORCH_BOX(&cpu_level)); }

STABLE_TORCH_LIBRARY_IMPL(lsm2_kernels, CPU, library) {
    library.impl("varlen_attention", TORCH_BOX(&varlen_attention));
    library.impl("varlen_attention_backward", TORCH_BOX(&varlen_attention_backward));
    library.impl("varlen_attention_qkvpacked", TORCH_BOX(&varlen_attention_qkvpacked));
    library.impl("varlen_attention_qkvpacked_backward", TORCH_BOX(&varlen_attention_qkvpacked_backward));
    library.impl("pack", TORCH_BOX(&pack));
    library.impl("unpack", TORCH_BOX(&unpack));
}

}  // namespace lsm2
