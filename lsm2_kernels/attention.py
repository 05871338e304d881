"""The public attention functions: they check and cast arguments, then call the ops.

Shape legend: T packed tokens, N sequences (in masked_attention: tokens per sequence), B batch, H heads, H_kv
heads of k and v, D head dim.
"""

from typing import Literal, overload

import torch
from torch import Tensor

from . import _ops
from .packing import check_device, check_tensors

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MAX_HEAD_DIM = 256

_REMEDIES = {
    "max_seqlen": "leave it out: the kernels read every length from cu_seqlens, on the device",
    "causal": "attention here goes both ways; for causal attention use torch.nn.attention.varlen.varlen_attn",
    "dropout": (
        "attention weights are never dropped here; leave it out, or apply torch.nn.functional.dropout"
        " to the result"
    ),
    "softmax_scale": "it is called scale here",
    "mask": (
        "hide tokens by leaving them out: masked_attention takes keep, and Packing.from_mask packs once"
        " for many layers"
    ),
    "bias": "no bias is added to the scores here; use torch.nn.attention.flex_attention where one is needed",
    "window": "every token sees its whole sequence; for a window use torch.nn.attention.varlen.varlen_attn",
    "return_": "only return_lse=True is offered, by the functions on packed tokens",
    "enable_gqa": "leave it out: the shapes tell that k and v have fewer heads than q",
}


@overload
def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor | None = None,
    *,
    scale: float | None = None,
    return_lse: Literal[False] = False,
) -> Tensor: ...
@overload
def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor | None = None,
    *,
    scale: float | None = None,
    return_lse: bool,
) -> tuple[Tensor, Tensor]: ...
def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor | None = None,
    *,
    scale: float | None = None,
    return_lse: bool = False,
    **unsupported: object,
) -> Tensor | tuple[Tensor, Tensor]:
    """Softmax attention of each packed sequence's queries to its keys (FlashAttention-2, Dao 2023).

    Args:
        q: (T_q, H, D), float32, bfloat16 or float16; D a multiple of 8 up to 256. Like k and v it may be a
            strided view, if its last dimension is contiguous.
        k, v: (T_k, H_kv, D), of q's dtype, H a multiple of H_kv.
        cu_seqlens_q: (N + 1,) int32 or int64 on q's device; sequence i is the rows from cu_seqlens_q[i] up to
            cu_seqlens_q[i + 1].
        cu_seqlens_k: the same for k and v; by default cu_seqlens_q.
        scale: factor of the scores, by default D**-0.5.
        return_lse: whether to return lse too.

    Returns out (T_q, H, D) in q's dtype and, with return_lse, lse (H, T_q) float32: the natural log of the
    sum of the exponentiated scores. Both are differentiable once. Queries without keys, and rows at or past
    cu_seqlens[-1], get out 0, lse -inf and gradient 0. Under autocast q, k and v are cast to its dtype.
    Results are deterministic, bit for bit, and depend on no other sequence.

    Raises ValueError for wrong shapes, devices or cu_seqlens, and TypeError for wrong dtypes or unsupported
    arguments. On a GPU, where a check of the values of cu_seqlens would synchronise, wrong offsets are
    clamped to the tensors.
    """
    _refuse("varlen_attention", unsupported)
    check_tensors(q=q, k=k, v=v)
    q, k, v = _autocast(q, k, v)
    _check_qkv(q, k, v, "(T, heads, D)")
    if cu_seqlens_k is None:
        if k.shape[0] != q.shape[0]:
            raise ValueError(
                f"k has {k.shape[0]} rows and q has {q.shape[0]}: without cu_seqlens_k these must be equal"
            )
        cu_seqlens_q = cu_seqlens_k = _checked_cu_seqlens("cu_seqlens_q", cu_seqlens_q, "q", q)
    else:
        cu_seqlens_q = _checked_cu_seqlens("cu_seqlens_q", cu_seqlens_q, "q", q)
        cu_seqlens_k = _checked_cu_seqlens("cu_seqlens_k", cu_seqlens_k, "k", k)
        if cu_seqlens_k.shape != cu_seqlens_q.shape:
            raise ValueError(
                f"cu_seqlens_k has {cu_seqlens_k.shape[0]} entries and cu_seqlens_q {cu_seqlens_q.shape[0]}:"
                " both must be one more than the sequences; a sequence without keys repeats its offset"
            )
        if cu_seqlens_k.dtype != cu_seqlens_q.dtype:
            cu_seqlens_q, cu_seqlens_k = cu_seqlens_q.long(), cu_seqlens_k.long()
    out, lse = _ops.varlen_attention(q, k, v, cu_seqlens_q, cu_seqlens_k, _checked_scale(scale, q))
    return (out, lse) if return_lse else out


@overload
def varlen_attention_qkvpacked(
    qkv: Tensor, cu_seqlens: Tensor, *, scale: float | None = None, return_lse: Literal[False] = False
) -> Tensor: ...
@overload
def varlen_attention_qkvpacked(
    qkv: Tensor, cu_seqlens: Tensor, *, scale: float | None = None, return_lse: bool
) -> tuple[Tensor, Tensor]: ...
def varlen_attention_qkvpacked(
    qkv: Tensor,
    cu_seqlens: Tensor,
    *,
    scale: float | None = None,
    return_lse: bool = False,
    **unsupported: object,
) -> Tensor | tuple[Tensor, Tensor]:
    """Self-attention of packed sequences on q, k and v of one matrix product: qkv (T, 3, H, D) -> (T, H, D).

    The gradient is one tensor (T, 3, H, D), ready for the backward of that product. cu_seqlens (N + 1,),
    scale, return_lse, dtypes and errors are as in varlen_attention, but H_kv is H.
    """
    _refuse("varlen_attention_qkvpacked", unsupported)
    check_tensors(qkv=qkv)
    (qkv,) = _autocast(qkv)
    if qkv.ndim != 4 or qkv.shape[1] != 3:
        raise ValueError(f"qkv has shape {tuple(qkv.shape)}; it must be (T, 3, H, D)")
    _check_layout("qkv", qkv)
    cu_seqlens = _checked_cu_seqlens("cu_seqlens", cu_seqlens, "qkv", qkv)
    out, lse = _ops.varlen_attention_qkvpacked(qkv, cu_seqlens, _checked_scale(scale, qkv))
    return (out, lse) if return_lse else out


def masked_attention(
    q: Tensor, k: Tensor, v: Tensor, keep: Tensor, *, scale: float | None = None, **unsupported: object
) -> Tensor:
    """Softmax attention among the kept tokens of each row of a batch, in the layout of torch's SDPA.

    Args:
        q: (B, H, N, D).
        k, v: (B, H_kv, N, D), of q's dtype, H a multiple of H_kv.
        keep: (B, N) bool, True where a token takes part.
        scale: factor of the scores, by default D**-0.5.

    Returns (B, H, N, D), zero where not kept. Only kept tokens are computed: NaN elsewhere is harmless, and
    gradients there are 0. Dtypes, autocast and errors are as in varlen_attention. Nothing synchronises with
    the host.
    """
    _refuse("masked_attention", unsupported)
    check_tensors(q=q, k=k, v=v, keep=keep)
    q, k, v = _autocast(q, k, v)
    _check_qkv(q, k, v, "(B, heads, N, D)")
    if k.shape[0] != q.shape[0] or k.shape[2] != q.shape[2]:
        raise ValueError(
            f"k has shape {tuple(k.shape)}; its B and N must be those of q, which has shape {tuple(q.shape)}"
        )
    batch_size, _, seq_len, _ = q.shape
    if keep.shape != (batch_size, seq_len):
        raise ValueError(f"keep has shape {tuple(keep.shape)}; it must be (B, N) = ({batch_size}, {seq_len})")
    check_device("keep", keep, "q", q.device)
    if keep.dtype != torch.bool:
        raise TypeError(f"keep is {keep.dtype}; it must be torch.bool, True where a token is kept")
    return _ops.masked_attention(q, k, v, keep, _checked_scale(scale, q))[0]


def _refuse(function: str, unsupported: dict[str, object]) -> None:
    for name in unsupported:
        remedy = next(
            (remedy for part, remedy in _REMEDIES.items() if part in name),
            "it is not an argument of this function",
        )
        raise TypeError(f"{function}() got {name!r}: {remedy}")


def _autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    device_type = tensors[0].device.type
    if not torch.amp.is_autocast_available(device_type) or not torch.is_autocast_enabled(device_type):
        return tensors
    dtype = torch.get_autocast_dtype(device_type)
    return tuple(x.to(dtype) if x.dtype in DTYPES else x for x in tensors)


def _check_qkv(q: Tensor, k: Tensor, v: Tensor, layout: str) -> None:
    ndim = layout.count(",") + 1
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.ndim != ndim:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; it must be {layout}")
        _check_layout(name, x)
        check_device(name, x, "q", q.device)
        if x.dtype != q.dtype:
            raise TypeError(f"{name} is {x.dtype} and q is {q.dtype}; they must be the same")
    if v.shape != k.shape:
        raise ValueError(f"v has shape {tuple(v.shape)}; it must be k's, {tuple(k.shape)}")
    if k.shape[-1] != q.shape[-1]:
        raise ValueError(f"k has head dim {k.shape[-1]}; it must be q's, {q.shape[-1]}")
    num_heads, num_kv_heads = q.shape[1], k.shape[1]
    if num_kv_heads == 0 or num_heads % num_kv_heads != 0:
        raise ValueError(f"k and v have {num_kv_heads} heads; q's {num_heads} must be a multiple of that")


def _check_layout(name: str, x: Tensor) -> None:
    if x.dtype not in DTYPES:
        raise TypeError(f"{name} is {x.dtype}; it must be one of {', '.join(map(str, DTYPES))}")
    head_dim = x.shape[-1]
    if head_dim % 8 != 0 or not 8 <= head_dim <= MAX_HEAD_DIM:
        raise ValueError(
            f"{name} has head dim {head_dim}; it must be a multiple of 8 from 8 to {MAX_HEAD_DIM}:"
            " pad with zeros, and give scale"
        )
    if x.stride(-1) != 1:
        raise ValueError(
            f"{name} has stride {x.stride(-1)} in its last dimension; it must be 1: call {name}.contiguous()"
        )


def _checked_cu_seqlens(name: str, cu_seqlens: Tensor, rows_name: str, rows: Tensor) -> Tensor:
    """cu_seqlens, contiguous, checked to be the offsets of sequences in `rows`."""
    check_tensors(**{name: cu_seqlens})
    if cu_seqlens.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"{name} is {cu_seqlens.dtype}; it must be torch.int32 or torch.int64")
    if cu_seqlens.ndim != 1 or cu_seqlens.shape[0] == 0:
        raise ValueError(f"{name} has shape {tuple(cu_seqlens.shape)}; it must be (N + 1,) for N sequences")
    check_device(name, cu_seqlens, rows_name, rows.device)
    # Values are read only where that is free: not on a GPU, which would synchronise, and not while tracing.
    if cu_seqlens.device.type == "cpu" and not torch.compiler.is_compiling() and type(cu_seqlens) is Tensor:
        offsets = cu_seqlens.numpy()
        if offsets[0] != 0:
            raise ValueError(f"{name} starts with {offsets[0]}; it must start with 0")
        if (offsets[1:] < offsets[:-1]).any():
            entry = int((offsets[1:] < offsets[:-1]).argmax()) + 1
            raise ValueError(f"{name} decreases at entry {entry}; lengths must not be negative")
        if offsets[-1] > rows.shape[0]:
            raise ValueError(f"{name} ends with {offsets[-1]}; there are only {rows.shape[0]} rows")
    return cu_seqlens.contiguous()


def _checked_scale(scale: float | None, q: Tensor) -> float:
    if scale is None:
        return q.shape[-1] ** -0.5
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        raise TypeError(f"scale is a {type(scale).__name__}; it must be a float, or None for D**-0.5")
    return float(scale)
