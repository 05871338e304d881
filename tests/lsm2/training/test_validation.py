"""Held-out people scored during training: what it changes (nothing), what it writes, when it ends a run."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lsm2 import LSM2
from lsm2.config import LSM2Config, TrainConfig
from lsm2.data import DayStore
from lsm2.errors import InputError
from lsm2.evaluate.trained_run import unseen_days
from lsm2.evaluate.validation import prepare_validation
from lsm2.run_folder import RunFolder
from lsm2.training import pretrain
from lsm2.training.validation import TaskScore, Validations

CLOCK = {"days_per_second", "visible_tokens_per_second", "loader_wait", "seconds"}


def saying(errors: Sequence[float]):
    """Instead of scores on real days: these errors, one validation after the other."""
    left = list(errors)
    return lambda model, store, heldout, training: (
        lambda model: [TaskScore("task", left.pop(0), "linear", 1.0)]
    )


def validations_of(run: Path) -> list[dict]:
    return [line for line in RunFolder(run).metrics if "validation" in line]


@pytest.fixture
def settings(small_train_config: TrainConfig) -> TrainConfig:
    """Two of the four people are held out."""
    return dataclasses.replace(small_train_config, heldout_fraction=0.5)


def test_validation_changes_no_weight(
    tiny_config: LSM2Config, settings: TrainConfig, small_store: DayStore, tmp_path: Path
) -> None:
    pretrain(tiny_config, settings, small_store, tmp_path / "without")
    validating = dataclasses.replace(settings, validate_every=3)
    pretrain(tiny_config, validating, small_store, tmp_path / "with", validate=prepare_validation)
    one, two = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("without", "with"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert [line["step"] for line in validations_of(tmp_path / "with")] == [3, 6, 8]
    # The last validation is of the model that was saved.
    model = LSM2.from_pretrained(tmp_path / "with")
    model.precision = "fp32"
    run = RunFolder(tmp_path / "with")
    training = small_store.indices_of(run.config["train_subjects"])
    scores = prepare_validation(model, small_store, unseen_days(run, small_store), training)(model)
    written = validations_of(run.path)[-1]["validation"]
    assert [score.error for score in scores] == pytest.approx([score["error"] for score in written])


def test_a_resumed_run_goes_on_validating(
    tiny_config: LSM2Config, settings: TrainConfig, small_store: DayStore, tmp_path: Path
) -> None:
    validating = dataclasses.replace(settings, validate_every=3)
    for run, stops in (("whole", [None]), ("parts", [5, None])):
        for number, stop in enumerate(stops):
            pretrain(
                tiny_config, validating, small_store, tmp_path / run,
                resume=number > 0, stop_after=stop, validate=prepare_validation,
            )  # fmt: skip
    whole, parts = (
        [(line["step"], line["validation"]) for line in validations_of(tmp_path / run)]
        for run in ("whole", "parts")
    )
    assert dict(whole).items() <= dict(parts).items() and [step for step, _ in parts] == [3, 5, 6, 8]


def test_patience_ends_the_run_with_its_best_model(
    tiny_config: LSM2Config, settings: TrainConfig, small_store: DayStore, tmp_path: Path, capsys
) -> None:
    patient = dataclasses.replace(settings, validate_every=1, patience=2)
    run = tmp_path / "run"
    errors = [1.0, 0.8, 0.9, 0.95, 0.7, 0.6]
    assert pretrain(tiny_config, patient, small_store, run, validate=saying(errors)) == run
    assert "ended early: 2 validations brought nothing better than step 2" in capsys.readouterr().err
    pretrain(tiny_config, settings, small_store, tmp_path / "best", stop_after=2)
    best, kept = (load_file(path / "model" / "model.safetensors") for path in (tmp_path / "best", run))
    assert all(torch.equal(best[name], kept[name]) for name in best)
    # Resuming finds that nothing is left to do, and leaves the best model.
    pretrain(tiny_config, patient, small_store, run, resume=True, validate=saying([]))
    again = load_file(run / "model" / "model.safetensors")
    assert all(torch.equal(again[name], kept[name]) for name in kept)


def test_who_ended_a_run_does_not_judge_it(
    tiny_config: LSM2Config, settings: TrainConfig, small_store: DayStore, tmp_path: Path
) -> None:
    patient = dataclasses.replace(settings, validate_every=4, patience=5)
    run = pretrain(tiny_config, patient, small_store, tmp_path / "run", validate=prepare_validation)
    config = json.loads((run / "config.json").read_text())
    (judge,), (ended,) = config["heldout_subjects"], config["validation_subjects"]
    assert judge != ended and not {judge, ended} & set(config["train_subjects"])
    subjects = small_store.days["subject"].to_pylist()
    assert {subjects[day] for day in unseen_days(RunFolder(run), small_store)} == {judge}


def test_over_fitting_is_told_once(
    tiny_config: LSM2Config, settings: TrainConfig, small_store: DayStore, tmp_path: Path, capsys
) -> None:
    errors = [1.0, 0.8, 0.9, 0.95, 0.96, 0.97, 0.98, 0.99]
    validating = dataclasses.replace(settings, validate_every=1)
    pretrain(tiny_config, validating, small_store, tmp_path / "run", validate=saying(errors))
    told = capsys.readouterr().err
    assert told.count("held-out people were best after step 2 and get worse since") == 1
    steady = Validations(None)
    for step, error in enumerate([1.0, 0.8, 0.81, 0.805, 0.9], start=1):
        steady.add(step, [TaskScore("task", error, "linear", 1.0)])
        assert not steady.overfits


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"patience": 2}, "validate_every"),
        ({"validate_every": 0}, "validate_every"),
        ({"validate_every": 2, "heldout_fraction": 0.0}, "nobody is held out"),
        ({"validate_every": 2, "patience": 2, "heldout_fraction": 0.25}, "one person is held out"),
    ],
)
def test_settings_that_cannot_hold(
    changes: dict,
    named: str,
    tiny_config: LSM2Config,
    small_train_config: TrainConfig,
    small_store: DayStore,
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match=named):
        config = dataclasses.replace(small_train_config, **changes)
        pretrain(tiny_config, config, small_store, tmp_path / "run", validate=prepare_validation)


def test_validating_needs_something_that_validates(
    tiny_config: LSM2Config, settings: TrainConfig, small_store: DayStore, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="prepare_validation"):
        pretrain(tiny_config, dataclasses.replace(settings, validate_every=2), small_store, tmp_path / "run")
