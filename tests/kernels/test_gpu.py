"""What only a GPU can show, through the public functions; skipped where torch finds none.

Realistic lengths, neighbours, tensors past 2**31 elements and repeated runs.
"""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.functional import scaled_dot_product_attention

from lsm2_kernels import Packing, masked_attention, pack, unpack, varlen_attention, varlen_attention_qkvpacked
from lsm2_kernels.testing import (
    AttentionInputs,
    AttentionResults,
    assert_accurate,
    assert_attention_accurate,
    cu_seqlens_of,
    make_qkv,
    random_lengths,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use"),
]

GPU = torch.device("cuda")
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
LENGTHS = {
    "days": [0, 1, 63, 64, 65, 150, 333, 700, 1021, 1500],
    "short": [0, 1, 63, 64, 65, 129, *random_lengths(150, 2, 130)],
}


def attend(inputs: AttentionInputs) -> AttentionResults:
    q, k, v = (x.detach().requires_grad_() for x in (inputs.q, inputs.k, inputs.v))
    out, lse = varlen_attention(
        q, k, v, inputs.cu_seqlens_q, inputs.cu_seqlens_k, scale=inputs.scale, return_lse=True
    )
    grads = torch.autograd.grad((out, lse), (q, k, v), (inputs.grad_out, inputs.grad_lse))
    return AttentionResults(out.detach(), lse.detach(), *grads)


def names_of_different(a: AttentionResults, b: AttentionResults) -> list[str]:
    return [
        field.name
        for field in dataclasses.fields(a)
        if not torch.equal(getattr(a, field.name), getattr(b, field.name))
    ]


def one_sequence(length: int, seed: int, **options) -> AttentionInputs:
    return make_qkv([length], seed=seed, device=GPU, **options)


def attend_together(sequences: list[AttentionInputs]) -> list[AttentionResults]:
    """The results of each sequence, all computed in one batch."""
    lengths = [len(sequence.q) for sequence in sequences]
    rows = {
        name: torch.cat([getattr(sequence, name) for sequence in sequences])
        for name in ("q", "k", "v", "grad_out")
    }
    offsets = cu_seqlens_of(lengths, device=GPU)
    grad_lse = torch.cat(
        [sequence.grad_lse for sequence in sequences if sequence.grad_lse is not None], dim=1
    )
    batch = AttentionInputs(
        **rows, cu_seqlens_q=offsets, cu_seqlens_k=offsets, scale=sequences[0].scale, grad_lse=grad_lse
    )
    results = attend(batch)
    split = {
        name: getattr(results, name).split(lengths, dim=1 if name == "lse" else 0)
        for name in ("out", "lse", "dq", "dk", "dv")
    }
    return [
        AttentionResults(*(split[name][i] for name in ("out", "lse", "dq", "dk", "dv")))
        for i in range(len(lengths))
    ]


def skip_unless_free(num_bytes: int) -> None:
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    if free < num_bytes:
        pytest.skip(f"needs {num_bytes / 2**30:.0f} GiB of GPU memory; {free / 2**30:.0f} GiB are free")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("head_dim", [32, 64, 128, 8, 24, 72, 80, 96, 256])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_accuracy(lengths, head_dim, dtype):
    inputs = make_qkv(
        LENGTHS[lengths],
        num_heads=2 if head_dim <= 64 else 1,
        head_dim=head_dim,
        dtype=dtype,
        device=GPU,
        tail=70,
    )
    assert_attention_accurate(inputs, attend(inputs))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_accuracy_of_grouped_heads(dtype):
    inputs = make_qkv(LENGTHS["days"], num_heads=4, num_kv_heads=2, head_dim=32, dtype=dtype, device=GPU)
    assert_attention_accurate(inputs, attend(inputs))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("head_dim", [32, 64, 128])
def test_neighbours_do_not_change_a_bit(head_dim, dtype):
    """A sequence alone, among many short and few long ones: other mean lengths and tiles, the same bits."""
    options = {"head_dim": head_dim, "dtype": dtype}
    targets = [
        one_sequence(length, seed, **options)
        for seed, length in enumerate([1, 63, 64, 65, 127, 130, 700, 1500])
    ]
    alone = [attend_together([target])[0] for target in targets]
    for neighbour_lengths in ([29] * 40, [3001]):
        neighbours = [
            one_sequence(length, seed, **options) for seed, length in enumerate(neighbour_lengths, start=100)
        ]
        stride = len(neighbours) + 1
        together = attend_together([sequence for target in targets for sequence in (*neighbours, target)])
        for target, expected, actual in zip(targets, alone, together[stride - 1 :: stride], strict=True):
            different = names_of_different(actual, expected)
            assert not different, (
                f"{different} of {len(target.q)} tokens changed among {neighbour_lengths[0]}-token sequences"
            )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("low, high", [(0, 130), (150, 1500), (0, 1500)])
def test_permuted_sequences_give_permuted_bits(low, high, dtype):
    lengths = random_lengths(40, low, high, seed=1)
    sequences = [one_sequence(length, seed, head_dim=64, dtype=dtype) for seed, length in enumerate(lengths)]
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(0)).tolist()
    expected = attend_together(sequences)
    for i, actual in zip(order, attend_together([sequences[i] for i in order]), strict=True):
        assert not names_of_different(actual, expected[i])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_a_hundred_runs_give_the_same_bits(lengths, dtype):
    inputs = make_qkv(LENGTHS[lengths] * 3, head_dim=64, dtype=dtype, device=GPU)
    expected = attend(inputs)
    for run in range(100):
        assert not names_of_different(attend(inputs), expected), run


def test_more_than_2_to_31_elements():
    """q, k, v, out and gradients exceed that; the last sequences, whose offsets need 64 bits, are checked."""
    num_heads, head_dim = 8, 128
    lengths = [1000] * (2**31 // (1000 * num_heads * head_dim) + 2) + [1, 65, 700, 0, 129]
    skip_unless_free(9 * 2 * sum(lengths) * num_heads * head_dim)
    x = torch.randn(sum(lengths), num_heads, head_dim, device=GPU, dtype=torch.bfloat16)
    assert x.numel() > 2**31
    cu_seqlens = cu_seqlens_of(lengths, device=GPU)
    grad_lse = torch.randn(num_heads, len(x), device=GPU)
    results = attend(AttentionInputs(x, x, x, cu_seqlens, cu_seqlens, head_dim**-0.5, x, grad_lse))
    last = sum(lengths[-6:])
    few = cu_seqlens_of(lengths[-6:], device=GPU)
    inputs = AttentionInputs(
        x[-last:], x[-last:], x[-last:], few, few, head_dim**-0.5, x[-last:], grad_lse[:, -last:].contiguous()
    )
    rows = {name: getattr(results, name)[-last:] for name in ("out", "dq", "dk", "dv")}
    assert_attention_accurate(inputs, AttentionResults(lse=results.lse[:, -last:], **rows))


def test_qkvpacked_of_more_than_2_to_31_elements():
    num_heads, head_dim = 2, 64
    lengths = [2000] * (2**31 // (2000 * 3 * num_heads * head_dim) + 2) + [65, 700, 1]
    skip_unless_free(10 * sum(lengths) * 3 * num_heads * head_dim)
    qkv = torch.randn(sum(lengths), 3, num_heads, head_dim, device=GPU, dtype=torch.bfloat16).requires_grad_()
    assert qkv.numel() > 2**31
    out = varlen_attention_qkvpacked(qkv, cu_seqlens_of(lengths, device=GPU))
    (grad,) = torch.autograd.grad(out, qkv, torch.ones((), device=GPU, dtype=out.dtype).expand_as(out))
    last = sum(lengths[-4:])
    few = qkv.detach()[-last:].clone().requires_grad_()
    expected = varlen_attention_qkvpacked(few, cu_seqlens_of(lengths[-4:], device=GPU))
    assert out[-last:].equal(expected)
    assert grad[-last:].equal(torch.autograd.grad(expected, few, torch.ones_like(expected))[0])


def test_packing_of_more_than_2_to_31_elements():
    batch_size, seq_len, width = 450, 3744, 1280
    skip_unless_free(5 * batch_size * seq_len * width)
    x = torch.randint(-128, 128, (batch_size, seq_len, width), device=GPU, dtype=torch.int8)
    assert x.numel() > 2**31
    keep = torch.rand(batch_size, seq_len, device=GPU) < 0.9
    packing = Packing.from_mask(keep)
    packed = pack(x, packing)
    last = int(keep[-1].sum())
    assert packed[-last:].equal(x[-1][keep[-1]]) and packed[:100].equal(x[0][keep[0]][:100])
    back = unpack(packed, packing)
    for day in (0, batch_size // 2, -1):
        assert back[day].equal(x[day] * keep[day, :, None])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_masked_attention_is_sdpa_on_kept_tokens(share, dtype):
    """The accuracy rule, with SDPA in float64 as the truth and SDPA in the same dtype as the yardstick."""
    torch.manual_seed(0)
    keep = torch.rand(4, 1440, device=GPU) < share
    keep[:, 0] = True  # SDPA gives NaN where no key is left
    q, k, v, grad = torch.randn(4, 4, 1440, 2, 64, device=GPU, dtype=dtype).transpose(2, 3).unbind(0)
    grad = grad * keep[:, None, :, None]

    def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (
            scaled_dot_product_attention(q, k, v, attn_mask=keep[:, None, None, :]) * keep[:, None, :, None]
        )

    def results_and_gradients(attention: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        leaves = [x.detach().to(dtype).requires_grad_() for x in (q, k, v)]
        out = attention(*leaves)
        return [out.detach(), *torch.autograd.grad(out, leaves, grad.to(dtype))]

    ours = results_and_gradients(lambda q, k, v: masked_attention(q, k, v, keep), dtype)
    plain, exact = results_and_gradients(sdpa, dtype), results_and_gradients(sdpa, torch.float64)
    for name, *three in zip(("out", "dq", "dk", "dv"), ours, plain, exact, strict=True):
        assert_accurate(name, *three)


def test_compiles_once_for_realistic_lengths():
    """Projections in generated code on both sides, under autocast; test_compile has the small cases."""
    torch.manual_seed(0)
    into, out_of = (torch.nn.Linear(*sizes, device=GPU) for sizes in ((192, 3 * 3 * 64), (3 * 64, 192)))

    def block(tokens: Tensor, cu_seqlens: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            qkv = into(tokens).unflatten(-1, (3, 3, 64))
            return tokens + out_of(varlen_attention_qkvpacked(qkv, cu_seqlens).flatten(1))

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("inductor")
    compiled = torch.compile(block, fullgraph=True, dynamic=True, backend=counter)
    for seed in range(3):
        lengths = random_lengths(7 + seed, 150, 1500, seed=seed)
        tokens, cu_seqlens = torch.randn(sum(lengths), 192, device=GPU), cu_seqlens_of(lengths, device=GPU)
        parameters = [*into.parameters(), *out_of.parameters()]
        actual, expected = compiled(tokens, cu_seqlens), block(tokens, cu_seqlens)
        torch.testing.assert_close(actual, expected, rtol=2e-2, atol=2e-2)
        for one, other in zip(
            *(torch.autograd.grad(x.square().mean(), parameters) for x in (actual, expected)), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=5e-2, atol=5e-2 * other.abs().max().item())
    assert counter.frame_count == 1
