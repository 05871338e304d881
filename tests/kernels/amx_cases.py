"""Attention by the AMX kernels, against float64; test_amx.py runs this in its own process, emulated or not.

Usage: python amx_cases.py FOLDER_OF_THE_LIBRARY [INSTRUCTION_SET]; prints how many tile instructions were
emulated, case by case.
"""

import ctypes
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lsm2_kernels import _ops, varlen_attention, varlen_attention_qkvpacked
from lsm2_kernels.testing import AttentionInputs, AttentionResults, assert_attention_accurate, make_qkv

LENGTHS = [0, 1, 15, 16, 17, 33, 63, 64, 65, 130]
KEY_LENGTHS = [7, 130, 16, 0, 65, 1, 64, 31, 63, 17]
CASES: dict[str, dict[str, Any]] = {
    **{
        f"head_dim_{head_dim}": {"lengths_q": LENGTHS, "head_dim": head_dim, "num_heads": 1}
        for head_dim in (8, 32, 64, 72, 128)
    },
    "cross_with_grouped_heads": {
        "lengths_q": LENGTHS,
        "lengths_k": KEY_LENGTHS,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 64,
    },
    "cross_with_one_key_head": {
        "lengths_q": KEY_LENGTHS,
        "lengths_k": LENGTHS,
        "num_heads": 3,
        "num_kv_heads": 1,
        "head_dim": 40,
    },
    "largest_head_dim": {"lengths_q": [17, 65], "head_dim": 256},
    "without_grad_lse": {"lengths_q": [33, 100], "head_dim": 64, "with_grad_lse": False},
    "float16": {"lengths_q": [1, 70], "dtype": torch.float16},
    "float32": {"lengths_q": [1, 70], "dtype": torch.float32},
}


def attend(x: AttentionInputs) -> AttentionResults:
    q, k, v = (tensor.detach().requires_grad_() for tensor in (x.q, x.k, x.v))
    out, lse = varlen_attention(q, k, v, x.cu_seqlens_q, x.cu_seqlens_k, scale=x.scale, return_lse=True)
    results, grads = ([out], [x.grad_out]) if x.grad_lse is None else ([out, lse], [x.grad_out, x.grad_lse])
    return AttentionResults(out.detach(), lse.detach(), *torch.autograd.grad(results, (q, k, v), grads))


def attend_packed(x: AttentionInputs) -> AttentionResults:
    qkv = torch.stack([x.q, x.k, x.v], dim=1).requires_grad_()
    out, lse = varlen_attention_qkvpacked(qkv, x.cu_seqlens_q, scale=x.scale, return_lse=True)
    (grad,) = torch.autograd.grad((out, lse), qkv, (x.grad_out, x.grad_lse))
    return AttentionResults(out.detach(), lse.detach(), *grad.unbind(1))


def assert_same_bits(actual: AttentionResults, expected: AttentionResults) -> None:
    for name, value in vars(expected).items():
        assert torch.equal(getattr(actual, name), value), f"{name} differs"


def num_emulated() -> int:
    count = getattr(ctypes.CDLL(None), "amx_emulator_count", None)
    if count is None:
        return 0
    count.restype = ctypes.c_uint64
    return count()


def main(folder: str, instruction_set: str = "amx") -> None:
    assert _ops.cpu_library == Path(folder) / _ops.LIBRARY_NAME, (
        f"{_ops.cpu_library} was loaded {_ops.why_no_cpu_library}"
    )
    assert instruction_set in _ops.INSTRUCTION_SETS, f"{instruction_set} is none of {_ops.INSTRUCTION_SETS}"
    number = _ops.INSTRUCTION_SETS.index(instruction_set)
    torch.ops.lsm2_kernels._cpu_instruction_set(number)
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills new tensors with NaN
    before = num_emulated()
    for name, options in CASES.items():
        x = make_qkv(**{"dtype": torch.bfloat16, "tail": 2, **options})
        torch.set_num_threads(1)
        alone = attend(x)
        torch.set_num_threads(2)
        assert_same_bits(attend(x), alone)
        assert_attention_accurate(x, alone)
        print(f"{name}: {num_emulated() - before}")
        before = num_emulated()

    x = make_qkv([5, 70, 33], num_heads=3, head_dim=24, dtype=torch.bfloat16)
    expected = attend(x)
    assert_same_bits(attend_packed(x), expected)
    heads_first = {
        name: getattr(x, name).transpose(0, 1).contiguous().transpose(0, 1)
        for name in ("q", "k", "v", "grad_out")
    }
    assert_same_bits(attend(replace(x, **heads_first)), expected)
    print(num_emulated())


if __name__ == "__main__":
    main(*sys.argv[1:])
