"""Other ways of computing the same attention on a CPU; the libraries are used where they happen to be installed.

- `torch_nested`: SDPA on jagged nested tensors; `torch_flex`: compiled FlexAttention on the packed batch with a document mask;
- `zentorch_split`: AMD's extension of torch, one call per sequence; `vllm`: vLLM's packed attention with a paged key-value cache;
- `openvino_split`, `openvino_padded`: its ScaledDotProductAttention, once per sequence or on the padded batch with a key mask;
- `onnxruntime_split`, `onnxruntime_padded`: its MultiHeadAttention, once per sequence or on the padded batch with key_padding_mask;
- `jax_padded`: jax.nn.dot_product_attention with key_value_seq_lengths on the padded batch.

Each is called as in its documentation, on its own tensors in its favourite layout. A way that cannot do what is asked raises.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.attention.problem import NUM_HEADS, Problem, Way, torch_way
from benchmarks.measure.timing import best_of


def torch_nested(problem: Problem) -> Way:
    """Jagged (B, n*, H, D) q, k and v, each contiguous, which this SDPA demands."""
    offsets = problem.cu_seqlens.long()
    shortest, longest = min(problem.lengths), max(problem.lengths)

    def jagged(rows: torch.Tensor) -> torch.Tensor:
        return torch.nested.nested_tensor_from_jagged(rows.contiguous(), offsets, min_seqlen=shortest, max_seqlen=longest).transpose(1, 2)

    def attend(qkv: torch.Tensor) -> torch.Tensor:
        q, k, v = (jagged(rows) for rows in qkv.unbind(1))
        return scaled_dot_product_attention(q, k, v).transpose(1, 2).values()

    return torch_way(attend, problem.qkv, problem.grad)


@functools.cache
def compiled_flex(dtype: torch.dtype, head_dim: int, num_threads: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    torch.compiler.reset()  # Dynamo stops compiling a function anew after eight variants
    return torch.compile(create_block_mask, dynamic=True), torch.compile(flex_attention, dynamic=True)


def torch_flex(problem: Problem) -> Way:
    """q, k, v (1, H, T, D), a query and a key belong together if their sequences are the same; no backward pass on a CPU."""
    sequence = torch.repeat_interleave(torch.tensor(problem.lengths))
    total, _, _, head_dim = problem.qkv.shape
    q, k, v = problem.qkv.permute(1, 2, 0, 3).unsqueeze(1)
    create_mask, flex = compiled_flex(problem.qkv.dtype, head_dim, torch.get_num_threads())

    def make_mask():
        return create_mask(lambda b, h, query, key: sequence[query] == sequence[key], None, None, total, total, device="cpu")

    block_mask = make_mask()
    mask_seconds = best_of({"mask": make_mask}, rounds=3)["mask"]
    return Way(
        lambda: flex(q, k, v, block_mask=block_mask), None, lambda out: out[0].transpose(0, 1), f"block mask {mask_seconds * 1e3:.0f} ms"
    )


def zentorch_split(problem: Problem) -> Way:
    """Like `sdpa_split`; no backward pass."""
    import zentorch  # noqa: F401

    def forward() -> torch.Tensor:
        outs = []
        for part in problem.qkv.split(problem.lengths):
            q, k, v = part.permute(1, 2, 0, 3).unsqueeze(1)
            outs.append(torch.ops.zentorch.zentorch_sdpa(q, k, v)[0][0].transpose(0, 1))
        return torch.cat(outs)

    return Way(forward, None, lambda out: out)


@functools.cache
def _load_vllm() -> None:
    # The library holds all that is needed; importing vLLM would start its whole serving engine.
    spec = find_spec("vllm")
    assert spec is not None and spec.submodule_search_locations
    supports_bf16 = torch.cpu._is_avx512_bf16_supported()
    name = "_C" if supports_bf16 else "_C_AVX512" if torch.cpu._is_avx512_supported() else "_C_AVX2"
    torch.ops.load_library(Path(spec.submodule_search_locations[0]) / f"{name}.abi3.so")


def vllm(problem: Problem) -> Way:
    """Keys and values are written into blocks of a cache, then read by the packed queries, as vLLM does in encoders; no backward pass."""
    _load_vllm()
    block = 128
    head_dim, dtype = problem.qkv.shape[3], problem.qkv.dtype
    isa = "amx" if dtype == torch.bfloat16 and torch.cpu._is_amx_tile_supported() else "vec"
    lengths = torch.tensor(problem.lengths, dtype=torch.int32)
    num_blocks = (lengths + block - 1) // block
    first_block = num_blocks.cumsum(0) - num_blocks
    block_table = (first_block[:, None] + torch.arange(int(num_blocks.max()))).to(torch.int32)
    slots = torch.cat([start * block + torch.arange(n) for start, n in zip(first_block.tolist(), problem.lengths, strict=True)])
    cache = problem.qkv.new_zeros(int(num_blocks.sum()), NUM_HEADS, 2 * block, head_dim)
    key_cache, value_cache = cache.chunk(2, dim=2)
    plan = torch.ops._C.get_scheduler_metadata(
        len(lengths), NUM_HEADS, NUM_HEADS, head_dim, lengths, dtype, problem.cu_seqlens, False, -1, isa, True, None
    )

    def forward() -> torch.Tensor:
        q, k, v = problem.qkv.unbind(1)
        out = torch.empty_like(problem.grad)
        torch.ops._C.cpu_attn_reshape_and_cache(k, v, key_cache, value_cache, slots, isa)
        torch.ops._C.cpu_attention_with_kv_cache(
            q, key_cache, value_cache, out, problem.cu_seqlens, lengths, head_dim**-0.5, False, None, -1, block_table, 0.0, plan, None, None
        )
        return out

    return Way(forward, None, lambda out: out)


def _openvino(problem: Problem, *, padded: bool) -> Way:
    """q, k, v (B, H, N, D); no backward pass."""
    import openvino
    from openvino import opset13

    element = {torch.float32: openvino.Type.f32, torch.bfloat16: openvino.Type.bf16, torch.float16: openvino.Type.f16}[problem.qkv.dtype]
    inputs = [opset13.parameter([-1, NUM_HEADS, -1, problem.qkv.shape[3]], element) for _ in range(3)]
    mask = [opset13.parameter([-1, 1, 1, -1], openvino.Type.boolean)] if padded else []
    attention = opset13.scaled_dot_product_attention(*inputs, *mask, causal=False)
    precision = element if element == openvino.Type.bf16 else openvino.Type.f32  # float16 asked for is bfloat16 computed
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.Core().compile_model(openvino.Model([attention], [*inputs, *mask]), "CPU", settings)

    def to_openvino(x: torch.Tensor):
        x = x.contiguous()
        return openvino.Tensor((x.view(torch.int16) if x.dtype == torch.bfloat16 else x).numpy(), list(x.shape), element)

    batches = [problem.pad(problem.qkv)] if padded else [part[None] for part in problem.qkv.split(problem.lengths)]
    feeds = [[to_openvino(x.transpose(1, 2)) for x in batch.unbind(2)] for batch in batches]
    if padded:
        feeds[0].append(openvino.Tensor(problem.keep[:, None, None, :].numpy()))
    requests = [model.create_infer_request() for _ in feeds]  # one each, as a request's next call overwrites its output

    def forward() -> list[torch.Tensor]:
        for request, feed in zip(requests, feeds, strict=True):
            request.infer(feed, share_inputs=True, share_outputs=True)
        return [torch.from_numpy(request.get_output_tensor(0).data).view(problem.qkv.dtype) for request in requests]

    return Way(forward, None, functools.partial(_join, problem, padded))


def _onnxruntime(problem: Problem, *, padded: bool) -> Way:
    """q, k, v (B, N, H D); no backward pass."""
    import onnxruntime
    from onnx import TensorProto, helper

    element = {torch.float32: TensorProto.FLOAT, torch.bfloat16: TensorProto.BFLOAT16, torch.float16: TensorProto.FLOAT16}[
        problem.qkv.dtype
    ]
    width = NUM_HEADS * problem.qkv.shape[3]
    inputs = [helper.make_tensor_value_info(name, element, ["B", "N", width]) for name in "qkv"]
    mask = [helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"])] if padded else []
    mask_names = ["", "lengths"] if padded else []
    node = helper.make_node("MultiHeadAttention", ["q", "k", "v", *mask_names], ["out"], domain="com.microsoft", num_heads=NUM_HEADS)
    graph = helper.make_graph([node], "attention", inputs + mask, [helper.make_tensor_value_info("out", element, ["B", "N", width])])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])

    batches = [problem.pad(problem.qkv)] if padded else [part[None] for part in problem.qkv.split(problem.lengths)]
    feeds = [dict(zip("qkv", (x.flatten(2).contiguous().numpy() for x in batch.unbind(2)), strict=True)) for batch in batches]
    if padded:
        feeds[0]["lengths"] = torch.tensor(problem.lengths, dtype=torch.int32).numpy()

    def forward() -> list[torch.Tensor]:
        outs = [torch.from_numpy(session.run(None, feed)[0]) for feed in feeds]
        return [out.unflatten(2, (NUM_HEADS, -1)).transpose(1, 2) for out in outs]

    return Way(forward, None, functools.partial(_join, problem, padded))


def _join(problem: Problem, padded: bool, outs: list[torch.Tensor]) -> torch.Tensor:
    """Outputs (B, H, N, D), one per sequence or one for all -> (T, H, D)."""
    rows = [out.transpose(1, 2) for out in outs]
    return problem.unpad(rows[0]) if padded else torch.cat([out[0] for out in rows])


def jax_padded(problem: Problem) -> Way:
    """Padded (B, N, 3, H, D)."""
    import jax

    if torch.get_num_threads() != os.cpu_count():
        raise RuntimeError(f"JAX computes on all {os.cpu_count()} cores, not on {torch.get_num_threads()}")
    lengths = jax.numpy.asarray(problem.lengths, dtype="int32")
    qkv, grad = (jax.dlpack.from_dlpack(problem.pad(x)) for x in (problem.qkv, problem.grad))

    def attend(qkv):
        q, k, v = (qkv[:, :, i] for i in range(3))
        return jax.nn.dot_product_attention(q, k, v, query_seq_lengths=lengths, key_value_seq_lengths=lengths)

    forward, forward_and_backward = jax.jit(attend), jax.jit(lambda qkv, grad: jax.vjp(attend, qkv)[1](grad)[0])
    return Way(
        lambda: forward(qkv).block_until_ready(),
        lambda: forward_and_backward(qkv, grad).block_until_ready(),
        lambda padded: problem.unpad(torch.from_dlpack(padded)),
    )


PEERS: dict[str, tuple[Callable[[Problem], Way], tuple[str, ...]]] = {
    "torch_nested": (torch_nested, ()),
    "torch_flex": (torch_flex, ()),
    "zentorch_split": (zentorch_split, ("zentorch",)),
    "vllm": (vllm, ("vllm",)),
    "openvino_split": (functools.partial(_openvino, padded=False), ("openvino",)),
    "openvino_padded": (functools.partial(_openvino, padded=True), ("openvino",)),
    "onnxruntime_split": (functools.partial(_onnxruntime, padded=False), ("onnxruntime", "onnx")),
    "onnxruntime_padded": (functools.partial(_onnxruntime, padded=True), ("onnxruntime", "onnx")),
    "jax_padded": (jax_padded, ("jax",)),  # last, as importing OpenVINO forks, which is not safe beside JAX's threads
}
"""Ways by name, each with the modules that it imports."""


def installed_peers() -> tuple[dict[str, Callable[[Problem], Way]], dict[str, str]]:
    """The ways that can be tried here, and for every other the module that is missing."""
    missing = {name: next((module for module in modules if find_spec(module) is None), "") for name, (_, modules) in PEERS.items()}
    return {name: PEERS[name][0] for name in PEERS if not missing[name]}, {name: module for name, module in missing.items() if module}
