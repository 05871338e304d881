"""Wrong offsets, tensors and sizes at random: mistakes are refused, and what is not refused is right."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from lsm2_kernels import _ops, masked_attention, reference, varlen_attention, varlen_attention_qkvpacked
from lsm2_kernels.testing import make_qkv

from .fuzzing import LAYOUTS_OF_OFFSETS, examples

pytestmark = pytest.mark.usefixtures("one_thread")

needs_library = pytest.mark.skipif(
    _ops.cpu_library is None, reason=f"{_ops.why_no_cpu_library}: the ops check nothing without it"
)

NUM_ROWS = 10
offset_values = st.one_of(
    st.integers(0, NUM_ROWS),
    st.sampled_from(
        [-1, NUM_ROWS + 1, 2**31 - 1, -(2**31), 2**31, 2**32, 2**32 + 5, 2**62, 2**63 - 1, -(2**63), -(2**62)]
    ),
)


@st.composite
def offsets_right_or_wrong(draw: Callable[[Any], Any]) -> Tensor:
    values = draw(st.lists(offset_values, max_size=5))
    if draw(st.booleans()):
        values = [0, *sorted(values)]
    fits = all(-(2**31) <= value < 2**31 for value in values)
    dtype = draw(st.sampled_from([torch.int32, torch.int64])) if fits else torch.int64
    return LAYOUTS_OF_OFFSETS[draw(st.sampled_from(sorted(LAYOUTS_OF_OFFSETS)))](
        torch.tensor(values, dtype=dtype)
    )


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

    def check(
        is_right: bool, error: type[Exception], function: Callable[..., object], *arguments: object
    ) -> None:
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
        check(
            both_right,
            RuntimeError,
            _ops.varlen_attention_backward,
            x.grad_out,
            None,
            x.q,
            x.k,
            x.v,
            *rest,
            offsets_q,
            offsets_k,
            1.0,
        )
        check(right, RuntimeError, _ops.varlen_attention_qkvpacked, qkv, offsets_q, 1.0)
        check(
            right,
            RuntimeError,
            _ops.varlen_attention_qkvpacked_backward,
            x.grad_out,
            None,
            qkv,
            *rest,
            offsets_q,
            1.0,
        )


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
    return {
        "grad_out": x.grad_out,
        "grad_lse": x.grad_lse,
        "q": x.q,
        "k": x.k,
        "v": x.v,
        "out": out,
        "lse": lse,
    } | {
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
    return {
        "grad_out": torch.ones_like(out),
        "grad_lse": torch.ones_like(lse),
        **arguments,
        "out": out,
        "lse": lse,
        "scale": 0.25,
    }


def _pack_arguments() -> dict[str, Any]:
    return {"x": torch.randn(6, 4, 3), "indices": torch.tensor([0, 5, 2])}


def _unpack_arguments() -> dict[str, Any]:
    return {
        "x": torch.randn(3, 4, 3),
        "indices": torch.tensor([0, 5, 2]),
        "fill": torch.randn(4, 3),
        "num_rows": 6,
    }


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
@given(
    st.sampled_from(sorted(OPS)),
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(OTHER_TENSORS)), min_size=2, max_size=3),
)
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
