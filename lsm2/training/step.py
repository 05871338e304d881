"""One training step: gradients of all micro-batches and ranks, division, clipping, a guard, the update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lsm2.config import TrainConfig
from lsm2.data.batch import PackedBatch
from lsm2.model.precision import autocast
from lsm2.training.compile import compile_loss
from lsm2.training.objective import Objective
from lsm2.training.optim import EMA, learning_rate, make_optimizer
from lsm2.training.parallel import Ranks, ReplicatedGradient
from lsm2.training.recompute import recompute_blocks


class StepResult(NamedTuple):
    """What one step found, over all ranks; every field a number."""

    loss: float
    """Mean loss of the step: for reconstruction, mean squared error over all target samples."""
    grad_norm: float
    """Norm of the gradient before clipping."""
    finite: bool
    """Whether loss and gradient were finite; if not, weights and moments are as before."""
    num_target: int
    """Target samples."""
    num_visible: int
    """Visible tokens."""
    stop: bool
    """Whether some rank asks to stop."""


class Trainer:
    """A model in training: weights, their average, the optimizer's moments."""

    def __init__(self, objective: Objective, train_config: TrainConfig, ranks: Ranks) -> None:
        self.objective = objective
        self.model = objective.model.to(ranks.device).train()
        self.train_config = train_config
        self.device = ranks.device
        self.optimizer = make_optimizer(self.model, train_config)
        self.loss = compile_loss(objective) if train_config.compile else objective.loss
        recompute_blocks(self.model, train_config.activation_checkpointing)
        self.ema = EMA(self.model, train_config.ema_decay)
        self.gradient = ReplicatedGradient(self.model, num_totals=4, ranks=ranks)

    def step(self, step: int, micro_batches: Sequence[PackedBatch], stop: bool) -> Tensor:
        """Train on one step's micro-batches; returns (6,) float32 on the device, for `fetch_result`.

        Waits for no device.
        """
        # Sums of loss, targets, visible tokens and wishes to stop, over micro-batches and ranks.
        self.gradient.zero()
        loss_sum, num_target, num_visible, stops = self.gradient.totals.unbind()
        stops += stop
        # Autocast keeps its bfloat16 copies of the weights until the outermost context ends: one cast per
        # weight and step.
        with autocast(self.train_config.precision, self.device):
            for batch in micro_batches:
                batch = batch.to(self.device, non_blocking=True)
                batch_loss_sum, batch_num_target = self.loss(batch)
                with torch.autocast(self.device.type, enabled=False):
                    batch_loss_sum.backward()
                loss_sum += batch_loss_sum.detach()
                num_target += batch_num_target
                num_visible += len(batch.visible_ids)
        self.gradient.sum_over_ranks()

        # The mean over all targets of the step, clipped.
        count = num_target.clamp(min=1)
        self.gradient.divide(count)
        grad_norm = self.gradient.norm()
        self.gradient.scale((self.train_config.grad_clip / (grad_norm + 1e-6)).clamp(max=1))

        # The update, unless something was not finite or nothing was asked.
        finite = loss_sum.isfinite() & grad_norm.isfinite()
        self._update(step, skip=~finite | (num_target == 0))
        return torch.stack([loss_sum / count, grad_norm, finite.float(), num_target, num_visible, stops])

    def _update(self, step: int, skip: Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.train_config)
        # The fused update reads this flag on the device and then leaves weights, moments and their count
        # alone, so no host waits.
        self.optimizer.found_inf = skip.float()  # pyright: ignore[reportAttributeAccessIssue]
        self.optimizer.step()
        self.ema.update(step, self.model)
        self.objective.after_step()

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All state, as named tensors per file of a checkpoint."""
        moments = {
            f"{name}.{kind}": value
            for name, weight in self.model.named_parameters()
            for kind, value in self.optimizer.state.get(weight, {}).items()
        }
        return {"model": self.model.state_dict(), "ema": self.ema.weights, "optimizer": moments}

    def restore(self, tensors: dict[str, dict[str, Tensor]]) -> None:
        """The inverse of `tensors`."""
        self.model.load_state_dict(tensors["model"])
        for name, weight in self.model.named_parameters():
            self.ema.weights[name].copy_(tensors["ema"][name])
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
