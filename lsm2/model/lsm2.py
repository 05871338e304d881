"""LSM2: the masked autoencoder as people use it, on days given as arrays or DataFrames, from and to files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from lsm2.model import inference, pretrained
from lsm2.model.inference import Days
from lsm2.model.mae import MaskedAutoencoder


class LSM2(MaskedAutoencoder):
    """Masked autoencoder over packed days; encodes, imputes and forecasts days given with NaN = missing."""

    def encode(self, values: Days, level: Literal["day", "token"] = "day") -> Any:
        """Embeddings of days (B, C, L) or (C, L), NaN = missing, of which all observed tokens are visible.

        "day": (B, width), the mean over the day's visible tokens. "token": (B, N, width). NaN where nothing
        is visible; no B where none was given. A tensor gives a tensor on the CPU, a numpy array a numpy
        array, float32. Values are in physical units if the model has a normalisation. A pandas or polars
        DataFrame, wide (timestamp, a column per signal) or long (timestamp, signal, value), with or without a
        column subject, gives such a frame with one row per subject and date. Raises InputError for wrong
        shapes, columns or rows, values that cannot be normalised, or an unknown level.
        """
        return inference.encode(self, values, level)

    def impute(self, values: Days) -> Any:
        """Days (B, C, L) or (C, L) with missing cells filled by the model; observed cells stay bit for bit.

        Tokens without enough data are predicted from all others, then missing minutes of the others from the
        complete tokens. Units, types and errors as in `encode`; a DataFrame gives a wide one with every
        sample of its days.
        """
        return inference.impute(self, values)

    def forecast(self, values: Days, minutes: int) -> Any:
        """The last `minutes` of each day, (B, C, minutes / sample_minutes), predicted from what lies before;
        no B where none was given.

        What `values` holds there is not read. `minutes` must be a multiple of the minutes of a token. Units,
        types and other errors as in `encode`; a DataFrame gives a wide one with these samples.
        """
        return inference.forecast(self, values, minutes)

    def save_pretrained(self, path: Path | str) -> Path:
        """Write model.safetensors, config.json and, where the model has them, signals.json and gap_fill.json
        into the folder `path`, each whole or not at all.
        """
        return pretrained.save_model(
            Path(path), self.config, self.state_dict(), self.normalization, self.gap_fill
        )

    @classmethod
    def from_pretrained(cls, path_or_hub_id: Path | str) -> LSM2:
        """The model in a folder of `save_pretrained`, in a run folder, or in a repository of the Hugging Face
        hub (needs huggingface_hub).

        In evaluation mode, on the CPU. Raises InputError naming the file that is missing or damaged, or what
        does not fit.
        """
        folder = pretrained.find_model(path_or_hub_id)
        config, normalization = pretrained.load_settings(folder)
        model = cls(config, normalization, pretrained.load_gap_fill(folder, config))
        pretrained.load_weights(folder, model)
        return model.eval()
