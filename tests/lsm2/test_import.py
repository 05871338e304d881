"""Importing the trainer is cheap and brings nothing that is not used yet."""

import subprocess
import sys
from pathlib import Path

import pytest

CLONE = Path(__file__).parents[2]


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=CLONE, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize(
    "names",
    ["LSM2, LSM2Config, presets", "LSM2, presets; from lsm2.data import DayStore, collate"],
    ids=["model", "data"],
)
def test_import_brings_no_heavy_package(names: str) -> None:
    heavy = "triton matplotlib sklearn polars pandas pytest huggingface_hub"
    assert (
        run(
            f"from lsm2 import {names}; import sys; print([m for m in '{heavy}'.split() if m in sys.modules])"
        ).strip()
        == "[]"
    )


def test_import_adds_less_than_a_second_to_torch() -> None:
    # CPU time of this process: other programs on the machine do not count.
    seconds = run(
        "import torch, time; t = time.process_time(); from lsm2 import LSM2; LSM2; print(time.process_time() - t)"
    )
    assert float(seconds) < 1


def test_settings_do_not_wait_for_torch() -> None:
    assert run("import lsm2, sys; lsm2.presets.base(); print('torch' in sys.modules)").strip() == "False"
