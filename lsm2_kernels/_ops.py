"""The ops `torch.ops.lsm2_kernels.*`: schemas, shapes, derivatives, and which kernels serve which device.

CPU tensors go to the compiled library, CUDA and HIP tensors to Triton (imported at the first call), all
others to the plain-PyTorch reference, which also serves the CPU where the library is absent.
"""

import functools
import importlib
import importlib.metadata
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import reference

PACKAGE = "lsm2_kernels"
LIBRARY_NAME = "lsm2_kernels_cpu.so"
# In the order of the numbers that torch.ops.lsm2_kernels._cpu_instruction_set takes and returns.
INSTRUCTION_SETS = ("portable", "avx2", "avx512", "avx512_bf16", "amx")
HOW_TO_BUILD = (
    "to build them, install torch >= 2.10 and GCC or Clang, then run in the folder of the sources:"
    " pip install --force-reinstall --no-deps ."
)

SCHEMAS = {
    "varlen_attention": (
        "(Tensor q, Tensor k, Tensor v, Tensor cu_seqlens_q, Tensor cu_seqlens_k, float scale)"
        " -> (Tensor out, Tensor lse)"
    ),
    "varlen_attention_backward": (
        "(Tensor grad_out, Tensor? grad_lse, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse,"
        " Tensor cu_seqlens_q, Tensor cu_seqlens_k, float scale) -> (Tensor dq, Tensor dk, Tensor dv)"
    ),
    "varlen_attention_qkvpacked": "(Tensor qkv, Tensor cu_seqlens, float scale) -> (Tensor out, Tensor lse)",
    "varlen_attention_qkvpacked_backward": (
        "(Tensor grad_out, Tensor? grad_lse, Tensor qkv, Tensor out, Tensor lse,"
        " Tensor cu_seqlens, float scale) -> Tensor"
    ),
    "masked_attention": (
        "(Tensor q, Tensor k, Tensor v, Tensor keep, float scale) -> (Tensor out, Tensor lse)"
    ),
    "masked_attention_backward": (
        "(Tensor grad_out, Tensor? grad_lse, Tensor q, Tensor k, Tensor v, Tensor keep,"
        " Tensor out, Tensor lse, float scale) -> (Tensor dq, Tensor dk, Tensor dv)"
    ),
    "pack": "(Tensor x, Tensor indices) -> Tensor",
    "unpack": "(Tensor x, Tensor indices, Tensor? fill, SymInt num_rows) -> Tensor",
}

_library = torch.library.Library(PACKAGE, "DEF")
for _name, _schema in SCHEMAS.items():
    _library.define(_name + _schema, tags=(torch.Tag.pt2_compliant_tag,))

varlen_attention = torch.ops.lsm2_kernels.varlen_attention.default
varlen_attention_backward = torch.ops.lsm2_kernels.varlen_attention_backward.default
varlen_attention_qkvpacked = torch.ops.lsm2_kernels.varlen_attention_qkvpacked.default
varlen_attention_qkvpacked_backward = torch.ops.lsm2_kernels.varlen_attention_qkvpacked_backward.default
masked_attention = torch.ops.lsm2_kernels.masked_attention.default
masked_attention_backward = torch.ops.lsm2_kernels.masked_attention_backward.default
pack = torch.ops.lsm2_kernels.pack.default
unpack = torch.ops.lsm2_kernels.unpack.default


# Which kernels serve which device


def _library_candidates() -> Iterator[Path]:
    # An editable install keeps the library apart from the sources, on the package's search path. Python
    # started in a clone imports the clone's sources, but the library lies with the installed distribution.
    yield from (Path(folder) / LIBRARY_NAME for folder in sys.modules[PACKAGE].__path__)
    try:
        installed = importlib.metadata.files("lsm2-kernels") or ()
    except importlib.metadata.PackageNotFoundError:
        return
    yield from (Path(str(file.locate())) for file in installed if file.name == LIBRARY_NAME)


def _load_cpu_library() -> tuple[Path | None, str]:
    for path in _library_candidates():
        if path.exists():
            try:
                torch.ops.load_library(path)
            except OSError as error:
                return None, f"{path} does not load: {error}"
            return path, ""
    return None, f"the compiled kernels, {LIBRARY_NAME}, are not installed"


cpu_library, why_no_cpu_library = _load_cpu_library()


def instruction_set() -> str | None:
    """The instruction set that the compiled CPU kernels use; None where the reference serves the CPU."""
    return None if cpu_library is None else INSTRUCTION_SETS[torch.ops.lsm2_kernels._cpu_instruction_set(-1)]


@functools.cache
def _warn_of_reference(device_type: str) -> None:
    reason = f"lsm2_kernels has no kernels for {device_type}"
    if device_type == "cpu":
        reason = f"{why_no_cpu_library}; {HOW_TO_BUILD}"
    message = f"lsm2_kernels: the slow plain-PyTorch reference serves {device_type} tensors: {reason}"
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def _reference_kernel(name: str) -> Callable[..., Any]:
    function = getattr(reference, name)

    def kernel(x: Tensor, *args: Any) -> Any:
        _warn_of_reference(x.device.type)
        # The reference chooses the dtype of its matrix products itself.
        with torch.autocast(x.device.type, enabled=False):
            return function(x, *args)

    return kernel


def _triton_kernel(name: str) -> Callable[..., Any]:
    @functools.cache
    def launcher() -> Callable[..., Any]:
        try:
            launch = importlib.import_module(f"{PACKAGE}.triton.launch")
        except ModuleNotFoundError as error:
            raise RuntimeError(
                f"lsm2_kernels needs Triton for tensors on a GPU: pip install triton ({error})"
            ) from error
        return getattr(launch, name)

    def kernel(x: Tensor, *args: Any) -> Any:
        with torch.cuda.device_of(x):
            return launcher()(x, *args)

    return kernel


for _name in SCHEMAS:
    _library.impl(_name, _reference_kernel(_name), "CompositeExplicitAutograd")
    _library.impl(_name, _triton_kernel(_name), "CUDA")


# Shapes


def _attention_shapes(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty((q.shape[1], q.shape[0]), dtype=torch.float32)


def _attention_backward_shapes(
    grad_out: Tensor, grad_lse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _qkvpacked_shapes(qkv: Tensor, cu_seqlens: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    total, _, num_heads, head_dim = qkv.shape
    return qkv.new_empty((total, num_heads, head_dim)), qkv.new_empty((num_heads, total), dtype=torch.float32)


def _qkvpacked_backward_shapes(grad_out: Tensor, grad_lse: Tensor | None, qkv: Tensor, *rest: Any) -> Tensor:
    return qkv.new_empty(qkv.shape)


def _by_token(x: Tensor) -> Tensor:
    """A new tensor of the shape (B, H, N, D) of x, the heads of a token side by side in memory."""
    batch_size, num_heads, seq_len, head_dim = x.shape
    return x.new_empty((batch_size, seq_len, num_heads, head_dim)).transpose(1, 2)


def _masked_shapes(q: Tensor, k: Tensor, v: Tensor, keep: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    return _by_token(q), q.new_empty(q.shape[:3], dtype=torch.float32)


def _masked_backward_shapes(
    grad_out: Tensor, grad_lse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    return _by_token(q), _by_token(k), _by_token(v)


def _pack_shape(x: Tensor, indices: Tensor) -> Tensor:
    return x.new_empty((indices.shape[0], *x.shape[1:]))


def _unpack_shape(x: Tensor, indices: Tensor, fill: Tensor | None, num_rows: int) -> Tensor:
    return x.new_empty((num_rows, *x.shape[1:]))


for _name, _shapes in {
    "varlen_attention": _attention_shapes,
    "varlen_attention_backward": _attention_backward_shapes,
    "varlen_attention_qkvpacked": _qkvpacked_shapes,
    "varlen_attention_qkvpacked_backward": _qkvpacked_backward_shapes,
    "masked_attention": _masked_shapes,
    "masked_attention_backward": _masked_backward_shapes,
    "pack": _pack_shape,
    "unpack": _unpack_shape,
}.items():
    torch.library.register_fake(f"{PACKAGE}::{_name}", _shapes, lib=_library)


# Derivatives


def _save_for_attention_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.set_materialize_grads(False)


def _attention_derivative(
    ctx: Any, grad_out: Tensor | None, grad_lse: Tensor | None
) -> tuple[Tensor | None, ...]:
    q, k, v, cu_seqlens_q, cu_seqlens_k, out, lse = ctx.saved_tensors
    grad_out = torch.zeros_like(out) if grad_out is None else grad_out
    grads = varlen_attention_backward(
        grad_out, grad_lse, q, k, v, out, lse, cu_seqlens_q, cu_seqlens_k, ctx.scale
    )
    return *grads, None, None, None


def _qkvpacked_derivative(
    ctx: Any, grad_out: Tensor | None, grad_lse: Tensor | None
) -> tuple[Tensor | None, ...]:
    qkv, cu_seqlens, out, lse = ctx.saved_tensors
    grad_out = torch.zeros_like(out) if grad_out is None else grad_out
    return (
        varlen_attention_qkvpacked_backward(grad_out, grad_lse, qkv, out, lse, cu_seqlens, ctx.scale),
        None,
        None,
    )


def _masked_derivative(
    ctx: Any, grad_out: Tensor | None, grad_lse: Tensor | None
) -> tuple[Tensor | None, ...]:
    q, k, v, keep, out, lse = ctx.saved_tensors
    grad_out = torch.zeros_like(out) if grad_out is None else grad_out
    return *masked_attention_backward(grad_out, grad_lse, q, k, v, keep, out, lse, ctx.scale), None, None


def _no_second_derivative(ctx: Any, *grads: Tensor | None) -> None:
    raise RuntimeError(
        "lsm2_kernels: attention has no second derivative here; for gradients of gradients"
        " (create_graph=True) use torch.nn.functional.scaled_dot_product_attention"
    )


def _save_for_pack_backward(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    x, indices = inputs
    ctx.save_for_backward(indices)
    ctx.num_rows = x.shape[0]


def _pack_derivative(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    (indices,) = ctx.saved_tensors
    return unpack(grad, indices, None, ctx.num_rows), None


def _save_for_unpack_backward(
    ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, int], output: Tensor
) -> None:
    _, indices, fill, ctx.num_rows = inputs
    ctx.save_for_backward(indices)
    ctx.has_fill = fill is not None


def _unpack_derivative(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor | None, None]:
    (indices,) = ctx.saved_tensors
    grad_fill = None
    if ctx.has_fill and ctx.needs_input_grad[2]:
        rows = grad.flatten(1)
        named = unpack(rows.new_ones(indices.shape[0], 1), indices, None, ctx.num_rows) > 0
        grad_fill = rows.masked_fill(named, 0).sum(0).view(grad.shape[1:])
    return pack(grad, indices), None, grad_fill, None


for _name, _derivative, _save in (
    ("varlen_attention", _attention_derivative, _save_for_attention_backward),
    ("varlen_attention_qkvpacked", _qkvpacked_derivative, _save_for_attention_backward),
    ("masked_attention", _masked_derivative, _save_for_attention_backward),
    ("varlen_attention_backward", _no_second_derivative, None),
    ("varlen_attention_qkvpacked_backward", _no_second_derivative, None),
    ("masked_attention_backward", _no_second_derivative, None),
    ("pack", _pack_derivative, _save_for_pack_backward),
    ("unpack", _unpack_derivative, _save_for_unpack_backward),
):
    torch.library.register_autograd(f"{PACKAGE}::{_name}", _derivative, setup_context=_save, lib=_library)
