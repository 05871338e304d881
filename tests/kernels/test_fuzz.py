"""Random shapes, lengths, strides and scales, right and wrong: results are right to a few roundings, and mistakes are refused."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lsm2_kernels import Packing, _ops, masked_attention, pack, reference, unpack, varlen_attention, varlen_attention_qkvpacked
from lsm2_kernels.testing import AttentionInputs, AttentionResults, cu_seqlens_of, exact_attention, make_qkv

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
RESULTS = ("out", "lse", "dq", "dk", "dv")

needs_library = pytest.mark.skipif(_ops.cpu_library is None, reason=f"{_ops.why_no_cpu_library}: the ops check nothing without it")


def examples(count: int) -> settings:
    return settings(max_examples=count, derandomize=True, deadline=None, database=None)


# What runs: any instruction set, one thread


def _levels() -> list[int]:
    if _ops.cpu_library is None:
        return []
    before, levels = torch.ops.lsm2_kernels._cpu_level(-1), []
    for level in range(len(_ops.INSTRUCTION_SETS)):
        try:
            levels.append(torch.ops.lsm2_kernels._cpu_level(level))
        except RuntimeError:
            continue
    torch.ops.lsm2_kernels._cpu_level(before)
    return levels


LEVELS = _levels()


@pytest.fixture(autouse=True)
def one_thread_and_the_level_of_before() -> Iterator[None]:
    threads, level = torch.get_num_threads(), torch.ops.lsm2_kernels._cpu_level(-1) if LEVELS else -1
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    if LEVELS:
        torch.ops.lsm2_kernels._cpu_level(level)


def use_level(level: int | None) -> None:
    if level is not None:
        torch.ops.lsm2_kernels._cpu_level(level)


def each_level_and_dtype(test: Callable[..., None]) -> Callable[..., None]:
    by_level = pytest.mark.parametrize("level", LEVELS or [None], ids=[_ops.INSTRUCTION_SETS[level] for level in LEVELS] or ["reference"])
    return pytest.mark.parametrize("dtype", DTYPES, ids=str)(by_level(test))


# Layouts: the same shape in memory of another order; "one ..." repeats a token or a head, with stride 0


def _sliced(x: Tensor, step: int) -> Tensor:
    wide = torch.full([step * size + 3 for size in x.shape[:-1]] + [x.shape[-1] + 5], torch.nan).to(x.dtype)
    inner = wide[tuple(slice(1, 1 + step * size, step) for size in x.shape[:-1])][..., 3:-2]
    return inner.copy_(x)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "heads_first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "inside_a_larger_tensor": lambda x: _sliced(x, 1),
    "every_second_token_and_head": lambda x: _sliced(x, 2),
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

lengths = st.one_of(st.sampled_from([0, 0, 1, 15, 16, 17, 63, 64, 65, 130]), st.integers(0, 40))
head_dims = st.one_of(st.sampled_from([8, 32, 64, 72, 128, 256]), st.integers(1, 32).map(lambda eighths: 8 * eighths))
seeds = st.integers(0, 2**32 - 1)
scales = st.sampled_from([None, None, 0.0, -0.2, 0.01, 2.0])


@dataclass(frozen=True)
class Case:
    """What to compute, in a form that a failure can print."""

    options: dict[str, Any]
    layouts: dict[str, str]
    scale: float | None

    def inputs(self, dtype: torch.dtype) -> AttentionInputs:
        x = make_qkv(**self.options, dtype=dtype)
        fields = {name: LAYOUTS_BY_FIELD[name][layout](getattr(x, name)) for name, layout in self.layouts.items()}
        return replace(x, **fields, scale=x.scale if self.scale is None else self.scale)


@st.composite
def cases(draw: Callable[[Any], Any], is_self_attention: bool = False) -> Case:
    pairs = draw(st.lists(st.tuples(lengths, lengths), min_size=1, max_size=4))
    num_kv_heads = draw(st.integers(1, 3))
    options = {
        "lengths_q": [q for q, _ in pairs],
        "lengths_k": None if is_self_attention or draw(st.booleans()) else [k for _, k in pairs],
        "num_heads": num_kv_heads * (1 if is_self_attention else draw(st.integers(1, 3))),
        "num_kv_heads": num_kv_heads,
        "head_dim": draw(head_dims),
        "offsets_dtype": draw(st.sampled_from([torch.int32, torch.int64])),
        "tail": draw(st.sampled_from([0, 0, 1, 5, 70])),
        "with_grad_lse": draw(st.booleans()),
        "seed": draw(seeds),
    }
    names = [name for name in LAYOUTS_BY_FIELD if name != "grad_lse" or options["with_grad_lse"]]
    layouts = {name: draw(st.sampled_from(sorted(LAYOUTS_BY_FIELD[name]))) for name in names}
    return Case(options, layouts, draw(scales))


# What is right


def assert_right(inputs: AttentionInputs, actual: AttentionResults) -> None:
    """Every number is within some roundings of the terms that it is a sum of, and rows that belong to no sequence are 0."""
    exact = exact_attention(inputs)
    allowed = AttentionResults(*(torch.zeros_like(getattr(exact, name)) for name in RESULTS))
    for rows_q, rows_k in inputs.sequences():
        if rows_q.start < rows_q.stop and rows_k.start < rows_k.stop:
            _allow_roundings(inputs, rows_q, rows_k, allowed)
    for name in RESULTS:
        result, wanted, error = getattr(actual, name), getattr(exact, name), getattr(allowed, name)
        assert result.shape == wanted.shape, name
        assert result.dtype == (torch.float32 if name == "lse" else inputs.q.dtype), name
        finite = wanted.isfinite()
        assert torch.equal(result[~finite].double(), wanted[~finite]), f"{name} is not -inf where there are no keys"
        limits = torch.finfo(result.dtype)
        surplus = (result.double() - wanted).abs() - error - limits.eps * wanted.abs() - limits.tiny * (error > 0)
        worst = surplus[finite].max().item() if finite.any() else 0.0
        assert worst <= 0, f"{name} is off by {worst:.3g} more than allowed, {error[finite].max():.3g} at most"


def _allow_roundings(inputs: AttentionInputs, rows_q: slice, rows_k: slice, allowed: AttentionResults) -> None:
    num_kv_heads = inputs.k.shape[1]
    group = inputs.q.shape[1] // num_kv_heads
    q, k, v, grad = (x.double().transpose(0, 1) for x in (inputs.q[rows_q], inputs.k[rows_k], inputs.v[rows_k], inputs.grad_out[rows_q]))
    k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
    grad_lse = q.new_zeros(q.shape[:2]) if inputs.grad_lse is None else inputs.grad_lse[:, rows_q].double()
    probability = (inputs.scale * q @ k.mT).softmax(-1)
    # The error of a score, a float32 sum of D terms, is a relative error of probabilities. These may be rounded to q's dtype, to 0 where
    # they are among the smallest numbers. Where all terms of a sum are alike, so are the roundings, half an eps each.
    single, limits = torch.finfo(torch.float32), torch.finfo(inputs.q.dtype)
    score_error = 8 * single.eps * (1 + abs(inputs.scale) * (q.abs() @ k.abs().mT).amax(-1, keepdim=True))
    sum_error = single.eps / 2 * max(q.shape[1] * group, k.shape[1])
    smallest = max(limits.tiny * limits.eps, 64 * single.tiny)
    error = probability * (score_error + sum_error + 2 * limits.eps) + smallest
    terms = grad.abs() @ v.abs().mT
    grad_score_error = abs(inputs.scale) * error * (terms + (probability * terms).sum(-1, keepdim=True) + grad_lse.abs()[..., None])

    def over_groups(x: Tensor) -> Tensor:
        return x.unflatten(0, (num_kv_heads, group)).sum(1).transpose(0, 1)

    allowed.out[rows_q] = (error @ v.abs()).transpose(0, 1)
    # lse is float32 always, but its exponentials may be taken for no more than weights in q's dtype.
    allowed.lse[:, rows_q] = score_error.squeeze(-1) + sum_error + limits.eps / 256
    allowed.dq[rows_q] = (grad_score_error @ k.abs()).transpose(0, 1)
    allowed.dk[rows_k] = over_groups(grad_score_error.mT @ q.abs())
    allowed.dv[rows_k] = over_groups(error.mT @ grad.abs())


def gradients(inputs: AttentionInputs, out: Tensor, lse: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    if inputs.grad_lse is None:
        return torch.autograd.grad(out, leaves, inputs.grad_out)
    return torch.autograd.grad((out, lse), leaves, (inputs.grad_out, inputs.grad_lse))


@each_level_and_dtype
@examples(60)
@given(case=cases())
def test_varlen_attention(level: int | None, dtype: torch.dtype, case: Case) -> None:
    use_level(level)
    x = case.inputs(dtype)
    leaves = [tensor.detach().requires_grad_() for tensor in (x.q, x.k, x.v)]
    out, lse = varlen_attention(*leaves, x.cu_seqlens_q, x.cu_seqlens_k, scale=x.scale, return_lse=True)
    assert_right(x, AttentionResults(out.detach(), lse.detach(), *gradients(x, out, lse, leaves)))


@each_level_and_dtype
@examples(25)
@given(case=cases(is_self_attention=True), layout=st.sampled_from(["contiguous", "heads_first", "part_last", "inside_a_larger_tensor"]))
def test_varlen_attention_qkvpacked(level: int | None, dtype: torch.dtype, case: Case, layout: str) -> None:
    use_level(level)
    x = case.inputs(dtype)
    qkv = torch.stack([x.q, x.k, x.v], dim=1)
    if layout == "heads_first":
        qkv = qkv.transpose(0, 2).contiguous().transpose(0, 2)
    elif layout == "part_last":
        qkv = qkv.transpose(1, 2).contiguous().transpose(1, 2)
    elif layout == "inside_a_larger_tensor":
        qkv = _sliced(qkv, 1)
    qkv = qkv.requires_grad_()
    out, lse = varlen_attention_qkvpacked(qkv, x.cu_seqlens_q, scale=x.scale, return_lse=True)
    (dqkv,) = gradients(x, out, lse, [qkv])
    x = replace(x, **dict(zip("qkv", qkv.detach().unbind(1), strict=True)))
    assert_right(x, AttentionResults(out.detach(), lse.detach(), *dqkv.unbind(1)))


@each_level_and_dtype
@examples(25)
@given(
    batch_size=st.integers(0, 4),
    seq_len=st.one_of(st.integers(0, 20), st.sampled_from([64, 70])),
    num_kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    head_dim=head_dims,
    kept=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    layout=st.tuples(*[st.sampled_from(sorted(LAYOUTS_OF_PADDED))] * 4),
    is_keep_strided=st.booleans(),
    seed=seeds,
)
def test_masked_attention(
    level: int | None,
    dtype: torch.dtype,
    batch_size: int,
    seq_len: int,
    num_kv_heads: int,
    group: int,
    head_dim: int,
    kept: float,
    layout: tuple[str, ...],
    is_keep_strided: bool,
    seed: int,
) -> None:
    use_level(level)
    generator = torch.Generator().manual_seed(seed)
    keep = torch.rand(batch_size, seq_len, generator=generator) < kept
    num_heads = num_kv_heads * group
    tensors = []
    for heads, name in zip([num_heads, num_kv_heads, num_kv_heads, num_heads], layout, strict=True):
        x = torch.randn(batch_size, heads, seq_len, head_dim, generator=generator).to(dtype)
        if name != "one_token":  # its first sequence stands for all, whichever tokens those keep
            x.transpose(1, 2)[~keep] = torch.nan
        tensors.append(LAYOUTS_OF_PADDED[name](x))
    if is_keep_strided:
        keep = keep.repeat_interleave(2, dim=1)[:, ::2]
    *qkv, grad_out = tensors
    leaves = [x.detach().requires_grad_() for x in qkv]
    out = masked_attention(*leaves, keep)
    padded = out.detach(), *torch.autograd.grad(out, leaves, grad_out)
    for x in padded:
        assert not x.transpose(1, 2)[~keep].any()

    offsets = cu_seqlens_of(keep.sum(1).tolist())
    q, k, v, grad = (x.detach().transpose(1, 2)[keep] for x in (*qkv, grad_out))
    inputs = AttentionInputs(q, k, v, offsets, offsets, head_dim**-0.5, grad, None)
    out, dq, dk, dv = (x.transpose(1, 2)[keep] for x in padded)
    assert_right(inputs, AttentionResults(out, exact_attention(inputs).lse.float(), dq, dk, dv))


# Packing


any_dtype = st.sampled_from([*DTYPES, torch.float64, torch.complex64, torch.int64, torch.int32, torch.uint8, torch.bool])
row_shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)


def numbers(seed: int, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randint(0, 100, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@examples(100)
@given(
    batch_size=st.integers(0, 4),
    seq_len=st.integers(0, 20),
    row_shape=row_shapes,
    dtype=any_dtype,
    kept=st.sampled_from([0.0, 0.3, 1.0]),
    unused=st.none() | st.integers(0, 7),
    has_fill=st.booleans(),
    is_transposed=st.booleans(),
    seed=seeds,
)
def test_pack_and_unpack(
    batch_size: int,
    seq_len: int,
    row_shape: tuple[int, ...],
    dtype: torch.dtype,
    kept: float,
    unused: int | None,
    has_fill: bool,
    is_transposed: bool,
    seed: int,
) -> None:
    keep = torch.rand(batch_size, seq_len, generator=torch.Generator().manual_seed(seed)) < kept
    num_kept = int(keep.sum())
    packing = Packing.from_mask(keep, capacity=None if unused is None else num_kept + unused)
    x = numbers(seed, dtype, batch_size, seq_len, *row_shape)
    if is_transposed:
        x = x.transpose(0, -1).contiguous().transpose(0, -1)
    if dtype.is_floating_point:
        x.requires_grad_()
    packed = pack(x, packing)
    assert packed.dtype == dtype and packed.shape == (num_kept + (unused or 0), *row_shape)
    assert torch.equal(packed[:num_kept], x[keep]) and not packed[num_kept:].any()
    fill = numbers(seed + 1, dtype, *row_shape) if has_fill else None
    back = unpack(packed, packing, fill=fill)
    expected = torch.zeros_like(x) if fill is None else fill.expand(x.shape).clone()
    expected[keep] = x.detach()[keep]
    assert torch.equal(back, expected)
    if dtype.is_floating_point:
        grad = numbers(seed + 2, dtype, *x.shape)
        expected = torch.zeros_like(grad)
        expected[keep] = grad[keep]
        assert torch.equal(torch.autograd.grad(back, x, grad)[0], expected)


indices_of_any_size = st.one_of(st.integers(-2, 12), st.sampled_from([-(2**63), 2**63 - 1, 2**62, -(2**31), 2**31, 2**32]))


@examples(100)
@given(
    indices=st.lists(indices_of_any_size, max_size=12),
    num_rows=st.integers(0, 11),
    row_shape=row_shapes,
    dtype=any_dtype,
    is_strided=st.booleans(),
    has_fill=st.booleans(),
    seed=seeds,
)
def test_indices_outside_name_no_row(
    indices: list[int], num_rows: int, row_shape: tuple[int, ...], dtype: torch.dtype, is_strided: bool, has_fill: bool, seed: int
) -> None:
    index = torch.tensor(indices, dtype=torch.int64)
    if is_strided:
        index = index.repeat_interleave(3)[1::3]
    x = numbers(seed, dtype, num_rows, *row_shape)
    zero = torch.zeros(row_shape, dtype=dtype)
    packed = _ops.pack(x, index)
    assert torch.equal(packed, torch.stack([x[i] if 0 <= i < num_rows else zero for i in indices] or [zero])[: len(indices)])

    fill = numbers(seed + 1, dtype, *row_shape) if has_fill else None
    distinct = list(dict.fromkeys(indices))
    x = numbers(seed, dtype, len(distinct), *row_shape)
    unpacked = _ops.unpack(x, torch.tensor(distinct, dtype=torch.int64), fill, num_rows)
    rows = dict(zip(distinct, x, strict=True))
    wanted = [rows.get(i, zero if fill is None else fill) for i in range(num_rows)]
    assert torch.equal(unpacked, torch.stack(wanted or [zero])[:num_rows])


# What is wrong


NUM_ROWS = 10
offset_values = st.one_of(
    st.integers(0, NUM_ROWS),
    st.sampled_from([-1, NUM_ROWS + 1, 2**31 - 1, -(2**31), 2**31, 2**32, 2**32 + 5, 2**62, 2**63 - 1, -(2**63), -(2**62)]),
)


@st.composite
def offsets_right_or_wrong(draw: Callable[[Any], Any]) -> Tensor:
    values = draw(st.lists(offset_values, max_size=5))
    if draw(st.booleans()):
        values = [0, *sorted(values)]
    fits = all(-(2**31) <= value < 2**31 for value in values)
    dtype = draw(st.sampled_from([torch.int32, torch.int64])) if fits else torch.int64
    return LAYOUTS_OF_OFFSETS[draw(st.sampled_from(sorted(LAYOUTS_OF_OFFSETS)))](torch.tensor(values, dtype=dtype))


def are_right(offsets: Tensor) -> bool:
    values = offsets.tolist()
    return values[:1] == [0] and values == sorted(values) and values[-1] <= NUM_ROWS


@examples(200)
@given(offsets_right_or_wrong(), offsets_right_or_wrong())
@example(torch.tensor([0, 2**32 + 5]), torch.tensor([0, 5]))  # right, if only the lower 32 bits were read
@example(torch.tensor(3), torch.tensor([0, 5]))
def test_wrong_offsets_are_refused(offsets_q: Tensor, offsets_k: Tensor) -> None:
    x = make_qkv([NUM_ROWS], num_heads=2, head_dim=8)
    right = offsets_q.ndim == 1 and are_right(offsets_q)
    both_right = right and are_right(offsets_k) and len(offsets_q) == len(offsets_k)
    qkv = torch.stack([x.q, x.k, x.v], dim=1)

    def check(is_right: bool, error: type[Exception], function: Callable[..., object], *arguments: object) -> None:
        if is_right:
            function(*arguments)
        else:
            with pytest.raises(error):
                function(*arguments)

    check(both_right, ValueError, varlen_attention, x.q, x.k, x.v, offsets_q, offsets_k)
    check(right, ValueError, varlen_attention, x.q, x.k, x.v, offsets_q)
    check(right, ValueError, varlen_attention_qkvpacked, qkv, offsets_q)
    if _ops.cpu_library is not None:
        rest = torch.zeros_like(x.q), torch.zeros(2, NUM_ROWS)
        check(both_right, RuntimeError, _ops.varlen_attention, x.q, x.k, x.v, offsets_q, offsets_k, 1.0)
        check(both_right, RuntimeError, _ops.varlen_attention_backward, x.grad_out, None, x.q, x.k, x.v, *rest, offsets_q, offsets_k, 1.0)
        check(right, RuntimeError, _ops.varlen_attention_qkvpacked, qkv, offsets_q, 1.0)
        check(right, RuntimeError, _ops.varlen_attention_qkvpacked_backward, x.grad_out, None, qkv, *rest, offsets_q, 1.0)


SPOILERS: dict[str, Callable[[Tensor], Any]] = {
    "no_tensor": lambda x: None,
    "a_list": lambda x: x.tolist(),
    "float64": lambda x: x.double(),
    "int8": lambda x: x.to(torch.int8),
    "bool": lambda x: x.bool(),
    "complex64": lambda x: x.to(torch.complex64),
    "another_float": lambda x: x.half(),
    "meta": lambda x: x.to("meta"),
    "scalar": lambda x: x.new_zeros(()),
    "empty": lambda x: x.new_zeros(0),
    "one_dim_fewer": lambda x: x[0],
    "one_dim_more": lambda x: x[None],
    "one_row_fewer": lambda x: x[1:],
    "one_row_more": lambda x: torch.cat([x, x[:1]]),
    "one_column_fewer": lambda x: x[..., 1:],
    "no_columns": lambda x: x[..., :0],
    "flat": lambda x: x.flatten(),
    "transposed": lambda x: x.transpose(0, -1),
    "sparse": lambda x: x.to_sparse(),
}
# One tensor of these kinds, and the dispatcher asks the reference, or for nothing but shapes.
SPOILERS_OF_OPS = {name: spoil for name, spoil in SPOILERS.items() if name not in ("meta", "sparse")}
OTHER_TENSORS = sorted(SPOILERS_OF_OPS.keys() - {"no_tensor", "a_list"})


def _attention_arguments() -> dict[str, Any]:
    x = make_qkv([3, 4], [2, 5], num_heads=4, num_kv_heads=2, head_dim=16)
    return {"q": x.q, "k": x.k, "v": x.v, "cu_seqlens_q": x.cu_seqlens_q, "cu_seqlens_k": x.cu_seqlens_k}


def _backward_arguments() -> dict[str, Any]:
    x = make_qkv([3, 4], [2, 5], num_heads=4, num_kv_heads=2, head_dim=16)
    out, lse = _ops.varlen_attention(x.q, x.k, x.v, x.cu_seqlens_q, x.cu_seqlens_k, x.scale)
    return {"grad_out": x.grad_out, "grad_lse": x.grad_lse, "q": x.q, "k": x.k, "v": x.v, "out": out, "lse": lse} | {
        "cu_seqlens_q": x.cu_seqlens_q,
        "cu_seqlens_k": x.cu_seqlens_k,
        "scale": x.scale,
    }


def _packed_arguments() -> dict[str, Any]:
    x = make_qkv([3, 4], num_heads=2, head_dim=16)
    return {"qkv": torch.stack([x.q, x.k, x.v], dim=1), "cu_seqlens": x.cu_seqlens_q}


def _packed_backward_arguments() -> dict[str, Any]:
    x = make_qkv([3, 4], num_heads=2, head_dim=16)
    packed = _packed_arguments()
    out, lse = _ops.varlen_attention_qkvpacked(*packed.values(), x.scale)
    return {"grad_out": x.grad_out, "grad_lse": x.grad_lse, "qkv": packed["qkv"], "out": out, "lse": lse} | {
        "cu_seqlens": packed["cu_seqlens"],
        "scale": x.scale,
    }


def _masked_arguments() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(3, 2, 5, 16, generator=generator) for name in "qkv"}
    return tensors | {"keep": torch.rand(3, 5, generator=generator) < 0.5}


def _masked_backward_arguments() -> dict[str, Any]:
    arguments = _masked_arguments()
    out, lse = _ops.masked_attention(*arguments.values(), 0.25)
    return {"grad_out": torch.ones_like(out), "grad_lse": torch.ones_like(lse), **arguments, "out": out, "lse": lse, "scale": 0.25}


def _pack_arguments() -> dict[str, Any]:
    return {"x": torch.randn(6, 4, 3), "indices": torch.tensor([0, 5, 2])}


def _unpack_arguments() -> dict[str, Any]:
    return {"x": torch.randn(3, 4, 3), "indices": torch.tensor([0, 5, 2]), "fill": torch.randn(4, 3), "num_rows": 6}


FUNCTIONS: dict[str, tuple[Callable[..., Tensor], Callable[[], dict[str, Any]]]] = {
    "varlen_attention": (varlen_attention, _attention_arguments),
    "varlen_attention_qkvpacked": (varlen_attention_qkvpacked, _packed_arguments),
    "masked_attention": (masked_attention, _masked_arguments),
}
OPS: dict[str, Callable[[], dict[str, Any]]] = {
    "varlen_attention": lambda: _attention_arguments() | {"scale": 0.25},
    "varlen_attention_backward": _backward_arguments,
    "varlen_attention_qkvpacked": lambda: _packed_arguments() | {"scale": 0.25},
    "varlen_attention_qkvpacked_backward": _packed_backward_arguments,
    "masked_attention": lambda: _masked_arguments() | {"scale": 0.25},
    "masked_attention_backward": _masked_backward_arguments,
    "pack": _pack_arguments,
    "unpack": _unpack_arguments,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_refuse_what_they_cannot_take(name: str) -> None:
    function, make_arguments = FUNCTIONS[name]
    for spoiled, value in make_arguments().items():
        for spoiler, spoil in SPOILERS.items():
            try:
                out = function(**(make_arguments() | {spoiled: spoil(value)}))
            except (ValueError, TypeError):
                continue
            except Exception as error:
                error.add_note(f"{spoiled} was {spoiler}")
                raise
            assert out.isfinite().all(), f"{spoiled} was {spoiler}"


def assert_refused_or_like_the_reference(name: str, arguments: dict[str, Any]) -> None:
    try:
        actual = getattr(_ops, name)(**arguments)
    except RuntimeError:
        return
    if isinstance(arguments.get("fill"), Tensor):  # the op asks only that it has a number for each in a row
        arguments = arguments | {"fill": arguments["fill"].reshape(arguments["x"].shape[1:])}
    expected = getattr(reference, name)(**arguments)
    both = (x if isinstance(x, tuple) else (x,) for x in (actual, expected))
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-3, check_dtype=False)


@needs_library
@pytest.mark.parametrize("name", OPS)
def test_ops_refuse_what_they_cannot_take(name: str) -> None:
    for spoiled, value in OPS[name]().items():
        for spoiler, spoil in SPOILERS_OF_OPS.items() if isinstance(value, Tensor) else ():
            try:
                assert_refused_or_like_the_reference(name, OPS[name]() | {spoiled: spoil(value)})
            except Exception as error:
                error.add_note(f"{spoiled} was {spoiler}")
                raise


@needs_library
@examples(150)
@given(st.sampled_from(sorted(OPS)), st.lists(st.tuples(st.integers(0, 9), st.sampled_from(OTHER_TENSORS)), min_size=2, max_size=3))
def test_ops_refuse_several_mistakes_at_once(name: str, mistakes: list[tuple[int, str]]) -> None:
    arguments = OPS[name]()
    names = [argument for argument, value in arguments.items() if isinstance(value, Tensor)]
    for index, spoiler in mistakes:
        value = arguments[names[index % len(names)]]
        if value.numel() > 0 and value.ndim > 0 and not value.is_complex():
            arguments[names[index % len(names)]] = SPOILERS_OF_OPS[spoiler](value)
    assert_refused_or_like_the_reference(name, arguments)


@needs_library
@pytest.mark.parametrize("num_rows", [-1, -(2**63), 2**62, 2**63 - 1], ids=str)
def test_unpack_refuses_sizes_that_nothing_has(num_rows: int) -> None:
    with pytest.raises(RuntimeError):
        _ops.unpack(**(_unpack_arguments() | {"num_rows": num_rows}))


@pytest.mark.parametrize("scale", [torch.inf, -torch.inf, torch.nan, 1e300, 1e-300], ids=str)
def test_scales_without_a_use_are_survived(scale: float) -> None:
    x = make_qkv([0, 3, 70], num_heads=2, head_dim=8)
    q = x.q.requires_grad_()
    out = varlen_attention(q, x.k, x.v, x.cu_seqlens_q, scale=scale)
    out.sum().backward()
    assert out.shape == x.q.shape and q.grad is not None
