"""A run folder: when training may begin or go on in it, and how its files are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lsm2.errors import InputError
from lsm2.run_folder import FORMAT_VERSION, RunFolder

SETTINGS = {
    "format_version": FORMAT_VERSION,
    "train": {"steps": 10, "learning_rate": 0.1, "device": "cpu"},
    "train_subjects": ["a", "b"],
    "store": {"path": "somewhere"},
}


def changed(section: str, **changes: object) -> dict:
    return SETTINGS | {section: SETTINGS[section] | changes}


def test_a_run_begins_goes_on_and_can_be_made_longer(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run").begin(SETTINGS, resume=False)
    RunFolder(tmp_path / "run").begin(changed("train", device="cuda"), resume=True)
    RunFolder(tmp_path / "run").begin(changed("train", steps=20), resume=True)
    assert RunFolder(tmp_path / "run").config["train"]["steps"] == 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            changed("train", learning_rate=0.2),
            r"train\.learning_rate = 0\.1, now it is 0\.2; resume with the same",
        ),
        (changed("train", steps=9), "made longer, not shorter"),
        (SETTINGS | {"train_subjects": ["a"] * 20_000}, r"other train subjects \(2 of them, now 20000\)"),
    ],
    ids=["other rate", "fewer steps", "other people"],
)
def test_another_run_is_refused_in_few_words(tmp_path: Path, settings: dict, message: str) -> None:
    run = RunFolder(tmp_path / "run")
    run.begin(SETTINGS, resume=False)
    before = run.config_file.read_bytes()
    with pytest.raises(InputError, match=message) as refusal:
        run.begin(settings, resume=True)
    assert len(str(refusal.value)) < 400
    assert run.config_file.read_bytes() == before


def test_a_run_of_another_format_is_refused(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.config_file.write_text(json.dumps(SETTINGS | {"format_version": 1}))
    with pytest.raises(
        InputError, match="has format_version 1, this lsm2 reads 2; use the lsm2 that wrote it"
    ):
        _ = run.config


def test_metrics_without_a_last_line_that_was_cut_short(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.metrics == []
    run = RunFolder(tmp_path)
    run.metrics_file.write_bytes(b'{"step": 1}\n{"step": 2}\n{"st\xff')
    assert [line["step"] for line in run.metrics] == [1, 2]
    run = RunFolder(tmp_path)
    run.metrics_file.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(InputError, match="line 2 is not JSON"):
        _ = run.metrics
