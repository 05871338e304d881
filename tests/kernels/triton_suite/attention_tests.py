"""Triton's attention launchers against the oracle, at the edges, and bit for bit."""

import dataclasses

import pytest
import torch
from torch import Tensor
from triton.runtime.errors import InterpreterError

from lsm2_kernels.testing import (
    AttentionInputs,
    AttentionResults,
    assert_attention_accurate,
    cu_seqlens_of,
    make_qkv,
    random_lengths,
)
from lsm2_kernels.triton import launch, tiles

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ODD = [0, 1, 63, 64, 65, 0, 130]
CASES = {
    "odd_lengths": {"lengths_q": ODD, "head_dim": 64},
    "cross": {
        "lengths_q": [31, 0, 129, 7, 2],
        "lengths_k": [67, 4, 0, 191, 1],
        "head_dim": 32,
        "num_heads": 1,
    },
    "one_sequence": {"lengths_q": [257], "head_dim": 128, "num_heads": 1},
    "one_key": {"lengths_q": [67, 1, 2], "lengths_k": [1, 1, 1], "head_dim": 24},
    "many_of_five": {"lengths_q": [5] * 20, "head_dim": 16, "num_heads": 1},
    "gqa": {"lengths_q": [61, 3, 0], "num_heads": 4, "num_kv_heads": 2, "head_dim": 80},
    "mqa_cross": {
        "lengths_q": [31, 0, 101],
        "lengths_k": [67, 4, 97],
        "num_heads": 3,
        "num_kv_heads": 1,
        "head_dim": 8,
    },
    "int64_offsets": {"lengths_q": [17, 0, 41], "offsets_dtype": torch.int64, "head_dim": 40, "num_heads": 1},
    "without_grad_lse": {"lengths_q": [61, 128, 7], "with_grad_lse": False, "head_dim": 72, "num_heads": 1},
    "no_sequence": {"lengths_q": []},
    "only_empty": {"lengths_q": [0, 0, 0]},
}


def attend(inputs: AttentionInputs) -> AttentionResults:
    offsets = inputs.cu_seqlens_q, inputs.cu_seqlens_k
    out, lse = launch.varlen_attention(inputs.q, inputs.k, inputs.v, *offsets, inputs.scale)
    grads = launch.varlen_attention_backward(
        inputs.grad_out, inputs.grad_lse, inputs.q, inputs.k, inputs.v, out, lse, *offsets, inputs.scale
    )
    return AttentionResults(out, lse, *grads)


def attend_packed(qkv: Tensor, inputs: AttentionInputs) -> tuple[Tensor, Tensor, Tensor]:
    out, lse = launch.varlen_attention_qkvpacked(qkv, inputs.cu_seqlens_q, inputs.scale)
    return out, lse, launch.varlen_attention_qkvpacked_backward(
        inputs.grad_out, inputs.grad_lse, qkv, out, lse, inputs.cu_seqlens_q, inputs.scale
    )  # fmt: skip


def same_bits(a: AttentionResults, b: AttentionResults) -> bool:
    return all(torch.equal(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(a))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_accuracy(device, case, dtype):
    inputs = make_qkv(**CASES[case], dtype=dtype, device=device, tail=3)
    results = attend(inputs)
    assert results.out.dtype == results.dq.dtype == results.dk.dtype == results.dv.dtype == dtype
    assert results.lse.dtype == torch.float32
    assert_attention_accurate(inputs, results)


@pytest.mark.parametrize("head_dim", [8, 96, 200, 256])
def test_accuracy_of_head_dims(device, head_dim):
    inputs = make_qkv([19, 66], head_dim=head_dim, num_heads=1, device=device)
    assert_attention_accurate(inputs, attend(inputs))


@pytest.mark.parametrize("architecture", [name for name in tiles.ARCHITECTURES if name != "sm_90"])
def test_tiles_and_flags_of_other_architectures(device, architecture, monkeypatch):
    if device.type == "cuda":
        pytest.skip("a GPU has its own")
    monkeypatch.setattr(launch, "_architecture", lambda device: architecture)
    inputs = make_qkv([0, 1, 65, 130], num_heads=1, dtype=torch.bfloat16, device=device, tail=3)
    assert_attention_accurate(inputs, attend(inputs))


def test_tail_longer_than_a_tile(device):
    inputs = make_qkv([3, 70], device=device, tail=300, head_dim=16)
    assert_attention_accurate(inputs, attend(inputs))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_large_scores(device, dtype):
    inputs = make_qkv([70, 65], device=device, dtype=dtype, head_dim=32)
    inputs = dataclasses.replace(inputs, q=inputs.q * 8, k=inputs.k * 8)
    assert_attention_accurate(inputs, attend(inputs))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scores_far_below_zero(device, dtype):
    # exp(-lse) is infinite here, and is the weight of a key that is not there.
    inputs = make_qkv([3, 40], device=device, dtype=dtype, head_dim=32)
    inputs = dataclasses.replace(inputs, q=inputs.q / 4 - 6, k=inputs.k / 4 + 6)
    assert_attention_accurate(inputs, attend(inputs))


def test_scale_zero_is_the_mean(device):
    inputs = dataclasses.replace(make_qkv([70, 3], device=device, head_dim=16), scale=0.0)
    assert_attention_accurate(inputs, attend(inputs))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_negative_scale_is_as_negative_queries(device, dtype):
    inputs = make_qkv([67, 2], device=device, dtype=dtype, head_dim=16)
    expected = attend(dataclasses.replace(inputs, q=-inputs.q))
    actual = attend(dataclasses.replace(inputs, scale=-inputs.scale))
    assert same_bits(actual, dataclasses.replace(expected, dq=-expected.dq))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_packed_qkv_is_the_same_bits(device, dtype):
    inputs = make_qkv([66, 0, 31], device=device, dtype=dtype, head_dim=24, num_heads=3, tail=2)
    expected = attend(inputs)
    out, lse, dqkv = attend_packed(torch.stack((inputs.q, inputs.k, inputs.v), 1), inputs)
    assert dqkv.is_contiguous()
    assert same_bits(AttentionResults(out, lse, *dqkv.unbind(1)), expected)


def test_strided_views_are_the_same_bits(device):
    inputs = make_qkv([66, 0, 31], [5, 3, 70], device=device, num_heads=4, num_kv_heads=2, head_dim=24)

    def heads_first(x: Tensor) -> Tensor:
        return x.transpose(0, 1).contiguous().transpose(0, 1)

    def wide(x: Tensor, extra: int = 24) -> Tensor:
        return torch.nn.functional.pad(x, (0, extra), value=torch.nan)[:, :, : x.shape[2]]

    assert inputs.grad_lse is not None
    views = dataclasses.replace(
        inputs,
        q=heads_first(inputs.q),
        k=wide(inputs.k, extra=1),
        v=inputs.v.mT.contiguous().mT,
        grad_out=wide(heads_first(inputs.grad_out)),
        grad_lse=inputs.grad_lse.T.contiguous().T,
    )
    assert same_bits(attend(views), attend(inputs))


def test_expanded_gradient(device):
    inputs = make_qkv([33, 5], device=device, head_dim=16, with_grad_lse=False)
    ones = torch.ones((), device=device).expand(inputs.q.shape)
    expected = attend(dataclasses.replace(inputs, grad_out=ones.contiguous()))
    assert same_bits(attend(dataclasses.replace(inputs, grad_out=ones)), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_neighbours_change_no_bit(device, dtype):
    # The mean length of a batch chooses the tiles of forward and dq.
    inputs = make_qkv([66, 540], device=device, dtype=dtype, head_dim=16, num_heads=1)
    assert 66 < tiles.SHORT_MEAN_LENGTH < 303
    assert inputs.grad_lse is not None
    alone = dataclasses.replace(
        inputs,
        **{name: getattr(inputs, name)[:66] for name in ("q", "k", "v", "grad_out")},
        **{f"cu_seqlens_{side}": cu_seqlens_of([66], device=device) for side in "qk"},
        grad_lse=inputs.grad_lse[:, :66],
    )
    both = attend(inputs)
    expected = AttentionResults(both.out[:66], both.lse[:, :66], both.dq[:66], both.dk[:66], both.dv[:66])
    assert same_bits(attend(alone), expected)


def attend_masked(
    q: Tensor, k: Tensor, v: Tensor, keep: Tensor, grad_out: Tensor, grad_lse: Tensor, scale: float
) -> AttentionResults:
    out, lse = launch.masked_attention(q, k, v, keep, scale)
    return AttentionResults(
        out, lse, *launch.masked_attention_backward(grad_out, grad_lse, q, k, v, keep, out, lse, scale)
    )


@pytest.mark.parametrize(
    ("layout", "dtype"),
    zip(
        ["by_head", "by_token", "by_token_in_one_tensor"],
        [torch.float16, torch.float32, torch.bfloat16],
        strict=True,
    ),
)
def test_masked_attention_gives_the_bits_of_packed_tokens(device, layout, dtype):
    share = torch.tensor([0.3, 0.95, 0.0, 1.0, 0.01])
    keep = (torch.rand(5, 140, generator=torch.Generator().manual_seed(0)) < share[:, None]).to(device)
    inputs = make_qkv([keep.numel()], num_heads=2, num_kv_heads=1, head_dim=24, dtype=dtype, device=device)

    def pad(x: Tensor) -> Tensor:
        """(T, heads, D) -> (B, heads, N, D) in the layout asked for, NaN where not kept."""
        x = x.unflatten(0, keep.shape).masked_fill(~keep[:, :, None, None], torch.nan)
        if layout == "by_token_in_one_tensor":
            x = torch.cat((x, x), 2)[:, :, : x.shape[2]]
        return x.transpose(1, 2).contiguous() if layout == "by_head" else x.transpose(1, 2)

    assert inputs.grad_lse is not None
    grad_lse = inputs.grad_lse.unflatten(1, keep.shape).transpose(0, 1)
    padded = [pad(x) for x in (inputs.q, inputs.k, inputs.v)]
    results = attend_masked(
        *padded, keep, pad(inputs.grad_out), grad_lse.masked_fill(~keep[:, None], torch.nan), inputs.scale
    )

    kept = keep.flatten()
    offsets = cu_seqlens_of(keep.sum(1).tolist(), device=device)
    packed = {name: getattr(inputs, name)[kept] for name in ("q", "k", "v", "grad_out")}
    expected = attend(
        dataclasses.replace(
            inputs, **packed, cu_seqlens_q=offsets, cu_seqlens_k=offsets, grad_lse=inputs.grad_lse[:, kept]
        )
    )
    for name in ("out", "dq", "dk", "dv"):
        by_token = getattr(results, name).transpose(1, 2)
        assert torch.equal(by_token[keep], getattr(expected, name)), name
        assert not by_token[~keep].any(), name
    by_token = results.lse.transpose(1, 2)
    assert torch.equal(by_token[keep].T, expected.lse)
    assert (by_token[~keep] == -torch.inf).all()


@pytest.mark.parametrize("shape", [(0, 5), (2, 0), (2, 3)], ids=str)
def test_masked_attention_of_nothing(device, shape):
    q = torch.full((shape[0], 2, shape[1], 16), torch.nan, device=device)
    keep = torch.zeros(shape, dtype=torch.bool, device=device)
    lse = torch.zeros(q.shape[:3], device=device)
    results = attend_masked(q, q, q, keep, q, lse, 1.0)
    assert not any(getattr(results, name).any() for name in ("out", "dq", "dk", "dv"))
    assert (results.lse == -torch.inf).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_permuted_sequences_permute_results(device, dtype):
    lengths = [*random_lengths(5, 0, 140, seed=3), 0]
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(0)).tolist()
    inputs = make_qkv(lengths, device=device, dtype=dtype, head_dim=16, num_heads=1)
    rows = torch.cat([torch.arange(len(inputs.q), device=device)[inputs.sequences()[i][0]] for i in order])
    assert inputs.grad_lse is not None
    permuted = AttentionInputs(
        q=inputs.q[rows],
        k=inputs.k[rows],
        v=inputs.v[rows],
        cu_seqlens_q=cu_seqlens_of([lengths[i] for i in order], device=device),
        cu_seqlens_k=cu_seqlens_of([lengths[i] for i in order], device=device),
        scale=inputs.scale,
        grad_out=inputs.grad_out[rows],
        grad_lse=inputs.grad_lse[:, rows],
    )
    results = attend(inputs)
    expected = AttentionResults(
        results.out[rows], results.lse[:, rows], results.dq[rows], results.dk[rows], results.dv[rows]
    )
    assert same_bits(attend(permuted), expected)


@pytest.mark.parametrize(
    "offsets",
    [[0, 30, 90], [0, -5, 2**40], [0, 50, 20], [7, 20, 40], [-9, -9, -9], [90, 0, 90], [2**40, 2**41, 3]],
    ids=str,
)
def test_wrong_offsets_stay_inside(device, offsets):
    # Under the interpreter an access outside the tensors fails (interpreter.py); on a GPU it would be an
    # illegal address, if far enough.
    inputs = make_qkv([40], device=device, head_dim=16)
    wrong = torch.tensor(offsets, device=device)
    results = attend(dataclasses.replace(inputs, cu_seqlens_q=wrong, cu_seqlens_k=wrong))
    assert results.dq.cpu().shape == inputs.q.shape
    _, _, dqkv = attend_packed(
        torch.stack((inputs.q, inputs.k, inputs.v), 1), dataclasses.replace(inputs, cu_seqlens_q=wrong)
    )
    assert dqkv.cpu().shape == (40, 3, 2, 16)


def test_an_access_outside_is_noticed(device):
    if device.type == "cuda":
        pytest.skip("only the interpreter is fenced")
    inputs = make_qkv([40], device=device, head_dim=16)
    with pytest.raises(InterpreterError, match="outside every tensor"):
        launch.varlen_attention(
            inputs.q, inputs.k, inputs.v[:, :1].contiguous(), inputs.cu_seqlens_q, inputs.cu_seqlens_k, 1.0
        )
