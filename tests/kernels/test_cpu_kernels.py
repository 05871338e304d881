"""The compiled CPU kernels, every instruction set of this machine, measured against float64."""

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from lsm2_kernels import _ops
from lsm2_kernels.testing import AttentionResults, assert_attention_accurate, make_qkv

from .attend_by_ops import attend

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(
        _ops.cpu_library is None,
        reason=f"{_ops.why_no_cpu_library} (test_build.py fails where a compiler is present)",
    ),
]

LENGTHS = [0, 1, 63, 64, 65, 0, 257]
KEY_LENGTHS = [5, 0, 64, 1, 131, 9, 17]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
HEAD_DIMS = [8, 24, 64, 80, 128, 256]


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_self_attention_is_accurate(instruction_set: str, dtype: torch.dtype, head_dim: int) -> None:
    inputs = make_qkv(LENGTHS, head_dim=head_dim, dtype=dtype, tail=3)
    assert_attention_accurate(inputs, attend(inputs))


@pytest.mark.parametrize("head_dim", [24, 64, 256])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_cross_attention_with_grouped_heads_is_accurate(
    instruction_set: str, dtype: torch.dtype, head_dim: int
) -> None:
    inputs = make_qkv(
        LENGTHS,
        KEY_LENGTHS,
        num_heads=4,
        num_kv_heads=2,
        head_dim=head_dim,
        dtype=dtype,
        tail=2,
        offsets_dtype=torch.int64,
        with_grad_lse=False,
    )
    assert_attention_accurate(inputs, attend(inputs))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_long_sequences_are_accurate(instruction_set: str, dtype: torch.dtype) -> None:
    inputs = make_qkv([1023, 509], head_dim=32, dtype=dtype)
    assert_attention_accurate(inputs, attend(inputs))


@pytest.mark.parametrize("head_dim", range(8, 257, 8))
def test_every_head_dim(head_dim: int) -> None:
    inputs = make_qkv([130], [70], head_dim=head_dim)
    assert_attention_accurate(inputs, attend(inputs))


@pytest.mark.parametrize("factor", [30.0, 0.0, -1.0], ids=["large scores", "scale 0", "negative scale"])
def test_unusual_scales_are_accurate(instruction_set: str, factor: float) -> None:
    inputs = make_qkv([70, 129], head_dim=16)
    inputs = replace(inputs, scale=factor * inputs.scale)
    assert_attention_accurate(inputs, attend(inputs))


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of memory in use"
)
@pytest.mark.parametrize(
    ("length", "with_backward", "allowed_mib"),
    [(65536, False, 64), (16384, True, 64)],
    ids=["forward", "backward"],
)
def test_memory_does_not_grow_with_the_square_of_the_length(
    length: int, with_backward: bool, allowed_mib: int
) -> None:
    """One byte per pair of tokens would be 4096 and 256 MiB. Inputs and results are at most 1 MiB each."""
    x = make_qkv([length], num_heads=1, head_dim=8, dtype=torch.bfloat16)
    offsets = x.cu_seqlens_q, x.cu_seqlens_q
    torch.set_num_threads(2)
    before = memory_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    out, lse = _ops.varlen_attention(x.q, x.k, x.v, *offsets, x.scale)
    if with_backward:
        _ops.varlen_attention_backward(x.grad_out, None, x.q, x.k, x.v, out, lse, *offsets, x.scale)
    assert memory_mib("VmHWM") - before < allowed_mib


def memory_mib(kind: str) -> float:
    """VmRSS, memory in use, or VmHWM, its peak."""
    kib = re.search(rf"{kind}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert kib is not None
    return int(kib[1]) / 1024


def test_nan_in_a_sequence_stays_in_that_sequence(instruction_set: str) -> None:
    inputs = make_qkv([20, 70, 30], head_dim=16)
    clean = attend(inputs)
    inputs.k[40, 0, 3] = torch.nan  # the second sequence, first head
    broken = attend(inputs)
    assert broken.out[20:90, 0].isnan().all()
    assert broken.lse[0, 20:90].isnan().all()
    assert broken.dv[20:90, 0].isnan().all()
    assert torch.equal(broken.out[:, 1], clean.out[:, 1])
    for field in fields(AttentionResults):
        a, b = getattr(broken, field.name), getattr(clean, field.name)
        dim = 1 if field.name == "lse" else 0
        for others in (torch.arange(20), torch.arange(90, 120)):
            assert torch.equal(a.index_select(dim, others), b.index_select(dim, others)), field.name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_16_bit_number_survives_and_roundings_are_pytorchs(
    instruction_set: str, dtype: torch.dtype
) -> None:
    # With one key, out is v: 2**16 values, each read and written once; dv of one query is grad_out.
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    v = every[every.isfinite()].clone()
    v = v[: len(v) // 8 * 8].view(-1, 1, 8)
    one_each = torch.arange(len(v) + 1)
    out, _ = _ops.varlen_attention(torch.ones_like(v), torch.ones_like(v), v, one_each, one_each, 1.0)
    if instruction_set in ("avx512_bf16", "amx") and dtype == torch.bfloat16:
        v[v.abs() < torch.finfo(dtype).smallest_normal] = (
            0  # subnormal factors count as 0 in the processor's bfloat16 products
        )
    assert torch.equal(out, v)
    # Two equal keys: out is the mean of two values, rounded once.
    pairs = torch.randn(4096, 2, 1, 8).mul(torch.logspace(-7, 4, 8)).to(dtype)
    cu_k = torch.arange(0, 2 * len(pairs) + 1, 2)
    q = torch.ones(len(pairs), 1, 8, dtype=dtype)
    out, _ = _ops.varlen_attention(
        q,
        torch.ones(2 * len(pairs), 1, 8, dtype=dtype),
        pairs.flatten(0, 1),
        torch.arange(len(pairs) + 1),
        cu_k,
        1.0,
    )
    assert torch.equal(out, pairs.float().mean(1).to(dtype))


@pytest.mark.parametrize("shape", [(7,), (7, 1), (7, 3, 10), (7, 0)], ids=str)
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64], ids=str
)
def test_pack_and_unpack_move_rows_of_any_type(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = torch.randint(0, 2, shape).to(dtype)
    indices = torch.tensor([6, 0, 7, 3, -1])
    packed = _ops.pack(x, indices)
    zero = torch.zeros_like(x[:1])
    assert torch.equal(packed, torch.cat([x[6:7], x[0:1], zero, x[3:4], zero]))
    fill = torch.ones_like(x[0])
    unpacked = _ops.unpack(packed, indices, fill, 7)
    assert torch.equal(unpacked, torch.stack([packed[1], fill, fill, packed[3], fill, fill, packed[0]]))
    assert torch.equal(_ops.unpack(packed, indices, None, 7)[[1, 2, 4, 5]], torch.cat([zero] * 4))
