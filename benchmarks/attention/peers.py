"""The other ways of computing packed attention: the one table of peers, on a CPU and on a GPU.

Each is called as its documentation says is fastest, on inputs in the layout it likes best, so that no copy is
charged to it. What must be computed for every new batch is `metadata`, timed apart. A way that cannot do what
is asked raises.

- `sdpa_split`: scaled_dot_product_attention once per sequence, the sequences cut by `qkv.split(lengths)`;
- `sdpa_padded`: one call on the batch padded to its longest sequence, with a broadcast (B, 1, 1, N) key mask
  where lengths differ; `_cudnn`: with cuDNN demanded;
- `torch_nested`: SDPA on jagged nested tensors, on a GPU FlashAttention-2; `_cudnn`: with cuDNN demanded;
- `torch_flex`: compiled FlexAttention on the packed batch with a document mask; no backward pass on a CPU;
- `torch_varlen`: torch.nn.attention.varlen.varlen_attn; `_fa3`, `_fa4`: with that implementation activated
  (torch has no public way to give varlen_attn to cuDNN);
- `sdpa_flash`, `sdpa_cudnn`, `sdpa_efficient`, `sdpa_math`: where all lengths are equal, one call without a
  mask, on that backend;
- the packages of cpu_libraries.py and gpu_libraries.py, where they are installed.
"""

import functools
import runpy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.attention import cpu_libraries, gpu_libraries
from benchmarks.attention.problem import NotApplicable, Problem, Way, torch_way


def sdpa_split(problem: Problem) -> Way:
    """Packed qkv (T, 3, H, D) -> out (T, H, D), one SDPA call per sequence."""

    def attend(qkv: Tensor) -> Tensor:
        outs = []
        for part in qkv.split(problem.lengths):
            q, k, v = part.permute(1, 2, 0, 3).unsqueeze(1)  # each (1, H, n, D)
            outs.append(scaled_dot_product_attention(q, k, v)[0].transpose(0, 1))
        return torch.cat(outs)

    return torch_way(attend, problem.qkv, problem.grad)


def sdpa_padded(problem: Problem, backend: SDPBackend | None = None) -> Way:
    """q, k, v (B, H, N, D); which tokens are there must be known to pad them, too."""
    key_mask = problem.key_mask() if len(set(problem.lengths)) > 1 else None
    *inputs, grad = problem.padded
    return torch_way(
        lambda q, k, v: _sdpa(backend, q, k, v, key_mask),
        inputs,
        grad,
        lambda x: problem.unpad(x.transpose(1, 2)),
        lambda: problem.key_mask().flatten().nonzero(),
    )


def sdpa_equal(problem: Problem, backend: SDPBackend) -> Way:
    """Where all lengths are equal nothing is padded or masked."""
    if len(set(problem.lengths)) > 1:
        raise NotApplicable("lengths differ")
    *inputs, grad = (
        x.unflatten(0, (len(problem.lengths), -1)).transpose(1, 2) for x in (*problem.apart, problem.grad)
    )
    return torch_way(
        lambda q, k, v: _sdpa(backend, q, k, v), inputs, grad, lambda x: x.transpose(1, 2).flatten(0, 1)
    )


def torch_nested(problem: Problem, backend: SDPBackend | None = None) -> Way:
    """Jagged (B, n*, H, D) q, k and v; without the extremes of the lengths it would wait for the device."""
    offsets = problem.cu_seqlens.long()
    extremes: dict[str, Any] = {"min_seqlen": min(problem.lengths), "max_seqlen": max(problem.lengths)}

    def attend(*rows: Tensor) -> Tensor:
        jagged = [
            torch.nested.nested_tensor_from_jagged(x, offsets, **extremes).transpose(1, 2) for x in rows
        ]
        return _sdpa(backend, *jagged).transpose(1, 2).values()

    def find_extremes() -> list[int]:
        lengths = problem.cu_seqlens.diff()
        return torch.stack([lengths.min(), lengths.max()]).tolist()

    return torch_way(attend, problem.apart, problem.grad, metadata=find_extremes)


def _sdpa(
    backend: SDPBackend | None, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None
) -> Tensor:
    with nullcontext() if backend is None else sdpa_kernel(backend):
        return scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)


def torch_flex(problem: Problem) -> Way:
    """q, k, v (1, H, T, D); a query and a key belong together if their sequences are the same."""
    total, _, _, head_dim = problem.qkv.shape
    device = problem.qkv.device
    create_mask, flex = _compiled_flex(problem.qkv.dtype, head_dim, torch.get_num_threads())

    def make_mask() -> Any:
        lengths = problem.cu_seqlens.diff()
        numbers = torch.arange(len(lengths), device=device)
        sequence = torch.repeat_interleave(numbers, lengths, output_size=total)
        return create_mask(
            lambda b, h, query, key: sequence[query] == sequence[key], None, None, total, total, device=device
        )

    block_mask = make_mask()
    # On a CPU torch 2.13 computes wrong results in float32 where q, k and v are contiguous.
    contiguous = [x.transpose(0, 1).contiguous()[None] for x in problem.apart]
    inputs = contiguous if device.type == "cuda" else problem.qkv.permute(1, 2, 0, 3).unsqueeze(1).unbind()
    grad = problem.grad.transpose(0, 1).contiguous()[None]
    way = torch_way(
        lambda q, k, v: flex(q, k, v, block_mask=block_mask),
        inputs,
        grad,
        lambda x: x[0].transpose(0, 1),
        make_mask,
    )
    if device.type == "cuda":
        return way
    return Way(way.forward, None, way.to_packed, way.metadata)


@functools.cache
def _compiled_flex(dtype: torch.dtype, head_dim: int, num_threads: int) -> tuple[Callable[..., Any], ...]:
    torch.compiler.reset()  # Dynamo stops compiling a function anew after eight variants
    return torch.compile(create_block_mask, dynamic=True), torch.compile(flex_attention, dynamic=True)


@contextmanager
def _flash_implementation(name: str) -> Iterator[None]:
    from torch.nn import attention

    attention.activate_flash_attention_impl(name)
    try:
        yield
    finally:
        attention.restore_flash_attention_impl()


def torch_varlen(problem: Problem, implementation: str | None = None) -> Way:
    """varlen_attn as every torch from 2.10 on has it: without arguments that came or went since."""
    from torch.nn.attention.varlen import varlen_attn

    cu_seqlens, longest = problem.cu_seqlens, problem.longest()

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = varlen_attn(q, k, v, cu_seqlens, cu_seqlens, longest, longest)
        assert isinstance(out, Tensor)
        return out

    context = (
        nullcontext if implementation is None else functools.partial(_flash_implementation, implementation)
    )
    return torch_way(attend, problem.apart, problem.grad, metadata=problem.longest, context=context)


BOTH_DEVICES = ("cpu", "cuda")
STAGES = USUAL, SLOW_TO_COMPILE, LEAST_TRIED = range(3)
"""In this order peers take part: what may crash, so that no later call works, comes last."""


@dataclass(frozen=True)
class Peer:
    """A way, the devices that it is meant for, and the modules that it imports."""

    make: Callable[[Problem], Way]
    devices: tuple[str, ...] = BOTH_DEVICES
    modules: tuple[str, ...] = ()
    stage: int = USUAL

    @property
    def missing(self) -> str | None:
        """A module that is not installed."""
        return next((module for module in self.modules if find_spec(module.split(".")[0]) is None), None)


def _cpu(make: Callable[..., Way], *modules: str, **settings: Any) -> Peer:
    return Peer(functools.partial(make, **settings), ("cpu",), modules)


def _cuda(make: Callable[..., Way], *modules: str, stage: int = USUAL, **settings: Any) -> Peer:
    return Peer(functools.partial(make, **settings), ("cuda",), modules, stage)


PEERS: dict[str, Peer] = {
    "sdpa_split": Peer(sdpa_split, ("cpu",)),
    "torch_varlen": _cuda(torch_varlen),
    "torch_varlen_fa3": _cuda(torch_varlen, implementation="FA3"),
    "torch_varlen_fa4": _cuda(torch_varlen, implementation="FA4"),
    "flash_attn": _cuda(gpu_libraries.flash_attn, "flash_attn"),
    "flash_attn_3": _cuda(gpu_libraries.flash_varlen, "flash_attn_interface", module="flash_attn_interface"),
    "flash_attn_4": _cuda(gpu_libraries.flash_varlen, "flash_attn", module="flash_attn.cute"),
    "xformers": _cuda(gpu_libraries.xformers, "xformers"),
    "transformer_engine": _cuda(gpu_libraries.transformer_engine, "transformer_engine"),
    "torch_nested": Peer(torch_nested),
    "sdpa_flash": _cuda(sdpa_equal, backend=SDPBackend.FLASH_ATTENTION),
    "sdpa_cudnn": _cuda(sdpa_equal, backend=SDPBackend.CUDNN_ATTENTION),
    "sdpa_efficient": _cuda(sdpa_equal, backend=SDPBackend.EFFICIENT_ATTENTION),
    "sdpa_math": _cuda(sdpa_equal, backend=SDPBackend.MATH),
    "sdpa_padded": Peer(sdpa_padded),
    "sdpa_padded_cudnn": _cuda(sdpa_padded, backend=SDPBackend.CUDNN_ATTENTION),
    "zentorch_split": _cpu(cpu_libraries.zentorch_split, "zentorch"),
    "vllm": _cpu(cpu_libraries.vllm, "vllm"),
    "openvino_split": _cpu(cpu_libraries.openvino, "openvino", padded=False),
    "openvino_padded": _cpu(cpu_libraries.openvino, "openvino", padded=True),
    "onnxruntime_split": _cpu(cpu_libraries.onnxruntime, "onnxruntime", "onnx", padded=False),
    "onnxruntime_padded": _cpu(cpu_libraries.onnxruntime, "onnxruntime", "onnx", padded=True),
    # After OpenVINO, whose import forks, which is not safe beside JAX's threads.
    "jax_padded": _cpu(cpu_libraries.jax_padded, "jax"),
    "torch_flex": Peer(torch_flex, stage=SLOW_TO_COMPILE),
    "torch_nested_cudnn": _cuda(torch_nested, stage=LEAST_TRIED, backend=SDPBackend.CUDNN_ATTENTION),
}
"""By name, in the order in which they take turns."""
BASIC = {
    "cpu": ("sdpa_split", "sdpa_padded"),
    "cuda": tuple(n for n, p in PEERS.items() if "cuda" in p.devices),
}
"""What a program compares with where no peers are named: on a CPU torch's two ways, on a GPU all."""


def suite_peers(dtype: torch.dtype, device: torch.device) -> dict[str, Callable[[Problem], Way]]:
    """Torch's two ways on this device, with which suites compare."""
    packed = "torch_varlen" if device.type == "cuda" and dtype != torch.float32 else "sdpa_split"
    return {name: PEERS[name].make for name in (packed, "sdpa_padded")}


def load_peers(path: Path) -> dict[str, Peer]:
    """The functions that a file defines, by name; those whose name begins with an underscore are its own
    affair.

    Runs the file. Raises SystemExit where there is no such file or it defines no function.
    """
    if not path.is_file() or path.suffix != ".py":
        raise SystemExit(f"--peer: {path} is no Python file")
    found = runpy.run_path(str(path), run_name=path.stem)
    peers = {
        name: Peer(function)
        for name, function in found.items()
        if isinstance(function, FunctionType)
        and function.__module__ == path.stem
        and not name.startswith("_")
    }
    if not peers:
        raise SystemExit(f"--peer: {path} defines no function; a peer takes a Problem and gives a Way")
    return peers
