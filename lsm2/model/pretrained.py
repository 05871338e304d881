"""A model on disk: weights in safetensors, settings in JSON; reading one runs no code."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lsm2.config import LSM2Config
from lsm2.data.fills.gaps import GapFill
from lsm2.data.normalize import Normalization
from lsm2.errors import InputError
from lsm2.files import read_json, write_json, write_whole

WEIGHTS, CONFIG, SIGNALS = "model.safetensors", "config.json", "signals.json"
GAP_FILL = "gap_fill.json"
FORMAT_VERSION = 2
_RESTORE = "restore it, or save the model again"


def save_model(
    folder: Path,
    config: LSM2Config,
    weights: Mapping[str, Tensor],
    normalization: Normalization | None,
    gap_fill: GapFill | None = None,
) -> Path:
    """Write a model into `folder`; a reader finds each file old or new, never a part of it."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"format_version": FORMAT_VERSION, **config.to_dict()}
    write_json(folder / CONFIG, settings)
    if normalization is not None:
        write_json(folder / SIGNALS, normalization.to_dict())
    if gap_fill is not None:
        write_json(folder / GAP_FILL, gap_fill.to_dict())
    write_whole(folder / WEIGHTS, lambda part: write_tensors(weights, part, like=folder / CONFIG))
    return folder


def write_tensors(tensors: Mapping[str, Tensor], file: Path, like: Path) -> None:
    """Write named tensors as safetensors, readable by whoever may read the file `like`.

    Raises OSError naming the file where it cannot be written; safetensors' own error is no OSError.
    """
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(on_cpu, file, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(f"{file} could not be written ({error}); make room there") from error
    shutil.copymode(like, file)


def find_model(path_or_hub_id: Path | str) -> Path:
    """The folder with the model's files: this one, its model/ if it is a run, or a download from the Hugging
    Face hub.
    """
    path = Path(path_or_hub_id)
    for folder in (path / "model", path):
        if (folder / WEIGHTS).is_file():
            return folder
    if path.exists():
        raise InputError(
            f"{path} holds no model: it has neither {WEIGHTS} nor model/{WEIGHTS}; give a folder of `lsm2 "
            "pretrain` or `save_pretrained`"
        )
    return _download(str(path_or_hub_id))


def _download(hub_id: str) -> Path:
    if hub_id.count("/") != 1:
        raise InputError(
            f"{hub_id} does not exist; give a model folder, a run folder, or a hub id such as name/model"
        )
    try:
        from huggingface_hub import snapshot_download  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            f"no folder {hub_id} exists; if it is a model of the Hugging Face hub, `pip install "
            "huggingface_hub` first"
        ) from None
    try:
        return Path(snapshot_download(hub_id, allow_patterns=[WEIGHTS, CONFIG, SIGNALS, GAP_FILL]))
    except (
        Exception
    ) as error:  # whatever the network or the hub says, the user needs to hear it once, in one line
        raise InputError(
            f"no folder {hub_id} exists, and the Hugging Face hub did not give a model of that name: {error}"
        ) from error


def load_settings(folder: Path) -> tuple[LSM2Config, Normalization | None]:
    """Configuration and normalisation of a model folder."""
    values = read_json(folder / CONFIG, _RESTORE)
    version = values.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise InputError(
            f"{folder / CONFIG} has format_version {version!r}, this lsm2 reads {FORMAT_VERSION}; use the "
            "lsm2 that wrote it, or train anew"
        )
    try:
        config = LSM2Config.from_dict(values)
        normalization = (
            Normalization.from_dict(read_json(folder / SIGNALS, _RESTORE))
            if (folder / SIGNALS).exists()
            else None
        )
    except (KeyError, TypeError, AttributeError, InputError) as error:
        raise InputError(
            f"{folder}: {CONFIG} or {SIGNALS} does not describe a model ({error}); restore the file, or save "
            "the model again"
        ) from None
    if normalization is not None and len(normalization.signals) != config.num_signals:
        raise InputError(
            f"{folder / SIGNALS} has {len(normalization.signals)} signals, {CONFIG} says "
            f"{config.num_signals}; restore the right file"
        )
    return config, normalization


def load_gap_fill(folder: Path, config: LSM2Config) -> GapFill | None:
    """What fills the gaps of days for the model of a folder; None where its configuration fills none."""
    if config.fill_gaps == "none":
        return None
    file = folder / GAP_FILL
    try:
        gap_fill = GapFill.from_dict(read_json(file, _RESTORE))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file} does not describe how gaps are filled ({error!r}); {_RESTORE}") from None
    if not gap_fill.fits(config):
        raise InputError(f"{file} fills other days than those of {folder / CONFIG}; {_RESTORE}")
    return gap_fill


def load_weights(folder: Path, model: nn.Module) -> None:
    """Fill a model with the weights of a folder; every name and shape must be the model's."""
    file = folder / WEIGHTS
    try:
        weights = load_file(file)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{file} is damaged or cut short ({error}); restore it, or save the model again"
        ) from None
    if different := differences(model, weights):
        raise InputError(
            f"{file} does not fit {folder / CONFIG}: {different}; restore the pair that was saved together"
        )
    model.load_state_dict(weights)


def differences(model: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """What of named weights does not fit a model, in words; empty where all fit."""
    ours = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    theirs = {name: tuple(weight.shape) for name, weight in weights.items()}
    found = [f"{name} is missing" for name in ours if name not in theirs]
    found += [f"{name} is not expected" for name in theirs if name not in ours]
    found += [
        f"{name} has shape {theirs[name]} instead of {shape}"
        for name, shape in ours.items()
        if theirs.get(name, shape) != shape
    ]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more
