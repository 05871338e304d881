"""The run folder before the first step: what may be written where, and whether a resumed run is still the same run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lsm2.config import LSM2Config, TrainConfig
from lsm2.data.durable import write_whole
from lsm2.data.split import heldout_subjects
from lsm2.data.store import DayStore
from lsm2.errors import InputError
from lsm2.model.precision import choose_precision
from lsm2.training.ranks import Ranks

CONFIG = "config.json"
FORMAT_VERSION = 1
MAY_CHANGE = {
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.num_workers",
    "train.non_finite",
    "train.device",
    "train.activation_checkpointing",
    "train.compile",
    "store.path",
}
"""Settings that do not change what is computed, but for the rounding of another device or of compiled code."""


def run_settings(model: LSM2Config, train: TrainConfig, store: DayStore) -> dict[str, Any]:
    """What config.json holds; raises InputError where model and store do not fit or nobody would be left to train on."""
    for name, ours, theirs in (
        ("num_signals", model.num_signals, len(store.signals)),
        ("window_minutes", model.window_minutes, store.num_samples),
    ):
        if ours != theirs:
            raise InputError(f"{name} is {ours} in the model configuration; store {store.path} has {theirs}: set {name} to {theirs}")
    heldout = heldout_subjects(store.subjects, train.heldout_fraction, train.seed)
    if not len(store):
        raise InputError(f"store {store.path} has no days; import or simulate some first")
    return {
        "format_version": FORMAT_VERSION,
        "model": model.to_dict(),
        "train": {name: getattr(train, name) for name in train.__dataclass_fields__},
        "train_subjects": [subject for subject in store.subjects if subject not in heldout],
        "heldout_subjects": sorted(heldout),
        "store": {
            "path": str(Path(store.path).resolve()),
            "sha256": store.manifest["sha256"],
            "num_days": len(store),
            "epoch_minutes": store.epoch_minutes,
        },
    }


def settle_precision(train: TrainConfig, out: Path, resume: bool, ranks: Ranks) -> TrainConfig:
    """The settings with `auto` replaced by a precision: the run's own where one is resumed, else what is faster on rank 0."""
    if train.precision != "auto":
        return train
    settled = None
    if resume and (out / CONFIG).is_file():
        settled = read_settings(out / CONFIG).get("train", {}).get("precision")
    return dataclasses.replace(train, precision=ranks.from_first(settled or choose_precision("auto", ranks.device)))


def begin_run(out: Path, settings: dict[str, Any], resume: bool) -> None:
    """Make the run folder and its config.json, or with `resume` find out that it holds the same run.

    Raises InputError, and changes nothing, for a folder in use or a run with other settings.
    """
    file = out / CONFIG
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a folder for the run")
    if file.is_file() and resume:
        _check_same(file, settings)
    elif out.is_dir() and any(out.iterdir()):
        found = "already holds a run; add --resume to continue it, or" if file.is_file() else "is not empty and holds no run;"
        raise InputError(f"{out} {found} choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    write_whole(file, lambda part: part.write_text(json.dumps(settings, indent=1) + "\n"))


def read_settings(file: Path) -> dict[str, Any]:
    """What config.json holds; raises InputError where it cannot be read."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}); restore it, or train anew into another folder") from None


def _check_same(file: Path, settings: dict[str, Any]) -> None:
    before, now = dict(_flat(read_settings(file))), dict(_flat(settings))
    for name in sorted((before.keys() | now.keys()) - MAY_CHANGE):
        if before.get(name) != now.get(name):
            raise InputError(
                f"{file.parent} was trained with {name} = {before.get(name)!r}, now it is {now.get(name)!r}; "
                "resume with the same settings and data, or train anew into another folder"
            )


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
