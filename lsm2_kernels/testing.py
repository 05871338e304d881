"""For tests and benchmarks: packed inputs, results of plain PyTorch and in float64, and the accuracy rule."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from . import reference


@dataclass(frozen=True)
class AttentionInputs:
    """q (T_q, H, D), k and v (T_k, H_kv, D), their offsets (N + 1,), and the gradients of the results.

    grad_out is (T_q, H, D), and grad_lse (H, T_q) or None.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    cu_seqlens_q: Tensor
    cu_seqlens_k: Tensor
    scale: float
    grad_out: Tensor
    grad_lse: Tensor | None

    def sequences(self) -> list[tuple[slice, slice]]:
        """Rows of q and rows of k, sequence by sequence."""
        q, k = self.cu_seqlens_q.tolist(), self.cu_seqlens_k.tolist()
        return [(slice(q[i], q[i + 1]), slice(k[i], k[i + 1])) for i in range(len(q) - 1)]


@dataclass(frozen=True)
class AttentionResults:
    """out (T_q, H, D), lse (H, T_q), dq (T_q, H, D), dk and dv (T_k, H_kv, D)."""

    out: Tensor
    lse: Tensor
    dq: Tensor
    dk: Tensor
    dv: Tensor


def random_lengths(num_sequences: int, low: int, high: int, *, seed: int = 0) -> list[int]:
    """Lengths drawn uniformly from low to high, both included."""
    return torch.randint(
        low, high + 1, (num_sequences,), generator=torch.Generator().manual_seed(seed)
    ).tolist()


def cu_seqlens_of(
    lengths: Sequence[int], *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.int32
) -> Tensor:
    """Offsets (N + 1,) of sequences of these lengths."""
    return torch.tensor([0, *lengths]).cumsum(0).to(device, dtype)


def make_qkv(
    lengths_q: Sequence[int],
    lengths_k: Sequence[int] | None = None,
    *,
    num_heads: int = 2,
    num_kv_heads: int | None = None,
    head_dim: int = 64,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    offsets_dtype: torch.dtype = torch.int32,
    tail: int = 0,
    with_grad_lse: bool = True,
    seed: int = 0,
) -> AttentionInputs:
    """Standard normal inputs, the same numbers on every device.

    `tail` rows of NaN lie past the last sequence, also in the gradients.
    """
    lengths_k = lengths_q if lengths_k is None else lengths_k
    num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    generator = torch.Generator().manual_seed(seed)

    def rows(total: int, *trailing: int, dtype: torch.dtype = dtype) -> Tensor:
        x = torch.randn(total, *trailing, generator=generator)
        return torch.cat([x, torch.full((tail, *trailing), torch.nan)]).to(device, dtype)

    return AttentionInputs(
        q=rows(sum(lengths_q), num_heads, head_dim),
        k=rows(sum(lengths_k), num_kv_heads, head_dim),
        v=rows(sum(lengths_k), num_kv_heads, head_dim),
        cu_seqlens_q=cu_seqlens_of(lengths_q, device=device, dtype=offsets_dtype),
        cu_seqlens_k=cu_seqlens_of(lengths_k, device=device, dtype=offsets_dtype),
        scale=head_dim**-0.5,
        grad_out=rows(sum(lengths_q), num_heads, head_dim),
        grad_lse=rows(sum(lengths_q), num_heads, dtype=torch.float32).T.contiguous()
        if with_grad_lse
        else None,
    )


def sdpa_per_sequence(inputs: AttentionInputs) -> AttentionResults:
    """Plain PyTorch in the inputs' dtype: SDPA of each sequence, lse of its scores, gradients of autograd."""
    q, k, v = (x.detach().clone().requires_grad_() for x in (inputs.q, inputs.k, inputs.v))
    out = torch.zeros_like(inputs.q)
    lse = torch.full((q.shape[1], q.shape[0]), -torch.inf, device=q.device)
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    group = q.shape[1] // k.shape[1]
    for rows_q, rows_k in inputs.sequences():
        if rows_q.start == rows_q.stop or rows_k.start == rows_k.stop:
            continue
        leaves = [
            x.detach()[rows].transpose(0, 1)[None].requires_grad_()
            for x, rows in ((q, rows_q), (k, rows_k), (v, rows_k))
        ]
        query, key, value = leaves[0], *(x.repeat_interleave(group, dim=1) for x in leaves[1:])
        one_out = scaled_dot_product_attention(query, key, value, scale=inputs.scale)
        one_lse = ((query * inputs.scale) @ key.mT).float().logsumexp(-1)
        out[rows_q], lse[:, rows_q] = one_out.detach()[0].transpose(0, 1), one_lse.detach()[0]
        results, grads = [one_out], [inputs.grad_out[rows_q].transpose(0, 1)[None]]
        if inputs.grad_lse is not None:
            results, grads = [one_out, one_lse], [*grads, inputs.grad_lse[:, rows_q][None]]
        one_dq, one_dk, one_dv = torch.autograd.grad(results, leaves, grads)
        dq[rows_q], dk[rows_k], dv[rows_k] = (x[0].transpose(0, 1) for x in (one_dq, one_dk, one_dv))
    return AttentionResults(out, lse, dq, dk, dv)


def exact_attention(inputs: AttentionInputs) -> AttentionResults:
    """The reference in float64, on the CPU."""
    q, k, v, grad_out = (x.detach().cpu().double() for x in (inputs.q, inputs.k, inputs.v, inputs.grad_out))
    grad_lse = None if inputs.grad_lse is None else inputs.grad_lse.detach().cpu().double()
    offsets = inputs.cu_seqlens_q.cpu(), inputs.cu_seqlens_k.cpu()
    out, lse = reference.varlen_attention(q, k, v, *offsets, inputs.scale)
    return AttentionResults(
        out,
        lse,
        *reference.varlen_attention_backward(grad_out, grad_lse, q, k, v, out, lse, *offsets, inputs.scale),
    )


def assert_accurate(name: str, actual: Tensor, plain: Tensor, exact: Tensor, floor: float = 0.0) -> None:
    """Assert the accuracy rule for one result.

    The largest error against `exact` is at most twice that of `plain`, plus two roundings of the result, plus
    `floor`.
    """
    assert actual.shape == exact.shape, (
        f"{name} has shape {tuple(actual.shape)}; it should be {tuple(exact.shape)}"
    )
    actual64, plain64, exact = actual.detach().cpu().double(), plain.detach().cpu().double(), exact.cpu()
    finite = exact.isfinite()
    if not finite.all():
        assert torch.equal(actual64[~finite], exact[~finite]), (
            f"{name} is not {exact[~finite].unique().tolist()} everywhere it should be"
        )
        actual64, plain64, exact = actual64[finite], plain64[finite], exact[finite]
    if exact.numel() == 0:
        return
    assert actual64.isfinite().all(), (
        f"{name} has {int((~actual64.isfinite()).sum())} values that are not finite"
    )
    error = (actual64 - exact).abs().max().item()
    plain_error = (plain64 - exact).abs().max().item()
    rounding = torch.finfo(actual.dtype).eps / 2 * exact.abs().max().item()
    allowed = 2 * plain_error + 2 * rounding + floor
    assert error <= allowed, (
        f"{name} is off by {error:.3g}; allowed are {allowed:.3g}"
        f" (error of plain PyTorch {plain_error:.3g}, one rounding {rounding:.3g})"
    )


def assert_attention_accurate(inputs: AttentionInputs, actual: AttentionResults) -> None:
    """Assert the accuracy rule for every result.

    It is checked per group of sequences of similar length, because short sequences have larger values, which
    would hide the errors of long ones. Where the true dq or dk is 0, as with a single key, a float32 sum of D
    terms leaves a remainder: `floor` bounds it.
    """
    with _one_thread():
        plain, exact = sdpa_per_sequence(inputs), exact_attention(inputs)
    by_size: dict[tuple[int, int], list[tuple[slice, slice]]] = {}
    for rows_q, rows_k in inputs.sequences():
        size = (rows_q.stop - rows_q.start).bit_length(), (rows_k.stop - rows_k.start).bit_length()
        by_size.setdefault(size, []).append((rows_q, rows_k))
    for (size_q, size_k), sequences in by_size.items():
        rows_q, rows_k = (
            torch.cat([torch.arange(rows.start, rows.stop) for rows in side])
            for side in zip(*sequences, strict=True)
        )
        of_q, of_k = rows_q.to(inputs.q.device), rows_k.to(inputs.q.device)
        q, k, v, grad = (
            _largest(x) for x in (inputs.q[of_q], inputs.k[of_k], inputs.v[of_k], inputs.grad_out[of_q])
        )
        unit = 4 * torch.finfo(torch.float32).eps * math.sqrt(inputs.q.shape[2]) * abs(inputs.scale)
        length_q = max(rows.stop - rows.start for rows, _ in sequences)
        dk_terms = math.sqrt(length_q * inputs.q.shape[1] / inputs.k.shape[1])
        floors = {"dq": unit * grad * v * k, "dk": unit * grad * v * q * dk_terms}
        for name in ("out", "lse", "dq", "dk", "dv"):
            rows, dim = (rows_k if name in ("dk", "dv") else rows_q), (1 if name == "lse" else 0)
            three = (getattr(x, name) for x in (actual, plain, exact))
            label = (
                f"{name} of the {len(sequences)} sequences of under 2**{size_q} queries and 2**{size_k} keys"
            )
            assert_accurate(
                label, *(x.index_select(dim, rows.to(x.device)) for x in three), floor=floors.get(name, 0.0)
            )
    end_q, end_k = int(inputs.cu_seqlens_q[-1]), int(inputs.cu_seqlens_k[-1])
    for name, tail in (
        ("out", actual.out[end_q:]),
        ("dq", actual.dq[end_q:]),
        ("dk", actual.dk[end_k:]),
        ("dv", actual.dv[end_k:]),
    ):
        assert not tail.any(), f"{name} is not 0 past the last sequence"
    assert (actual.lse[:, end_q:] == -torch.inf).all(), "lse is not -inf past the last sequence"


@contextmanager
def _one_thread() -> Iterator[None]:
    """On a busy machine one thread finishes thousands of tiny operations sooner than several that wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _largest(x: Tensor) -> float:
    return x.detach().abs().max().item() if x.numel() else 0.0
