"""Checkpoints that a crash at any byte cannot spoil: written beside, hashed, and then given their name."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from lsm2.errors import InputError
from lsm2.files import file_sha256, fsync
from lsm2.model.pretrained import write_tensors

FORMAT_VERSION = 1
STATE, MANIFEST = "state.json", "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """What `load_newest` found."""

    path: Path
    state: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]
    """By file name without its ending, then by tensor name."""


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: dict[str, Any], keep: int
) -> Path:
    """Write folder/step_00000200: NAME.safetensors per entry of `tensors`, state.json, manifest.json; then
    delete all but `keep`.
    """
    path = folder / f"step_{step:08d}"
    part = folder / f".{path.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    (part / STATE).write_text(json.dumps(state, indent=1) + "\n")
    for name, values in tensors.items():
        write_tensors(values, part / f"{name}.safetensors", like=part / STATE)
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
        for file in sorted(part.iterdir())
    }
    for name in files:
        fsync(part / name)
    # Last, so that a folder with a manifest is complete.
    (part / MANIFEST).write_text(
        json.dumps({"format_version": FORMAT_VERSION, "files": files}, indent=1) + "\n"
    )
    fsync(part / MANIFEST)
    fsync(part)
    if path.exists():
        _delete(path)
    os.replace(part, path)
    fsync(folder)
    for old in _checkpoints(folder)[keep:]:
        _delete(old)
    return path


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest intact checkpoint of a folder, with a warning for each damaged one that is newer; None if
    there never was one.

    Raises InputError if there are checkpoints but none is intact.
    """
    damaged = []
    for path in _checkpoints(folder):
        try:
            return _load(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            damaged.append(path)
            warnings.warn(
                f"checkpoint {path} is damaged ({error}); looking for the one before",
                RuntimeWarning,
                stacklevel=2,
            )
    if damaged:
        raise InputError(
            f"no checkpoint in {folder} is intact; restore one from a copy, or train anew into another folder"
        )
    return None


def _load(path: Path) -> Checkpoint:
    manifest = json.loads((path / MANIFEST).read_bytes())
    if manifest["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format_version is {manifest['format_version']}, not {FORMAT_VERSION}")
    for name, expected in manifest["files"].items():
        if (path / name).stat().st_size != expected["bytes"]:
            raise ValueError(
                f"{name} has {(path / name).stat().st_size} bytes instead of {expected['bytes']}"
            )
        if file_sha256(path / name) != expected["sha256"]:
            raise ValueError(f"{name} has changed: its sha256 differs")
    tensors = {
        name.removesuffix(".safetensors"): load_file(path / name)
        for name in manifest["files"]
        if name.endswith(".safetensors")
    }
    return Checkpoint(path, json.loads((path / STATE).read_bytes()), tensors)


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("step_*"), reverse=True)


def _delete(path: Path) -> None:
    # Renamed first: half a deleted checkpoint must not look like a damaged one.
    leftover = path.with_name(f".{path.name}.old")
    shutil.rmtree(leftover, ignore_errors=True)
    os.replace(path, leftover)
    shutil.rmtree(leftover, ignore_errors=True)
