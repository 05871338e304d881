"""The compiled CPU kernels, every instruction set of this machine, called through the dispatcher and measured against float64."""

import re
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lsm2_kernels import _ops
from lsm2_kernels.testing import AttentionInputs, AttentionResults, assert_attention_accurate, cu_seqlens_of, make_qkv

pytestmark = pytest.mark.skipif(
    _ops.cpu_library is None, reason=f"{_ops.why_no_cpu_library} (test_build.py fails where a compiler is present)"
)

LENGTHS = [0, 1, 63, 64, 65, 0, 257]
KEY_LENGTHS = [5, 0, 64, 1, 131, 9, 17]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
HEAD_DIMS = [8, 24, 64, 80, 128, 256]


def _is_supported(level: int) -> bool:
    try:
        torch.ops.lsm2_kernels._cpu_level(level)
    except RuntimeError:
        return False
    return True


def _supported_levels() -> list[int]:
    if _ops.cpu_library is None:
        return []
    before = torch.ops.lsm2_kernels._cpu_level(-1)
    levels = [level for level in range(len(_ops.INSTRUCTION_SETS)) if _is_supported(level)]
    torch.ops.lsm2_kernels._cpu_level(before)
    return levels


@pytest.fixture(params=_supported_levels(), ids=lambda level: _ops.INSTRUCTION_SETS[level])
def level(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.ops.lsm2_kernels._cpu_level(-1)
    yield torch.ops.lsm2_kernels._cpu_level(request.param)
    torch.ops.lsm2_kernels._cpu_level(before)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The yardsticks are thousands of small products, which two threads of a busy machine wait for instead of sharing."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def attention(x: AttentionInputs) -> AttentionResults:
    offsets = x.cu_seqlens_q, x.cu_seqlens_k
    out, lse = _ops.varlen_attention(x.q, x.k, x.v, *offsets, x.scale)
    return AttentionResults(out, lse, *_ops.varlen_attention_backward(x.grad_out, x.grad_lse, x.q, x.k, x.v, out, lse, *offsets, x.scale))


def assert_same_bits(actual: AttentionResults, expected: AttentionResults) -> None:
    for field in fields(AttentionResults):
        a, b = getattr(actual, field.name), getattr(expected, field.name)
        assert torch.equal(a.nan_to_num(nan=12345.0), b.nan_to_num(nan=12345.0)), f"{field.name} differs by {(a - b).abs().max()}"


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_self_attention_is_accurate(level: int, dtype: torch.dtype, head_dim: int) -> None:
    inputs = make_qkv(LENGTHS, head_dim=head_dim, dtype=dtype, tail=3)
    assert_attention_accurate(inputs, attention(inputs))


@pytest.mark.parametrize("head_dim", [24, 64, 256])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_cross_attention_with_grouped_heads_is_accurate(level: int, dtype: torch.dtype, head_dim: int) -> None:
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
    assert_attention_accurate(inputs, attention(inputs))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_long_sequences_are_accurate(level: int, dtype: torch.dtype) -> None:
    inputs = make_qkv([1023, 509], head_dim=32, dtype=dtype)
    assert_attention_accurate(inputs, attention(inputs))


@pytest.mark.parametrize("head_dim", range(8, 257, 8))
def test_every_head_dim(head_dim: int) -> None:
    inputs = make_qkv([130], [70], head_dim=head_dim)
    assert_attention_accurate(inputs, attention(inputs))


@pytest.mark.parametrize("factor", [30.0, 0.0, -1.0], ids=["large scores", "scale 0", "negative scale"])
def test_unusual_scales_are_accurate(level: int, factor: float) -> None:
    inputs = make_qkv([70, 129], head_dim=16)
    inputs = replace(inputs, scale=factor * inputs.scale)
    assert_attention_accurate(inputs, attention(inputs))


def test_a_thousand_short_sequences_equal_each_on_its_own() -> None:
    lengths = [1 + i % 23 for i in range(1000)]
    inputs = make_qkv(lengths, num_heads=1, head_dim=8)
    together = attention(inputs)
    for rows, _ in inputs.sequences()[::97]:
        alone = cu_seqlens_of([rows.stop - rows.start])
        out, lse = _ops.varlen_attention(inputs.q[rows], inputs.k[rows], inputs.v[rows], alone, alone, inputs.scale)
        assert torch.equal(out, together.out[rows])
        assert torch.equal(lse, together.lse[:, rows])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_strided_views_give_the_bits_of_contiguous_tensors(level: int, dtype: torch.dtype) -> None:
    inputs = make_qkv([5, 100, 31], num_heads=3, head_dim=24, dtype=dtype)

    def with_gaps(x: Tensor) -> Tensor:  # heads before tokens, and unused columns on both sides
        wide = torch.full((x.shape[1], x.shape[0], x.shape[2] + 16), torch.nan, dtype=x.dtype)
        wide[:, :, 8:-8] = x.transpose(0, 1)
        return wide[:, :, 8:-8].transpose(0, 1)

    assert inputs.grad_lse is not None
    strided = replace(
        inputs,
        **{name: with_gaps(getattr(inputs, name)) for name in ("q", "k", "v", "grad_out")},
        grad_lse=inputs.grad_lse.T.contiguous().T,
        cu_seqlens_q=inputs.cu_seqlens_q.repeat_interleave(2)[::2],
    )
    assert_same_bits(attention(strided), attention(inputs))


@pytest.mark.parametrize("name", ["q", "k", "v", "grad_out"])
def test_a_last_dimension_with_gaps_is_copied(name: str) -> None:
    inputs = make_qkv([5, 40], head_dim=16)
    spread = getattr(inputs, name).repeat_interleave(2, dim=-1)[..., ::2]
    assert_same_bits(attention(replace(inputs, **{name: spread})), attention(inputs))


def test_an_expanded_gradient(level: int) -> None:
    inputs = make_qkv([5, 100], head_dim=16)
    expanded = torch.ones(()).expand(inputs.q.shape)  # what out.sum().backward() sends
    assert_same_bits(attention(replace(inputs, grad_out=expanded)), attention(replace(inputs, grad_out=expanded.contiguous())))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_qkvpacked_gives_the_bits_of_separate_tensors(level: int, dtype: torch.dtype) -> None:
    x = make_qkv([0, 65, 200, 1], num_heads=3, head_dim=40, dtype=dtype, tail=2)
    separate = attention(x)
    qkv = torch.stack([x.q, x.k, x.v], dim=1)
    out, lse = _ops.varlen_attention_qkvpacked(qkv, x.cu_seqlens_q, x.scale)
    dqkv = _ops.varlen_attention_qkvpacked_backward(x.grad_out, x.grad_lse, qkv, out, lse, x.cu_seqlens_q, x.scale)
    assert_same_bits(AttentionResults(out, lse, *dqkv.unbind(1)), separate)


@pytest.mark.parametrize("layout", ["heads before tokens", "tokens before heads"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_masked_attention_gives_the_bits_of_packed_tokens(level: int, dtype: torch.dtype, layout: str) -> None:
    generator = torch.Generator().manual_seed(0)
    keep = torch.rand(4, 150, generator=generator) < torch.tensor([[0.5], [0.0], [1.0], [0.1]])

    def padded(num_heads: int) -> Tensor:  # NaN where not kept
        x = torch.randn(4, num_heads, 150, 24, generator=generator).to(dtype).masked_fill(~keep[:, None, :, None], torch.nan)
        return x if layout == "heads before tokens" else x.transpose(1, 2).contiguous().transpose(1, 2)

    def packed(x: Tensor) -> Tensor:
        return x.transpose(1, 2)[keep]

    q, k, v, grad_out = padded(4), padded(2), padded(2), padded(4)
    grad_lse = torch.randn(4, 4, 150, generator=generator)
    out, lse = _ops.masked_attention(q, k, v, keep, 0.2)
    grads = _ops.masked_attention_backward(grad_out, grad_lse, q, k, v, keep, out, lse, 0.2)
    for x in (out, *grads):
        assert not x.transpose(1, 2)[~keep].any()
    assert (lse.transpose(1, 2)[~keep] == -torch.inf).all()
    offsets = cu_seqlens_of(keep.sum(1).tolist())
    kept_grad_lse = grad_lse.transpose(1, 2)[keep].T
    inputs = AttentionInputs(packed(q), packed(k), packed(v), offsets, offsets, 0.2, packed(grad_out), kept_grad_lse)
    assert_same_bits(AttentionResults(packed(out), lse.transpose(1, 2)[keep].T, *map(packed, grads)), attention(inputs))


def test_wrong_masks_are_refused() -> None:
    q = torch.randn(2, 4, 5, 8)
    for keep in (torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 5), torch.ones(10, dtype=torch.bool)):
        with pytest.raises(RuntimeError, match=r"keep must be bool of shape \(2, 5\)"):
            _ops.masked_attention(q, q, q, keep, 1.0)
    keep = torch.ones(2, 5, dtype=torch.bool)
    for k in (q[:1], q[:, :, :3], q[:, :3], q[..., :4], q.half()):
        with pytest.raises(RuntimeError, match=r"k has|key heads|dtype of q"):
            _ops.masked_attention(q, k, k, keep, 1.0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_number_of_threads_gives_the_same_bits(level: int, dtype: torch.dtype) -> None:
    inputs = make_qkv([300, 7, 130, 64, 1061], head_dim=32, num_heads=4, num_kv_heads=2, dtype=dtype)
    alone = attention(inputs)
    for threads in (2, 7):
        torch.set_num_threads(threads)
        assert_same_bits(attention(inputs), alone)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_permuted_sequences_give_permuted_bits(level: int, dtype: torch.dtype) -> None:
    x = make_qkv([300, 7, 0, 130, 64, 65], [20, 270, 3, 64, 0, 100], head_dim=16, dtype=dtype)
    order = [4, 0, 5, 2, 3, 1]
    rows = [x.sequences()[i] for i in order]
    of_q, of_k = (torch.cat([torch.arange(r.start, r.stop) for r in side]) for side in zip(*rows, strict=True))
    assert x.grad_lse is not None
    permuted = AttentionInputs(
        x.q[of_q],
        x.k[of_k],
        x.v[of_k],
        cu_seqlens_of([q.stop - q.start for q, _ in rows]),
        cu_seqlens_of([k.stop - k.start for _, k in rows]),
        x.scale,
        x.grad_out[of_q],
        x.grad_lse[:, of_q],
    )
    straight = attention(x)
    expected = AttentionResults(straight.out[of_q], straight.lse[:, of_q], straight.dq[of_q], straight.dk[of_k], straight.dv[of_k])
    assert_same_bits(attention(permuted), expected)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of memory in use")
@pytest.mark.parametrize(("length", "with_backward", "allowed_mib"), [(65536, False, 64), (16384, True, 64)], ids=["forward", "backward"])
def test_memory_does_not_grow_with_the_square_of_the_length(length: int, with_backward: bool, allowed_mib: int) -> None:
    """One byte for each pair of tokens would be 4096 MiB and 256 MiB. Inputs and results are 1 MiB each at most."""
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


def test_nan_in_a_sequence_stays_in_that_sequence(level: int) -> None:
    inputs = make_qkv([20, 70, 30], head_dim=16)
    clean = attention(inputs)
    inputs.k[40, 0, 3] = torch.nan  # the second sequence, first head
    broken = attention(inputs)
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
def test_every_16_bit_number_survives_and_roundings_are_pytorchs(level: int, dtype: torch.dtype) -> None:
    # With one key, out is v: 2**16 values, each read and written once; dv of one query is grad_out.
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    v = every[every.isfinite()].clone()
    v = v[: len(v) // 8 * 8].view(-1, 1, 8)
    one_each = torch.arange(len(v) + 1)
    out, _ = _ops.varlen_attention(torch.ones_like(v), torch.ones_like(v), v, one_each, one_each, 1.0)
    if _ops.INSTRUCTION_SETS[level] in ("avx512_bf16", "amx") and dtype == torch.bfloat16:
        v[v.abs() < torch.finfo(dtype).smallest_normal] = 0  # subnormal factors count as 0 in the processor's bfloat16 products
    assert torch.equal(out, v)
    # Two equal keys: out is the mean of two values, rounded once.
    pairs = torch.randn(4096, 2, 1, 8).mul(torch.logspace(-7, 4, 8)).to(dtype)
    cu_k = torch.arange(0, 2 * len(pairs) + 1, 2)
    q = torch.ones(len(pairs), 1, 8, dtype=dtype)
    out, _ = _ops.varlen_attention(
        q, torch.ones(2 * len(pairs), 1, 8, dtype=dtype), pairs.flatten(0, 1), torch.arange(len(pairs) + 1), cu_k, 1.0
    )
    assert torch.equal(out, pairs.float().mean(1).to(dtype))


@pytest.mark.parametrize("shape", [(7,), (7, 1), (7, 3, 10), (7, 0)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64], ids=str)
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


@pytest.mark.parametrize(
    ("offsets", "complaint"),
    [
        (torch.tensor([1, 10]), "start with 0"),
        (torch.tensor([0, 8, 5, 10]), "must not decrease"),
        (torch.tensor([-3, 0, 10]), "must not decrease"),
        (torch.tensor([0, 11]), "only 10 tokens"),
        (torch.tensor([0, 2**40]), "only 10 tokens"),
        (torch.tensor([0.0, 10.0]), "int32 or int64"),
        (torch.tensor([[0, 10]]), "shape"),
        (torch.tensor([], dtype=torch.int32), "shape"),
    ],
    ids=["not from 0", "decreasing", "negative", "beyond the end", "far beyond", "floats", "2-d", "empty"],
)
def test_wrong_offsets_are_refused(offsets: Tensor, complaint: str) -> None:
    x = make_qkv([10], head_dim=8)
    good = x.cu_seqlens_q
    out, lse = _ops.varlen_attention(x.q, x.k, x.v, good, good, x.scale)
    qkv = torch.stack([x.q, x.k, x.v], dim=1)
    for pair in ((offsets, good), (good, offsets)):
        with pytest.raises(RuntimeError, match=complaint):
            _ops.varlen_attention(x.q, x.k, x.v, *pair, x.scale)
        with pytest.raises(RuntimeError, match=complaint):
            _ops.varlen_attention_backward(x.grad_out, None, x.q, x.k, x.v, out, lse, *pair, x.scale)
    with pytest.raises(RuntimeError, match=complaint):
        _ops.varlen_attention_qkvpacked(qkv, offsets, x.scale)
    with pytest.raises(RuntimeError, match=complaint):
        _ops.varlen_attention_qkvpacked_backward(x.grad_out, None, qkv, out, lse, offsets, x.scale)


def test_wrong_tensors_are_refused() -> None:
    x = make_qkv([10], num_heads=4, head_dim=8)
    cu = x.cu_seqlens_q

    def refused(match: str, q: Tensor, k: Tensor, v: Tensor, cu_k: Tensor = cu) -> None:
        with pytest.raises(RuntimeError, match=match):
            _ops.varlen_attention(q, k, v, cu, cu_k, 1.0)

    refused("names 1 sequences and cu_seqlens_k 2", x.q, x.k, x.v, cu_seqlens_of([5, 5]))
    refused("float32, bfloat16 or float16", x.q.double(), x.k.double(), x.v.double())
    refused("k must have the dtype of q", x.q, x.k.half(), x.v)
    refused("v has shape", x.q, x.k, x.v[:, :2])
    refused("multiple of 3", x.q, x.k[:, :3], x.v[:, :3])
    refused("multiple of 8", x.q[..., :4], x.k[..., :4], x.v[..., :4])
    refused("k has head dim", torch.randn(10, 4, 16), x.k, x.v)
    out, lse = _ops.varlen_attention(x.q, x.k, x.v, cu, cu, 1.0)
    for name, wrong in (("grad_out", x.grad_out[:5]), ("lse", lse[:, :5])):
        arguments = {"grad_out": x.grad_out, "lse": lse} | {name: wrong}
        with pytest.raises(RuntimeError, match=name):
            _ops.varlen_attention_backward(arguments["grad_out"], None, x.q, x.k, x.v, out, arguments["lse"], cu, cu, 1.0)


def test_levels_this_machine_lacks_are_refused() -> None:
    for level in (-2, 99, *(set(range(len(_ops.INSTRUCTION_SETS))) - set(_supported_levels()))):
        with pytest.raises(RuntimeError, match="no kernels of level"):
            torch.ops.lsm2_kernels._cpu_level(level)
    assert 0 in _supported_levels()
