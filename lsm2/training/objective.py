"""What a training step minimises.

Masked reconstruction is one objective; a contrastive loss with a teacher can be another.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from lsm2.data.batch import PackedBatch
from lsm2.model.lsm2 import LSM2


class Objective(Protocol):
    """A loss over packed days, and the modules that it trains.

    The gradient of a step is that of sum(loss_sum) / sum(count) over its micro-batches and ranks. A loss that
    compares the days of a batch with each other compares those of one micro-batch on one rank, and counts its
    days: it then depends on how a step is cut, which reconstruction does not.
    """

    @property
    def model(self) -> nn.Module:
        """All that is trained and saved in checkpoints."""
        ...

    def loss(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """The sum of the losses of a micro-batch, float32 (), and what it is to be divided by, ()."""
        ...

    def after_step(self) -> None:
        """What follows the update of the weights, such as the update of a teacher."""
        ...


class Reconstruction:
    """Squared error over the target samples of the hidden tokens: AIM's loss, the same however a step's days
    are cut.
    """

    def __init__(self, model: LSM2) -> None:
        self.model = model

    def loss(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """Squared error added over the target samples of a batch, and their number."""
        output = self.model(batch)
        return output.loss_sum, output.num_target

    def after_step(self) -> None:
        """Nothing follows."""
