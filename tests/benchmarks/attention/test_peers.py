"""The table of peers: every one gives what ours does or is left out with its error, those of packages that
are not here too, and benchmarks/README.md names them all.
"""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
import torch

from benchmarks.attention.peers import BASIC, PEERS, load_peers
from benchmarks.attention.problem import Problem, Way, enter, ours
from lsm2_kernels import varlen_attention

PAGE = (Path(__file__).parents[3] / "benchmarks" / "README.md").read_text(encoding="utf-8")
SDPA_PEERS = {name: PEERS[name].make for name in ("sdpa_split", "sdpa_padded")}


@pytest.mark.parametrize("sizes", [[20, 7, 33], [16, 16]], ids=["different", "equal"])
def test_a_wrong_peer_is_left_out_with_its_error(sizes):
    problem = Problem.random(sizes, 16, torch.float32)

    def wrong(problem: Problem) -> Way:
        way = PEERS["sdpa_split"].make(problem)
        return Way(lambda: 1.01 * way.forward(), way.forward_and_backward, way.to_packed)

    def broken(problem: Problem) -> Way:
        raise RuntimeError("no kernel")

    makers = SDPA_PEERS | {"wrong": wrong, "broken": broken}
    peers, errors = enter(makers, problem, ours(problem), backward=False)
    assert list(peers) == ["sdpa_split", "sdpa_padded"]
    assert errors["broken"] == "RuntimeError: no kernel" and errors["wrong"].startswith("AssertionError")


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", ["sdpa_split", "sdpa_padded", "torch_nested", "sdpa_math"])
def test_torchs_ways_give_what_ours_does(name, backward):
    equal = Problem.random([16, 16], 16, torch.float32)
    different = Problem.random([20, 7, 33], 16, torch.float32)
    for problem in (equal, different):
        peers, errors = enter({name: PEERS[name].make}, problem, ours(problem), backward=backward)
        assert errors == {}
        assert list(peers) == ([] if name == "sdpa_math" and problem is different else [name])


def test_packages_that_are_not_here_get_packed_rows(monkeypatch):
    """FlashAttention-3 and TransformerEngine need a GPU; stand-ins have their signature, and compute with
    ours.
    """

    def flash_attn_varlen_func(
        q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, softmax_scale=None, causal=False
    ):
        assert (max_seqlen_q, max_seqlen_k, causal) == (33, 33, False)
        return varlen_attention(q, k, v, cu_seqlens_q, cu_seqlens_k, return_lse=True)

    class DotProductAttention(torch.nn.Module):
        def __init__(
            self, num_attention_heads, kv_channels, *, attention_dropout, qkv_format, attn_mask_type
        ):
            super().__init__()
            assert (num_attention_heads, kv_channels, attention_dropout) == (6, 16, 0.0)
            assert (qkv_format, attn_mask_type) == ("thd", "padding")

        def forward(self, q, k, v, *, cu_seqlens_q, cu_seqlens_kv, max_seqlen_q, max_seqlen_kv):
            assert (max_seqlen_q, max_seqlen_kv) == (33, 33)
            return varlen_attention(q, k, v, cu_seqlens_q, cu_seqlens_kv).flatten(1)

    stand_ins = {
        "flash_attn_interface": flash_attn_varlen_func,
        "transformer_engine.pytorch": DotProductAttention,
    }
    for name, function in stand_ins.items():
        module = types.ModuleType(name)
        setattr(module, function.__name__, function)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "transformer_engine", types.ModuleType("transformer_engine"))
    problem = Problem.random([20, 7, 33], 16, torch.float32)
    for name in ("flash_attn_3", "transformer_engine"):
        for backward in (False, True):
            peers, errors = enter({name: PEERS[name].make}, problem, ours(problem), backward=backward)
            assert list(peers) == [name], errors
    _, errors = enter({"flash_attn_4": PEERS["flash_attn_4"].make}, problem, ours(problem), backward=False)
    assert errors["flash_attn_4"].startswith("ModuleNotFoundError")


def test_the_table_tells_devices_and_missing_packages_apart():
    assert BASIC["cpu"] == ("sdpa_split", "sdpa_padded")
    assert {"torch_varlen", "sdpa_padded", "torch_nested", "torch_flex"} <= set(BASIC["cuda"])
    assert not set(BASIC["cuda"]) & {"sdpa_split", "vllm", "jax_padded"}
    assert PEERS["sdpa_padded"].missing is None and PEERS["torch_nested"].devices == ("cpu", "cuda")
    assert PEERS["vllm"].missing in (None, "vllm")


def test_the_page_says_how_every_peer_is_called():
    section = PAGE.split("## How the peers are called")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", section))
    unnamed = [
        name for name in PEERS if not any(name == each or name.startswith(f"{each}_") for each in named)
    ]
    assert not unnamed


def test_what_is_no_file_of_peers_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"absent\.py is no Python file"):
        load_peers(tmp_path / "absent.py")
    (tmp_path / "empty.py").write_text("X = 1\n")
    with pytest.raises(SystemExit, match=r"empty\.py defines no function"):
        load_peers(tmp_path / "empty.py")
