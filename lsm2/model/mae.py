"""LSM2: embed and encode what is visible, decode what is asked, compare with what was observed (AIM, arXiv 2506.05321)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lsm2.config import LSM2Config, Precision
from lsm2.data.batch import PackedBatch
from lsm2.data.normalize import Normalization
from lsm2.model import inference, pretrained
from lsm2.model.decoder import CrossDecoder, JointDecoder
from lsm2.model.encoder import Encoder
from lsm2.model.inference import Days


@dataclass(frozen=True)
class MAEOutput:
    """What `LSM2.forward` returns; losses are float32 scalars on normalised values."""

    loss: Tensor
    """Mean squared error over the target minutes; exactly 0 where there are none."""
    loss_sum: Tensor
    """Squared error added over the target minutes: sums of several batches add, `loss` does not."""
    num_target: Tensor
    """() int64: number of target minutes."""
    predictions: Tensor
    """(T_q, P) float32: all minutes of every query, normalised."""


class LSM2(nn.Module):
    """Masked autoencoder over packed days; also encodes, imputes and forecasts days given as arrays with NaN = missing."""

    def __init__(self, config: LSM2Config, normalization: Normalization | None = None) -> None:
        super().__init__()
        self.config = config
        self.normalization = normalization
        """Physical units to the numbers that the model reads; None: `encode`, `impute` and `forecast` take and give normalised values."""
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

    def encode(self, values: Days, level: Literal["day", "token"] = "day") -> Any:
        """Embeddings of days (B, C, L) or (C, L), NaN = missing, of which all observed tokens are visible.

        "day": (B, width), the mean over the day's visible tokens. "token": (B, N, width). NaN where nothing is visible; no B where none was
        given. A tensor gives a tensor on the CPU, a numpy array a numpy array, float32. Values are in physical units if the model has a
        normalisation. A pandas or polars DataFrame, wide (timestamp, a column per signal) or long (timestamp, signal, value), with or
        without a column subject, gives such a frame with one row per subject and date. Raises InputError for wrong shapes, columns or
        rows, values that cannot be normalised, or an unknown level.
        """
        return inference.encode(self, values, level)

    def impute(self, values: Days) -> Any:
        """Days (B, C, L) or (C, L) with every missing cell filled by the model; observed cells come back bit for bit.

        Tokens without enough data are predicted from all others, then missing minutes of the others from the complete tokens. Units, types
        and errors as in `encode`; a DataFrame gives a wide one with every sample of its days.
        """
        return inference.impute(self, values)

    def forecast(self, values: Days, minutes: int) -> Any:
        """The last `minutes` of each day, (B, C, minutes / sample_minutes), predicted from what lies before; no B where none was given.

        What `values` holds there is not read. `minutes` must be a multiple of the minutes of a token. Units, types and other
        errors as in `encode`; a DataFrame gives a wide one with these samples.
        """
        return inference.forecast(self, values, minutes)

    def save_pretrained(self, path: Path | str) -> Path:
        """Write model.safetensors, config.json and, with a normalisation, signals.json into the folder `path`, each whole or not at all."""
        return pretrained.save_model(Path(path), self.config, self.state_dict(), self.normalization)

    @classmethod
    def from_pretrained(cls, path_or_hub_id: Path | str) -> LSM2:
        """The model in a folder of `save_pretrained`, in a run folder, or in a repository of the Hugging Face hub (needs huggingface_hub).

        In evaluation mode, on the CPU. Raises InputError naming the file that is missing or damaged, or what does not fit.
        """
        folder = pretrained.find_model(path_or_hub_id)
        config, normalization = pretrained.load_settings(folder)
        model = cls(config, normalization)
        pretrained.load_weights(folder, model)
        return model.eval()
