"""The ways of taking one training step that benchmarks.step.race compares, on the same weights, days and
masks.

- `ours_cross`, `ours_joint`, `ours_full`: `LSM2` with each decoder; `_compiled`: under
  torch.compile(dynamic=True);
- `paper`: half of the tokens dropped, a key mask for the rest, the full decoder; `paper_compiled`: under
  torch.compile, all sizes known;
- `padded`: as many tokens as the day with the most visible ones has, with a key mask, the full decoder;
- `dense`: all tokens with a key mask, the full decoder;
- `nested`, `flex`: packed as ours, with jagged nested tensors or FlexAttention, the full decoder;
  `nested_cross`, `flex_cross`: the cross decoder.

A step is forward, loss and backward under bf16 autocast, without the optimizer. FlexAttention has no backward
pass on a CPU: there it is the forward pass alone.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure.agreement import describe_error
from benchmarks.step.dense import ChosenBatch, DenseBatch, choose_all, choose_half, choose_longest, full_loss
from benchmarks.step.packed import (
    LaidOut,
    PreparedBatch,
    packed_cross_loss,
    packed_full_loss,
    prepare_flex,
    prepare_nested,
)
from benchmarks.step.work import FlopCount
from lsm2 import LSM2
from lsm2.config import Decoder, LSM2Config, Precision
from lsm2.data import PackedBatch, collate
from lsm2.data.masking import day_rng, sample_artificial, token_observed
from lsm2.model.precision import autocast, choose_precision


@dataclass(frozen=True)
class Days:
    """Noise (B, C, L) with gaps, and which tokens (B, N) are hidden; values do not change a step's time."""

    config: LSM2Config
    values: Tensor
    artificial: Tensor

    @classmethod
    def draw(cls, config: LSM2Config, num_days: int, missing: float) -> Days:
        """Hours of signals are missing, from half to one and a half of the mean by day; AIM's masks."""
        generator = torch.Generator().manual_seed(0)
        values = torch.randn(num_days, config.num_signals, config.window_samples, generator=generator)
        spread = torch.linspace(-0.5, 0.5, num_days) if num_days > 1 else torch.zeros(1)
        of_day = missing + spread * min(missing, 1 - missing)
        hours = (
            torch.rand(num_days, config.num_signals, config.window_samples // 60, generator=generator)
            < of_day[:, None, None]
        )
        values = values.masked_fill(hours.repeat_interleave(60, dim=2), float("nan"))
        observed = token_observed(
            ~values.isnan().numpy(), config.patch_samples, config.masking.token_min_observed
        )
        hidden = [
            sample_artificial(day, config, day_rng(0, 0, f"day {number}"))
            for number, day in enumerate(observed)
        ]
        return cls(config, values, torch.from_numpy(np.stack(hidden)))

    def pack(self, decoder: Decoder, device: torch.device) -> PackedBatch:
        """The batch for a decoder."""
        return collate(
            self.values, dataclasses.replace(self.config, decoder=decoder), artificial=self.artificial
        ).to(device)

    def make_model(self, decoder: Decoder, device: torch.device) -> LSM2:
        """The same weights at every call; of all decoders, too, as far as their layers are the same.

        With fixed signal codes: the gradient of learned ones costs every way the same.
        """
        torch.manual_seed(0)
        config = dataclasses.replace(self.config, decoder=decoder, signal_codes="sincos")
        return LSM2(config).to(device)


@dataclass(frozen=True)
class Way:
    """How others, or we, take the step."""

    decoder: Decoder
    loss: Callable[[LSM2, Any], Tensor]
    """From the prepared batch."""
    total_flops: Callable[[FlopCount, Any], float]
    """From the prepared batch; see train_step_work."""
    lay_out: Callable[[PackedBatch, int], Any] = lambda batch, num_tokens: batch
    """A batch as the way's users would load it; in no time that is measured."""
    prepare: Callable[[Any], Any] | None = None
    """What must be found out or chosen once per batch; timed apart. None: nothing."""
    compile: Callable[..., Any] | None = None
    backward_on_cpu: bool = True
    quadratic_on_cpu: bool = False
    """Whether its memory on a CPU grows with pairs of tokens."""


@dataclass(frozen=True)
class Step:
    """One way on one batch; a call takes the step and gives the loss."""

    way: Way
    model: LSM2
    batch: PackedBatch
    laid_out: Any
    prepared: Any
    loss: Callable[[LSM2, Any], Tensor]
    precision: Literal["bf16", "fp32"] = "bf16"

    @classmethod
    def of(cls, name: str, days: Days, device: torch.device, precision: Precision = "bf16") -> Step:
        way = WAYS[name]
        batch = days.pack(way.decoder, device)
        laid_out = way.lay_out(batch, days.config.num_tokens)
        prepared = laid_out if way.prepare is None else way.prepare(laid_out)
        loss = way.loss if way.compile is None else way.compile(way.loss)
        return cls(
            way,
            days.make_model(way.decoder, device),
            batch,
            laid_out,
            prepared,
            loss,
            choose_precision(precision, device),
        )

    @property
    def device(self) -> torch.device:
        return self.batch.cu_visible.device

    @property
    def backward(self) -> bool:
        """Whether there is a backward pass."""
        return self.device.type != "cpu" or self.way.backward_on_cpu

    def prepare(self) -> object:
        """Do anew what every batch needs before its step."""
        return None if self.way.prepare is None else self.way.prepare(self.laid_out)

    def take(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The loss and the gradient of every weight, none where there is no backward pass."""
        with torch.set_grad_enabled(self.backward):
            with autocast(self.precision, self.device):
                loss = self.loss(self.model, self.prepared)
            grads = torch.autograd.grad(loss, list(self.model.parameters())) if self.backward else ()
        return loss.detach(), grads

    def __call__(self) -> Tensor:
        return self.take()[0]

    def count_flops(self) -> tuple[float, float]:
        """Useful and total."""
        count = FlopCount(self.model.config, self.backward)
        return count.useful(self.batch), self.way.total_flops(count, self.prepared)


def small_config() -> LSM2Config:
    """A model with all parts, for checks."""
    sizes = LSM2Config(
        encoder_width=64, encoder_depth=2, encoder_heads=2, decoder_width=32, decoder_depth=2, decoder_heads=1
    )
    return dataclasses.replace(sizes, num_signals=6, window_minutes=240)


def check_agreement(names: Iterable[str], device: torch.device) -> dict[str, str]:
    """Raise AssertionError unless loss and every gradient are those of ours with the same decoder, in float32
    to rounding.

    Gives what is wrong with ways that do not run here.
    """
    days = Days.draw(small_config(), 3, 0.49)
    expected = {
        decoder: Step.of(f"ours_{decoder}", days, device, "fp32").take()
        for decoder in ("cross", "joint", "full")
    }
    faults: dict[str, str] = {}
    for name in names:
        try:
            step = Step.of(name, days, device, "fp32")
            loss, grads = step.take()
        except Exception as error:
            if name.startswith("ours"):
                raise
            faults[name] = describe_error(error)
            continue
        wanted_loss, wanted_grads = expected[WAYS[name].decoder]
        torch.testing.assert_close(
            loss, wanted_loss, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"the loss of {name}: {text}"
        )
        for grad, wanted in zip(grads, wanted_grads if step.backward else (), strict=True):
            atol = 1e-4 * wanted.abs().max().item() + 1e-7
            torch.testing.assert_close(
                grad,
                wanted,
                rtol=1e-2,
                atol=atol,
                msg=lambda text, name=name: f"a gradient of {name}: {text}",
            )
    return faults


def _count_dense(count: FlopCount, batch: ChosenBatch) -> float:
    num_days, num_tokens = batch.days.visible.shape
    chosen, everything = num_days * batch.num_tokens, num_days * num_tokens
    return count.encoder(chosen, chosen * batch.num_tokens) + count.self_decoder(
        chosen, everything, everything * num_tokens, everything
    )


def _count_packed_full(count: FlopCount, prepared: PreparedBatch) -> float:
    batch = prepared.laid_out.batch
    visible, everything = len(batch.visible_ids), batch.num_days * count.config.num_tokens
    decoder = count.self_decoder(visible, everything, everything * count.config.num_tokens, everything)
    return count.encoder(visible, prepared.count_pairs()[0]) + decoder


def _count_packed_cross(count: FlopCount, prepared: PreparedBatch) -> float:
    batch = prepared.laid_out.batch
    among_visible, to_visible = prepared.count_pairs()
    visible, queries = len(batch.visible_ids), len(batch.query_ids)
    return count.encoder(visible, among_visible) + count.cross_decoder(visible, queries, to_visible)


def _ours(decoder: Decoder, compile: Callable[..., Any] | None = None) -> Way:
    def loss(model: LSM2, batch: PackedBatch) -> Tensor:
        return model(batch).loss

    return Way(decoder, loss, lambda count, batch: count.useful(batch), compile=compile)


def _dense(choose: Callable[[DenseBatch], ChosenBatch], compile: Callable[..., Any] | None = None) -> Way:
    return Way("full", full_loss, _count_dense, DenseBatch.of, choose, compile)


PACKED = {
    "full": (packed_full_loss, _count_packed_full, LaidOut.of),
    "cross": (packed_cross_loss, _count_packed_cross, LaidOut.of),
}


def _nested(decoder: Decoder) -> Way:
    return Way(decoder, *PACKED[decoder], prepare_nested, quadratic_on_cpu=True)


def _flex(decoder: Decoder) -> Way:
    prepare = functools.partial(prepare_flex, cross=decoder == "cross")
    return Way(decoder, *PACKED[decoder], prepare, backward_on_cpu=False)


_dynamic, _static = (functools.partial(torch.compile, dynamic=dynamic) for dynamic in (True, False))
WAYS: dict[str, Way] = {
    "ours_cross": _ours("cross"),
    "ours_joint": _ours("joint"),
    "ours_full": _ours("full"),
    "padded": _dense(choose_longest),
    "paper": _dense(choose_half),
    "dense": _dense(choose_all),
    "nested": _nested("full"),
    "nested_cross": _nested("cross"),
    "flex": _flex("full"),
    "flex_cross": _flex("cross"),
    "paper_compiled": _dense(choose_half, _static),
    "ours_cross_compiled": _ours("cross", _dynamic),
    "ours_joint_compiled": _ours("joint", _dynamic),
    "ours_full_compiled": _ours("full", _dynamic),
}
COMPILED = tuple(name for name, way in WAYS.items() if way.compile is not None)
SLOW_TO_COMPILE = (*COMPILED, "flex", "flex_cross")
