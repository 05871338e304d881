"""What the fuzz tests share: settings, strategies, and the layouts in memory that tensors may have."""

from collections.abc import Callable

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

DTYPES = [torch.float32, torch.bfloat16, torch.float16]

seeds = st.integers(0, 2**32 - 1)


def examples(count: int) -> settings:
    """Settings of a fuzz test: so many examples, the same at every run."""
    return settings(max_examples=count, derandomize=True, deadline=None, database=None)


# Layouts: the same shape in another order of memory; "one ..." repeats a token or a head, with stride 0


def sliced(x: Tensor, step: int) -> Tensor:
    """x inside a larger tensor of NaN, of whose rows it takes each step-th."""
    wide = torch.full([step * size + 3 for size in x.shape[:-1]] + [x.shape[-1] + 5], torch.nan).to(x.dtype)
    inner = wide[tuple(slice(1, 1 + step * size, step) for size in x.shape[:-1])][..., 3:-2]
    return inner.copy_(x)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "heads_first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "inside_a_larger_tensor": lambda x: sliced(x, 1),
    "every_second_token_and_head": lambda x: sliced(x, 2),
    "one_token": lambda x: x[:1].expand(x.shape),
    "one_head": lambda x: x[:, :1].expand(x.shape),
    "lazily_negated": lambda x: torch._neg_view(x),
}
LAYOUTS_OF_GRADIENTS = LAYOUTS | {
    "one_number": lambda x: x.new_ones(()).expand(x.shape),
    "head_dim_first": lambda x: x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
}
LAYOUTS_OF_PADDED = LAYOUTS | {"tokens_first": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2)}
LAYOUTS_OF_OFFSETS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "every_second": lambda x: x.repeat_interleave(2)[::2],
    "inside_a_larger_tensor": lambda x: torch.cat([x.new_tensor([-7]), x, x.new_tensor([10**9])])[1:-1],
}
LAYOUTS_BY_FIELD = {
    **dict.fromkeys(("q", "k", "v"), LAYOUTS),
    **dict.fromkeys(("cu_seqlens_q", "cu_seqlens_k"), LAYOUTS_OF_OFFSETS),
    "grad_out": LAYOUTS_OF_GRADIENTS,
    "grad_lse": {
        "contiguous": lambda x: x,
        "tokens_first": lambda x: x.T.contiguous().T,
        "one_number": lambda x: x.new_ones(()).expand(x.shape),
    },
}
