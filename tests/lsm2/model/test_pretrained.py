"""Models on disk: what is saved comes back, and what is missing, damaged or foreign is named."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lsm2 import LSM2, LSM2Config
from lsm2.data import Normalization, Signal
from lsm2.errors import InputError
from lsm2.model.pretrained import write_tensors

NORMALIZATION = Normalization(
    (Signal("a", "bpm"), Signal("b", "ms", transform="log1p"), Signal("c")),
    np.array([60.1, 3.0, 0.1]),
    np.ones(3),
)


@pytest.fixture
def saved(tmp_path: Path, tiny_config: LSM2Config) -> Path:
    return LSM2(tiny_config, NORMALIZATION).save_pretrained(tmp_path / "model")


def test_round_trip(saved: Path, tiny_config: LSM2Config) -> None:
    model = LSM2.from_pretrained(saved)
    assert not model.training
    assert model.config == tiny_config
    assert model.normalization is not None and model.normalization.to_dict() == NORMALIZATION.to_dict()
    weights = load_file(saved / "model.safetensors")
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert sorted(file.name for file in saved.iterdir()) == [
        "config.json",
        "model.safetensors",
        "signals.json",
    ]


def test_saving_again_replaces(saved: Path, tiny_config: LSM2Config) -> None:
    other = LSM2(tiny_config)
    other.save_pretrained(saved)
    assert torch.equal(LSM2.from_pretrained(saved).encoder.embed.weight, other.encoder.embed.weight)


def test_run_folder_and_text_path(saved: Path) -> None:
    assert LSM2.from_pretrained(str(saved.parent)).normalization is not None


def test_without_normalization(tmp_path: Path, tiny_config: LSM2Config) -> None:
    assert LSM2.from_pretrained(LSM2(tiny_config).save_pretrained(tmp_path)).normalization is None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no model"),
        (lambda folder: cut(folder / "model.safetensors"), "model.safetensors is damaged or cut short"),
        (lambda folder: cut(folder / "config.json"), "config.json cannot be read"),
        (lambda folder: cut(folder / "signals.json"), "signals.json cannot be read"),
        (lambda folder: edit(folder / "config.json", format_version=99), "format_version 99"),
        (lambda folder: edit(folder / "config.json", depth=3), "unknown setting depth"),
        (lambda folder: edit(folder / "config.json", encoder_heads=5), "encoder_heads"),
        (lambda folder: edit(folder / "config.json", encoder_depth=2), "encoder.blocks.1.*is missing"),
        (
            lambda folder: edit(folder / "config.json", patch_minutes=20),
            r"has shape \(32, 10\) instead of \(32, 20\)",
        ),
        (lambda folder: edit(folder / "config.json", num_signals=4), "3 signals, config.json says 4"),
        (lambda folder: edit(folder / "signals.json", mean=[1.0]), "does not describe a model"),
    ],
    ids=[
        "no config", "no weights", "weights cut", "config cut", "signals cut", "newer format",
        "unknown setting", "impossible setting", "more blocks", "other patch", "other signals",
        "means missing",
    ],
)  # fmt: skip
def test_damage_is_named(saved: Path, damage, named: str) -> None:
    damage(saved)
    with pytest.raises(InputError, match=named):
        LSM2.from_pretrained(saved)


def test_foreign_weights_are_named(saved: Path) -> None:
    save_file(
        load_file(saved / "model.safetensors") | {"surprise": torch.zeros(1)}, saved / "model.safetensors"
    )
    with pytest.raises(InputError, match="surprise is not expected"):
        LSM2.from_pretrained(saved)


@pytest.mark.parametrize("name", ["nowhere", "some/where/else"])
def test_a_path_that_does_not_exist(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} does not exist"):
        LSM2.from_pretrained(name)


def test_weights_that_cannot_be_written_are_an_oserror_that_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "no folder" / "model.safetensors"
    with pytest.raises(OSError, match=f"{file} could not be written"):
        write_tensors({"a": torch.zeros(3)}, file, like=tmp_path)
