"""An objective's loss as one function of torch.compile that takes any number of days and tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lsm2.data.batch import PackedBatch
from lsm2.training.objective import Objective

TENSORS = tuple(field.name for field in dataclasses.fields(PackedBatch) if field.name != "day_ids")


def compile_loss(
    objective: Objective, backend: Any = "inductor"
) -> Callable[[PackedBatch], tuple[Tensor, Tensor]]:
    """`objective.loss`, compiled at the first call; numbers of days and tokens may differ from call to call.

    Batches with less than two visible or two query tokens run eagerly, because torch.compile specialises on
    sizes 0 and 1.
    """

    def of_tensors(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        return objective.loss(PackedBatch(*tensors, day_ids=()))

    compiled = torch.compile(of_tensors, backend=backend, fullgraph=True)

    def compiled_loss(batch: PackedBatch) -> tuple[Tensor, Tensor]:
        tensors = [getattr(batch, name) for name in TENSORS]
        if min(map(len, tensors)) < 2:
            return of_tensors(*tensors)
        for tensor in tensors:
            torch._dynamo.mark_dynamic(tensor, 0)
        return compiled(*tensors)

    return compiled_loss
