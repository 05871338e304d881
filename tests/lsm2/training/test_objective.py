"""An objective is what a trainer minimises; one that compares days and moves a teacher fits in, too."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lsm2 import LSM2, LSM2Config
from lsm2.config import TrainConfig
from lsm2.data import PackedBatch, collate
from lsm2.training.objective import Objective, Reconstruction
from lsm2.training.parallel import Ranks
from lsm2.training.step import Trainer, fetch_result

ALONE = Ranks(0, 1, torch.device("cpu"))


class TwoViews:
    """Pulls two maskings of a day together and different days apart; days come twice, view after view."""

    def __init__(self, config: LSM2Config) -> None:
        self.model = LSM2(config)
        self.teacher = LSM2(config)
        self.teacher.load_state_dict(self.model.state_dict())

    def loss(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        num_days = batch.num_days // 2
        students = self._days(self.model, batch)[:num_days]
        with torch.no_grad():
            teachers = self._days(self.teacher, batch)[num_days:]
        similarity = F.normalize(students) @ F.normalize(teachers).T
        loss_sum = F.cross_entropy(similarity / 0.1, torch.arange(num_days), reduction="sum")
        return loss_sum, torch.tensor(num_days)

    def after_step(self) -> None:
        for teacher, student in zip(self.teacher.parameters(), self.model.parameters(), strict=True):
            teacher.data.lerp_(student.data, 0.1)

    def _days(self, model: nn.Module, batch: PackedBatch) -> Tensor:
        assert isinstance(model, LSM2)
        encoded = model.encoder(batch.visible_patches, batch.visible_ids, batch.cu_visible)
        lengths = batch.cu_visible.diff().tolist()
        return torch.stack([day.mean(0) for day in encoded.split(lengths)])


def train(objective: Objective, config: TrainConfig, batch: PackedBatch, steps: int) -> list[float]:
    trainer = Trainer(objective, config, ALONE)
    return [fetch_result(trainer.step(step, [batch], False)).loss for step in range(steps)]


def test_a_contrastive_objective_with_a_teacher_trains(
    tiny_config: LSM2Config, small_train_config: TrainConfig
) -> None:
    torch.manual_seed(0)
    objective = TwoViews(tiny_config)
    values = torch.randn(4, 3, 120)
    batch = collate(values.repeat(2, 1, 1), tiny_config, epoch=[0] * 4 + [1] * 4)
    before = {name: weight.clone() for name, weight in objective.teacher.state_dict().items()}
    config = dataclasses.replace(small_train_config, steps=30, learning_rate=3e-3)
    losses = train(objective, config, batch, 30)
    assert losses[-1] < 0.5 * losses[0]
    moved = [
        name
        for name, weight in objective.teacher.state_dict().items()
        if not torch.equal(weight, before[name])
    ]
    assert any(name.startswith("encoder") for name in moved)


def test_reconstruction_counts_target_samples(tiny_config: LSM2Config) -> None:
    torch.manual_seed(0)
    model = LSM2(tiny_config)
    batch = collate(torch.randn(2, 3, 120), tiny_config)
    loss_sum, count = Reconstruction(model).loss(batch)
    assert count == batch.target_observed.sum() and torch.equal(loss_sum / count, model(batch).loss)
