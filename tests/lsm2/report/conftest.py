"""A made-up evaluation, and a run folder without a model."""

import json
from collections.abc import Callable

import pytest

from lsm2.config import LSM2Config, TrainConfig
from lsm2.evaluate.methods import OtherRun, compared_methods
from lsm2.evaluate.results import Comparison, Evaluation, MethodResult, Settings, SignalResult, TaskResult
from lsm2.evaluate.tasks import TASKS
from lsm2.run_folder import RunFolder

INTERVAL = (0.4, 0.6)


@pytest.fixture
def made_up_evaluation() -> Callable[..., Evaluation]:
    """An evaluation in which method number k has an mse of 1 + k / 10 on every task, unless given."""

    def make(
        mse: dict[str, float] | None = None,
        signal: str = "heart_rate",
        unit: str = "bpm",
        other_runs: tuple[OtherRun, ...] = (),
    ) -> Evaluation:
        values = {method: 1 + number / 10 for number, method in enumerate(compared_methods(other_runs))} | (
            mse or {}
        )
        methods = {
            method: MethodResult(
                mse=value,
                mae=value / 2,
                num_minutes=1234,
                mse_interval=(value - 0.1, value + 0.1),
                per_signal={signal: SignalResult(value, 1.0, 3.0, 2.0, unit, 1234)},
            )
            for method, value in values.items()
        }
        aim_over = {
            method: Comparison(values["aim"] / value if value else None, INTERVAL)
            for method, value in values.items()
            if method != "aim"
        }
        tasks = {
            name: TaskResult(3, 1, task.amount if task.is_temporal else None, methods, aim_over)
            for name, task in TASKS.items()
        }
        settings = Settings(
            1, 0, 3, 2, "fp32", "a machine, 2 cores", "lsm2 0", "2026-11-24T12:00:00+00:00", "store"
        )
        return Evaluation(tasks, settings, other_runs=other_runs)

    return make


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A run folder with settings and metrics as `lsm2 pretrain` writes them, its last line cut short."""
    config = {
        "format_version": 2,
        "model": LSM2Config().to_dict(),
        "train": vars(TrainConfig()),
        "train_subjects": ["a", "b"],
        "heldout_subjects": ["<c>"],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    lines = [json.dumps({"step": step, "loss": 1 / (1 + step / 50)}) for step in range(1, 60)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 60, "lo']))
    return RunFolder(tmp_path)
