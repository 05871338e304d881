"""Checkpoints: complete or not there, damage is noticed and named, old ones go."""

import shutil
from pathlib import Path

import pytest
import torch

from lsm2.errors import InputError
from lsm2.training.checkpoint import load_newest, save_checkpoint


def save(folder: Path, step: int, keep: int = 2) -> Path:
    tensors = {"model": {"a.weight": torch.full((3, 2), float(step))}, "optimizer": {}}
    return save_checkpoint(folder, step, tensors, {"step": step, "mean": 0.1 + 0.2}, keep)


def test_round_trip(tmp_path: Path) -> None:
    path = save(tmp_path / "checkpoints", 200)
    assert path.name == "step_00000200"
    assert sorted(file.name for file in path.iterdir()) == [
        "manifest.json",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]
    found = load_newest(tmp_path / "checkpoints")
    assert found is not None and found.path == path
    assert found.state == {"step": 200, "mean": 0.1 + 0.2}
    assert (
        torch.equal(found.tensors["model"]["a.weight"], torch.full((3, 2), 200.0))
        and found.tensors["optimizer"] == {}
    )


def test_no_checkpoint_yet(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "checkpoints") is None


def test_only_the_newest_stay_and_the_same_step_can_be_saved_again(tmp_path: Path) -> None:
    for step in (2, 4, 6, 6, 10):
        save(tmp_path, step)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["step_00000006", "step_00000010"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "weights cut": lambda path: cut(path / "model.safetensors"),
    "weights flipped": lambda path: flip(path / "model.safetensors"),
    "weights gone": lambda path: (path / "model.safetensors").unlink(),
    "state flipped": lambda path: flip(path / "state.json"),
    "manifest cut": lambda path: cut(path / "manifest.json"),
    "manifest gone": lambda path: (path / "manifest.json").unlink(),
    "manifest of something else": lambda path: (path / "manifest.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, damage) -> None:
    save(tmp_path, 2)
    damage(save(tmp_path, 4))
    with pytest.warns(RuntimeWarning, match="step_00000004 is damaged"):
        found = load_newest(tmp_path)
    assert found is not None and found.state["step"] == 2


def test_no_intact_checkpoint_is_an_error(tmp_path: Path) -> None:
    cut(save(tmp_path, 2) / "model.safetensors")
    with pytest.warns(RuntimeWarning), pytest.raises(InputError, match=r"no checkpoint in .* is intact"):
        load_newest(tmp_path)


def test_leftovers_of_a_crash_are_not_checkpoints(tmp_path: Path) -> None:
    whole = save(tmp_path, 2)
    for name in (".step_00000004.part", ".step_00000001.old"):
        shutil.copytree(whole, tmp_path / name)
    (tmp_path / ".step_00000004.part" / "manifest.json").unlink()
    found = load_newest(tmp_path)
    assert found is not None and found.path == whole
    save(tmp_path, 4)
    found = load_newest(tmp_path)
    assert found is not None and found.state["step"] == 4
