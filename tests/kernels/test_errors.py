"""Bad arguments are named, with what came and what is allowed."""

import re
from typing import Any, cast

import pytest
import torch

from lsm2_kernels import Packing, masked_attention, pack, unpack, varlen_attention, varlen_attention_qkvpacked

Q = torch.zeros(6, 4, 16)
QKV = torch.zeros(6, 3, 4, 16)
KV = torch.zeros(6, 2, 16)
OFFSETS = torch.tensor([0, 2, 6])
PADDED = torch.zeros(2, 4, 3, 16)
KEEP = torch.ones(2, 3, dtype=torch.bool)
PACKING = Packing.from_mask(KEEP)


def varlen(q: Any = Q, k: Any = KV, v: Any = KV, offsets: Any = OFFSETS, offsets_k: Any = None, **options):
    return varlen_attention(q, k, v, offsets, offsets_k, **options)


def qkvpacked(qkv: Any = QKV, offsets: Any = OFFSETS, **options):
    return varlen_attention_qkvpacked(qkv, offsets, **options)


def masked(q: Any = PADDED, k: Any = PADDED, v: Any = PADDED, keep: Any = KEEP, **options):
    return masked_attention(q, k, v, keep, **options)


VALUE_ERRORS = {
    "q_of_2_dims": (lambda: varlen(q=Q[0]), "q has shape (4, 16); it must be (T, heads, D)"),
    "v_is_not_like_k": (lambda: varlen(v=KV[1:]), "v has shape (5, 2, 16); it must be k's, (6, 2, 16)"),
    "head_dims_differ": (lambda: varlen(q=Q[..., :8]), "k has head dim 16; it must be q's, 8"),
    "heads_are_no_multiple": (
        lambda: varlen(q=Q[:, :3]),
        "k and v have 2 heads; q's 3 must be a multiple of that",
    ),
    "no_key_heads": (
        lambda: varlen(k=KV[:, :0], v=KV[:, :0]),
        "k and v have 0 heads; q's 4 must be a multiple of that",
    ),
    "head_dim_12": (
        lambda: varlen(*(x[..., :12] for x in (Q, KV, KV))),
        "q has head dim 12; it must be a multiple of 8 from 8 to 256",
    ),
    "head_dim_264": (
        lambda: qkvpacked(torch.zeros(6, 3, 1, 264)),
        "qkv has head dim 264; it must be a multiple of 8 from 8 to 256",
    ),
    "head_dim_0": (
        lambda: qkvpacked(torch.zeros(6, 3, 1, 0)),
        "qkv has head dim 0; it must be a multiple of 8 from 8 to 256",
    ),
    "last_dim_strided": (
        lambda: varlen(k=torch.zeros(6, 16, 2).mT),
        "k has stride 2 in its last dimension; it must be 1",
    ),
    "k_elsewhere": (lambda: varlen(k=KV.to("meta")), "k is on meta; it must be on q's device, cpu"),
    "offsets_elsewhere": (
        lambda: varlen(offsets=OFFSETS.to("meta")),
        "cu_seqlens_q is on meta; it must be on q's device, cpu",
    ),
    "offsets_of_2_dims": (
        lambda: varlen(offsets=OFFSETS[None]),
        "cu_seqlens_q has shape (1, 3); it must be (N + 1,) for N sequences",
    ),
    "no_offsets": (
        lambda: varlen(offsets=OFFSETS[:0]),
        "cu_seqlens_q has shape (0,); it must be (N + 1,) for N sequences",
    ),
    "offsets_start_late": (
        lambda: varlen(offsets=OFFSETS[1:]),
        "cu_seqlens_q starts with 2; it must start with 0",
    ),
    "offsets_decrease": (
        lambda: qkvpacked(offsets=torch.tensor([0, 4, 6, 5])),
        "cu_seqlens decreases at entry 3; lengths",
    ),
    "offsets_end_late": (
        lambda: varlen(offsets=OFFSETS * 2),
        "cu_seqlens_q ends with 12; there are only 6 rows",
    ),
    "key_offsets_end_late": (
        lambda: varlen(offsets_k=OFFSETS * 2),
        "cu_seqlens_k ends with 12; there are only 6 rows",
    ),
    "more_key_sequences": (
        lambda: varlen(offsets_k=torch.tensor([0, 2, 4, 6])),
        "cu_seqlens_k has 4 entries and cu_seqlens_q 3",
    ),
    "fewer_keys_in_self_attention": (
        lambda: varlen(k=KV[1:], v=KV[1:]),
        "k has 5 rows and q has 6: without cu_seqlens_k",
    ),
    "qkv_not_packed": (lambda: qkvpacked(Q), "qkv has shape (6, 4, 16); it must be (T, 3, H, D)"),
    "padded_q_of_3_dims": (lambda: masked(q=Q), "q has shape (6, 4, 16); it must be (B, heads, N, D)"),
    "padded_k_of_other_length": (
        lambda: masked(k=PADDED[:, :, 1:], v=PADDED[:, :, 1:]),
        "k has shape (2, 4, 2, 16); its B and N must be",
    ),
    "padded_heads_are_no_multiple": (
        lambda: masked(q=PADDED[:, :3]),
        "k and v have 4 heads; q's 3 must be a multiple of that",
    ),
    "keep_of_other_shape": (
        lambda: masked(keep=KEEP[:1]),
        "keep has shape (1, 3); it must be (B, N) = (2, 3)",
    ),
    "keep_elsewhere": (
        lambda: masked(keep=KEEP.to("meta")),
        "keep is on meta; it must be on q's device, cpu",
    ),
    "keep_of_1_dim": (lambda: Packing.from_mask(KEEP[0]), "keep has shape (3,); it must be (B, N)"),
    "keep_too_large": (
        lambda: Packing.from_mask(torch.ones(1, 1, dtype=torch.bool).expand(2**16, 2**15)),
        "keep has 2147483648 tokens",
    ),
    "capacity_negative": (
        lambda: Packing.from_mask(KEEP, capacity=-1),
        "capacity is -1; it must not be negative",
    ),
    "capacity_too_small": (
        lambda: Packing.from_mask(KEEP, capacity=5),
        "capacity is 5; 6 tokens are to be kept, so it must be",
    ),
    "pack_other_shape": (
        lambda: pack(torch.zeros(3, 2, 8), PACKING),
        "x has shape (3, 2, 8); it must be (B, N, ...) = (2, 3, ...)",
    ),
    "pack_elsewhere": (
        lambda: pack(torch.zeros(2, 3, device="meta"), PACKING),
        "x is on meta; it must be on the packing's device, cpu",
    ),
    "unpack_other_length": (
        lambda: unpack(torch.zeros(5, 8), PACKING),
        "x has shape (5, 8); it must be (T, ...) with the packing's T = 6",
    ),
    "unpack_scalar": (
        lambda: unpack(torch.tensor(1.0), PACKING),
        "x has shape (); it must be (T, ...) with the packing's T = 6",
    ),
    "fill_of_other_shape": (
        lambda: unpack(Q, PACKING, fill=torch.zeros(16)),
        "fill has shape (16,); it must be that of one row of x",
    ),
    "fill_elsewhere": (
        lambda: unpack(Q, PACKING, fill=torch.zeros(4, 16, device="meta")),
        "fill is on meta; it must be on x's device",
    ),
}

TYPE_ERRORS = {
    "q_is_a_list": (lambda: varlen(q=[1.0]), "q is a list; it must be a torch.Tensor"),
    "offsets_are_a_list": (
        lambda: varlen(offsets=[0, 6]),
        "cu_seqlens_q is a list; it must be a torch.Tensor",
    ),
    "q_float64": (
        lambda: varlen(*(x.double() for x in (Q, KV, KV))),
        "q is torch.float64; it must be one of torch.float32",
    ),
    "qkv_float64": (
        lambda: qkvpacked(torch.zeros(6, 3, 4, 16).double()),
        "qkv is torch.float64; it must be one of torch.float32",
    ),
    "padded_integer": (lambda: masked(q=PADDED.int()), "q is torch.int32; it must be one of torch.float32"),
    "dtypes_differ": (
        lambda: varlen(k=KV.half()),
        "k is torch.float16 and q is torch.float32; they must be the same",
    ),
    "offsets_float": (
        lambda: varlen(offsets=OFFSETS.float()),
        "cu_seqlens_q is torch.float32; it must be torch.int32 or torch.int64",
    ),
    "keep_is_0_and_1": (
        lambda: masked(keep=KEEP.float()),
        "keep is torch.float32; it must be torch.bool, True where a token is kept",
    ),
    "keep_is_a_list": (lambda: masked(keep=[[True]]), "keep is a list; it must be a torch.Tensor"),
    "scale_is_a_string": (
        lambda: varlen(scale="auto"),
        "scale is a str; it must be a float, or None for D**-0.5",
    ),
    "packing_is_a_mask": (
        lambda: pack(torch.zeros(2, 3), cast(Any, KEEP)),
        "packing is a Tensor; it must be a Packing: see Packing.from_mask",
    ),
    "capacity_is_a_tensor": (
        lambda: Packing.from_mask(KEEP, capacity=cast(Any, KEEP.sum())),
        "capacity is a Tensor; it must be an int",
    ),
    "x_is_a_list": (lambda: unpack(cast(Any, [1.0]), PACKING), "x is a list; it must be a torch.Tensor"),
    "max_seqlen": (lambda: varlen(max_seqlen=4), "varlen_attention() got 'max_seqlen': leave it out"),
    "max_seqlen_q": (lambda: varlen(max_seqlen_q=4), "varlen_attention() got 'max_seqlen_q': leave it out"),
    "causal": (
        lambda: qkvpacked(causal=True),
        "varlen_attention_qkvpacked() got 'causal': attention here goes both ways",
    ),
    "is_causal": (
        lambda: masked(is_causal=True),
        "masked_attention() got 'is_causal': attention here goes both ways",
    ),
    "dropout_p": (
        lambda: varlen(dropout_p=0.1),
        "varlen_attention() got 'dropout_p': attention weights are never dropped here",
    ),
    "softmax_scale": (
        lambda: varlen(softmax_scale=0.1),
        "varlen_attention() got 'softmax_scale': it is called scale here",
    ),
    "attn_mask": (
        lambda: masked(attn_mask=KEEP),
        "masked_attention() got 'attn_mask': hide tokens by leaving them out",
    ),
    "attn_bias": (lambda: varlen(attn_bias=Q), "varlen_attention() got 'attn_bias': no bias is added"),
    "window_size": (
        lambda: varlen(window_size=(1, 1)),
        "varlen_attention() got 'window_size': every token sees its whole sequence",
    ),
    "return_attn_probs": (
        lambda: varlen(return_attn_probs=True),
        "varlen_attention() got 'return_attn_probs': only return_lse=True",
    ),
    "enable_gqa": (lambda: masked(enable_gqa=True), "masked_attention() got 'enable_gqa': leave it out"),
    "misspelt": (
        lambda: varlen(scael=1.0),
        "varlen_attention() got 'scael': it is not an argument of this function",
    ),
}


@pytest.mark.parametrize("case", VALUE_ERRORS)
def test_value_error(case):
    call, message = VALUE_ERRORS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.parametrize("case", TYPE_ERRORS)
def test_type_error(case):
    call, message = TYPE_ERRORS[case]
    with pytest.raises(TypeError, match=re.escape(message)):
        call()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="on a CPU wrong offsets raise")
def test_wrong_offsets_on_a_gpu_stay_inside_the_tensors():
    q = torch.randn(6, 2, 16, device="cuda", requires_grad=True)
    for offsets in ([0, 60], [0, 5, 2, 6], [3, 6], [-9, 4, 1000000]):
        varlen_attention(q, q, q, torch.tensor(offsets, device="cuda")).sum().backward()
    torch.cuda.synchronize()
    assert q.grad is not None and q.grad.shape == q.shape
