"""One training step: gradients of all micro-batches and ranks, one division, clipping, a guard, the update."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lsm2.config import TrainConfig
from lsm2.data.batch import PackedBatch
from lsm2.model.block import recompute_blocks
from lsm2.model.mae import LSM2
from lsm2.model.precision import autocast
from lsm2.training.compile import compile_loss, loss_of
from lsm2.training.ema import ema_decay
from lsm2.training.optim import learning_rate, make_optimizer
from lsm2.training.parallel import Ranks


class StepResult(NamedTuple):
    """What one step found, over all ranks; every field a number."""

    loss: float
    """Mean squared error over all target minutes of the step."""
    grad_norm: float
    """Norm of the gradient before clipping."""
    finite: bool
    """Whether loss and gradient were finite; if not, weights and moments are as before."""
    num_target: int
    """Target minutes."""
    num_visible: int
    """Visible tokens."""
    stop: bool
    """Whether some rank asks to stop."""


class Trainer:
    """A model in training: weights, their average, the optimizer's moments."""

    def __init__(self, model: LSM2, train_config: TrainConfig, ranks: Ranks) -> None:
        self.model = model.to(ranks.device).train()
        self.train_config = train_config
        self.ranks = ranks
        self.optimizer = make_optimizer(model, train_config)
        self.loss_of = compile_loss(model) if train_config.compile else partial(loss_of, model)
        recompute_blocks(model, train_config.activation_checkpointing)
        self.ema = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        weights = list(model.parameters())
        # One buffer for all gradients and, behind them, the step's totals: one sum over ranks, one norm, one scaling.
        self._sums = torch.zeros(sum(weight.numel() for weight in weights) + 4, device=ranks.device)
        self._gradient, self._totals = self._sums[:-4], self._sums[-4:]
        for weight, part in zip(
            weights, self._gradient.split([weight.numel() for weight in weights]), strict=True
        ):
            weight.grad = part.view_as(weight)

    def step(self, step: int, micro_batches: Sequence[PackedBatch], stop: bool) -> Tensor:
        """Train on one step's micro-batches; returns (6,) float32 on the device, for `fetch_result`. Waits for no device."""
        self._sums.zero_()
        self._totals[3] += stop
        device = self.ranks.device
        # Autocast keeps its bfloat16 copies of the weights until the outermost context ends: one cast per weight and step.
        with autocast(self.train_config.precision, device):
            for batch in micro_batches:
                batch = batch.to(device, non_blocking=True)
                loss_sum, num_target = self.loss_of(batch)
                with torch.autocast(device.type, enabled=False):
                    loss_sum.backward()
                self._totals[0] += loss_sum.detach()
                self._totals[1] += num_target
                self._totals[2] += len(batch.visible_ids)
        self.ranks.sum(self._sums)

        loss_sum, num_target, num_visible, stops = self._totals.unbind()
        some_target = num_target.clamp(min=1)
        self._gradient.div_(some_target)
        grad_norm = torch.linalg.vector_norm(self._gradient)
        self._gradient.mul_((self.train_config.grad_clip / (grad_norm + 1e-6)).clamp(max=1))
        finite = loss_sum.isfinite() & grad_norm.isfinite()
        self._update(step, skip=~finite | (num_target == 0))
        return torch.stack(
            [loss_sum / some_target, grad_norm, finite.float(), num_target, num_visible, stops]
        )

    def _update(self, step: int, skip: Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.train_config)
        # The fused update reads this flag on the device and then leaves weights, moments and their count alone: no waiting to find out.
        self.optimizer.found_inf = skip.float()  # pyright: ignore[reportAttributeAccessIssue]
        self.optimizer.step()
        weights = [weight.detach() for weight in self.model.parameters()]
        step_size = 1 - ema_decay(step, self.train_config)
        torch._foreach_lerp_(list(self.ema.values()), weights, step_size)  # pyright: ignore[reportPrivateImportUsage]

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All state, as named tensors per file of a checkpoint."""
        moments = {
            f"{name}.{kind}": value
            for name, weight in self.model.named_parameters()
            for kind, value in self.optimizer.state.get(weight, {}).items()
        }
        return {"model": self.model.state_dict(), "ema": self.ema, "optimizer": moments}

    def restore(self, tensors: dict[str, dict[str, Tensor]]) -> None:
        """The inverse of `tensors`."""
        self.model.load_state_dict(tensors["model"])
        for name, weight in self.model.named_parameters():
            self.ema[name].copy_(tensors["ema"][name])
            state: dict[str, Any] = {
                kind: tensors["optimizer"][f"{name}.{kind}"].to(weight.device)
                for kind in ("step", "exp_avg", "exp_avg_sq")
                if f"{name}.{kind}" in tensors["optimizer"]
            }
            if state:
                self.optimizer.state[weight] = state


def fetch_result(result: Tensor) -> StepResult:
    """The numbers of `Trainer.step`, on the host."""
    loss, grad_norm, finite, num_target, num_visible, stops = result.tolist()
    return StepResult(loss, grad_norm, bool(finite), int(num_target), int(num_visible), stops > 0)
