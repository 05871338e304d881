"""The settings of a run as config.json holds them, settled before the first step."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from lsm2.config import LSM2Config, TrainConfig
from lsm2.data.splits import heldout_subjects
from lsm2.data.store import DayStore
from lsm2.errors import InputError
from lsm2.model.precision import choose_precision
from lsm2.run_folder import FORMAT_VERSION, RunFolder
from lsm2.training.parallel import Ranks


def run_settings(
    model_config: LSM2Config, train_config: TrainConfig, store: DayStore, initial: str | None
) -> dict[str, Any]:
    """What config.json holds; raises InputError where model and store do not fit or nobody would be left to
    train on.
    """
    for name, ours, theirs in (
        ("num_signals", model_config.num_signals, len(store.signals)),
        ("sample_minutes", model_config.sample_minutes, store.sample_minutes),
        ("window_minutes", model_config.window_minutes, store.num_samples * store.sample_minutes),
    ):
        if ours != theirs:
            raise InputError(
                f"{name} is {ours} in the model configuration; store {store.path} has {theirs}: set {name} "
                f"to {theirs}"
            )
    heldout = heldout_subjects(store.subjects, train_config.heldout_fraction, train_config.seed)
    stopping = _who_says_when_to_stop(heldout, train_config)
    if not len(store):
        raise InputError(f"store {store.path} has no days; import or simulate some first")
    return {
        "format_version": FORMAT_VERSION,
        "model": model_config.to_dict(),
        "train": dataclasses.asdict(train_config),
        "initial": initial,
        "train_subjects": [subject for subject in store.subjects if subject not in heldout],
        "validation_subjects": sorted(stopping),
        "heldout_subjects": sorted(heldout - stopping),
        "store": {
            "path": str(Path(store.path).resolve()),
            "sha256": store.manifest["sha256"],
            "num_days": len(store),
            "sample_minutes": store.sample_minutes,
        },
    }


def _who_says_when_to_stop(heldout: frozenset[str], train_config: TrainConfig) -> frozenset[str]:
    """Half of the held-out people where they decide when training ends: the others still judge the model."""
    if train_config.validate_every is not None and not heldout:
        raise InputError(
            f"validate_every is {train_config.validate_every} and nobody is held out: raise heldout_fraction "
            f"= {train_config.heldout_fraction}, or give days of more people"
        )
    if train_config.patience is None:
        return frozenset()
    if len(heldout) < 2:
        raise InputError(
            f"patience is {train_config.patience} and one person is held out: one must say when to stop and "
            f"another judge the model; raise heldout_fraction = {train_config.heldout_fraction}"
        )
    return heldout_subjects(heldout, 0.5, train_config.seed)


def settle(
    train_config: TrainConfig, initial: Path | str | None, run: RunFolder, resume: bool, ranks: Ranks
) -> tuple[TrainConfig, str | None]:
    """The settings with `auto` replaced by a precision, and where the weights begin.

    A resumed run keeps both; otherwise the precision is the one that is faster on rank 0.
    """
    before = run.config if resume and run.config_file.is_file() else {}
    begun_from = str(initial) if initial is not None else None
    if before:
        begun_from = before["initial"]
    precision = train_config.precision
    if precision == "auto":
        precision = before.get("train", {}).get("precision") or choose_precision("auto", ranks.device)
    return dataclasses.replace(train_config, precision=ranks.from_first(precision)), begun_from
