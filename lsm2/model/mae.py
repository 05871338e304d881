"""The network: embed and encode what is visible, decode the queries, compare with what was observed.

This is AIM, arXiv 2506.05321.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lsm2.config import LSM2Config, Precision
from lsm2.data.batch import PackedBatch
from lsm2.data.fills.gaps import GapFill
from lsm2.data.normalize import Normalization
from lsm2.model.decoder import CrossDecoder, JointDecoder
from lsm2.model.encoder import Encoder


@dataclass(frozen=True)
class MAEOutput:
    """What the network returns; losses are float32 scalars on normalised values."""

    loss: Tensor
    """Mean squared error over the target samples; exactly 0 where there are none."""
    loss_sum: Tensor
    """Squared error added over the target samples: sums of several batches add, `loss` does not."""
    num_target: Tensor
    """() int64: number of target samples."""
    predictions: Tensor
    """(T_q, P) float32: all samples of every query, normalised."""


class MaskedAutoencoder(nn.Module):
    """A masked autoencoder over packed days."""

    def __init__(
        self,
        config: LSM2Config,
        normalization: Normalization | None = None,
        gap_fill: GapFill | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.normalization = normalization
        """Physical units to the numbers that the model reads; None: `encode`, `impute` and `forecast` take
        and give normalised values.
        """
        self.gap_fill = gap_fill
        """Fills the gaps of days before the model reads them, where `config.fill_gaps` says so."""
        self.precision: Precision = "auto"
        """Of `encode`, `impute`, `forecast` and `predict_hidden`; autocast of `forward` is its caller's."""
        self.encoder = Encoder(config)
        self.decoder = CrossDecoder(config) if config.decoder == "cross" else JointDecoder(config)

    def forward(self, batch: PackedBatch) -> MAEOutput:
        """Reconstruct the queries of a batch from its visible tokens; autocast is the caller's."""
        encoded = self.encoder(batch.visible_patches, batch.visible_ids, batch.cu_visible)
        predictions = self.decoder(encoded, batch).float()
        # Selecting before squaring keeps gradients finite whatever is predicted where nothing counts.
        error = torch.where(batch.target_observed, predictions - batch.target_values, 0.0)
        loss_sum = error.square().sum()
        num_target = batch.target_observed.sum()
        return MAEOutput(loss_sum / num_target.clamp(min=1), loss_sum, num_target, predictions)
