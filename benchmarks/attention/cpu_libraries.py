"""Libraries that compute such attention on a CPU; each is imported when it is used. Only JAX has a backward
pass.

- `zentorch_split`: AMD's extension of torch, one call per sequence;
- `vllm`: vLLM's packed attention with a paged key-value cache;
- `openvino`: its ScaledDotProductAttention, once per sequence or on the padded batch with a key mask;
- `onnxruntime`: its MultiHeadAttention, once per sequence or on the padded batch with key_padding_mask;
- `jax_padded`: jax.nn.dot_product_attention with key_value_seq_lengths on the padded batch.
"""

# pyright: reportMissingImports=false

import functools
import os
from importlib.util import find_spec
from pathlib import Path

import torch

from benchmarks.attention.problem import NUM_HEADS, Problem, Way


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
    """As in vLLM's encoders: keys and values go into blocks of a cache, which packed queries read."""
    _load_vllm()
    block = 128
    head_dim, dtype = problem.qkv.shape[3], problem.qkv.dtype
    isa = "amx" if dtype == torch.bfloat16 and torch.cpu._is_amx_tile_supported() else "vec"
    lengths = torch.tensor(problem.lengths, dtype=torch.int32)
    num_blocks = (lengths + block - 1) // block
    first_block = num_blocks.cumsum(0) - num_blocks
    block_table = (first_block[:, None] + torch.arange(int(num_blocks.max()))).to(torch.int32)
    slots = torch.cat(
        [
            start * block + torch.arange(n)
            for start, n in zip(first_block.tolist(), problem.lengths, strict=True)
        ]
    )
    cache = problem.qkv.new_zeros(int(num_blocks.sum()), NUM_HEADS, 2 * block, head_dim)
    key_cache, value_cache = cache.chunk(2, dim=2)
    plan = torch.ops._C.get_scheduler_metadata(
        len(lengths),
        NUM_HEADS,
        NUM_HEADS,
        head_dim,
        lengths,
        dtype,
        problem.cu_seqlens,
        False,
        -1,
        isa,
        True,
        None,
    )

    def forward() -> torch.Tensor:
        q, k, v = problem.qkv.unbind(1)
        out = torch.empty_like(problem.grad)
        torch.ops._C.cpu_attn_reshape_and_cache(k, v, key_cache, value_cache, slots, isa)
        torch.ops._C.cpu_attention_with_kv_cache(
            q,
            key_cache,
            value_cache,
            out,
            problem.cu_seqlens,
            lengths,
            head_dim**-0.5,
            False,
            None,
            -1,
            block_table,
            0.0,
            plan,
            None,
            None,
        )
        return out

    return Way(forward, None, lambda out: out)


def openvino(problem: Problem, *, padded: bool) -> Way:
    """q, k, v (B, H, N, D); no backward pass."""
    import openvino as ov
    from openvino import opset13

    elements = {torch.float32: ov.Type.f32, torch.bfloat16: ov.Type.bf16, torch.float16: ov.Type.f16}
    element = elements[problem.qkv.dtype]
    inputs = [opset13.parameter([-1, NUM_HEADS, -1, problem.qkv.shape[3]], element) for _ in range(3)]
    mask = [opset13.parameter([-1, 1, 1, -1], ov.Type.boolean)] if padded else []
    attention = opset13.scaled_dot_product_attention(*inputs, *mask, causal=False)
    precision = element if element == ov.Type.bf16 else ov.Type.f32  # float16 asked for is bfloat16 computed
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = ov.Core().compile_model(ov.Model([attention], [*inputs, *mask]), "CPU", settings)

    def toopenvino(x: torch.Tensor):
        x = x.contiguous()
        return ov.Tensor(
            (x.view(torch.int16) if x.dtype == torch.bfloat16 else x).numpy(), list(x.shape), element
        )

    feeds = [[toopenvino(x.transpose(1, 2)) for x in batch.unbind(2)] for batch in _batches(problem, padded)]
    if padded:
        feeds[0].append(ov.Tensor(problem.keep[:, None, None, :].numpy()))
    # One each, as a request's next call overwrites its output.
    requests = [model.create_infer_request() for _ in feeds]

    def forward() -> list[torch.Tensor]:
        for request, feed in zip(requests, feeds, strict=True):
            request.infer(feed, share_inputs=True, share_outputs=True)
        return [
            torch.from_numpy(request.get_output_tensor(0).data).view(problem.qkv.dtype)
            for request in requests
        ]

    return Way(forward, None, functools.partial(_join, problem, padded))


def onnxruntime(problem: Problem, *, padded: bool) -> Way:
    """q, k, v (B, N, H D); no backward pass."""
    import onnxruntime as ort
    from onnx import TensorProto, helper

    elements = {
        torch.float32: TensorProto.FLOAT,
        torch.bfloat16: TensorProto.BFLOAT16,
        torch.float16: TensorProto.FLOAT16,
    }
    element = elements[problem.qkv.dtype]
    width = NUM_HEADS * problem.qkv.shape[3]
    inputs = [helper.make_tensor_value_info(name, element, ["B", "N", width]) for name in "qkv"]
    mask = [helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"])] if padded else []
    mask_names = ["", "lengths"] if padded else []
    node = helper.make_node(
        "MultiHeadAttention",
        ["q", "k", "v", *mask_names],
        ["out"],
        domain="com.microsoft",
        num_heads=NUM_HEADS,
    )
    graph = helper.make_graph(
        [node], "attention", inputs + mask, [helper.make_tensor_value_info("out", element, ["B", "N", width])]
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    session = ort.InferenceSession(model, settings, providers=["CPUExecutionProvider"])

    feeds = [
        dict(zip("qkv", (x.flatten(2).contiguous().numpy() for x in batch.unbind(2)), strict=True))
        for batch in _batches(problem, padded)
    ]
    if padded:
        feeds[0]["lengths"] = torch.tensor(problem.lengths, dtype=torch.int32).numpy()

    def forward() -> list[torch.Tensor]:
        outs = [torch.from_numpy(session.run(None, feed)[0]) for feed in feeds]
        return [out.unflatten(2, (NUM_HEADS, -1)).transpose(1, 2) for out in outs]

    return Way(forward, None, functools.partial(_join, problem, padded))


def _batches(problem: Problem, padded: bool) -> list[torch.Tensor]:
    """qkv (B, N, 3, H, D), one for all sequences or one per sequence."""
    if padded:
        return [problem.pad(problem.qkv)]
    return [part[None] for part in problem.qkv.split(problem.lengths)]


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

    forward = jax.jit(attend)
    forward_and_backward = jax.jit(lambda qkv, grad: jax.vjp(attend, qkv)[1](grad)[0])
    return Way(
        lambda: forward(qkv).block_until_ready(),
        lambda: forward_and_backward(qkv, grad).block_until_ready(),
        lambda padded: problem.unpad(torch.from_dlpack(padded)),
    )
