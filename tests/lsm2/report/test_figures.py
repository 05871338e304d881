"""Figures and page: they are written, hold what they should, and need nothing from elsewhere."""

import json
import re
import struct
from html import escape
from pathlib import Path

import numpy as np
import pytest
from lsm2.run_folder import RunFolder

from lsm2.config import LSM2Config, TrainConfig
from lsm2.data.quality import describe
from lsm2.data.signals import LSM2_SIGNALS
from lsm2.data.store import DayStore
from lsm2.data.store.layout import Day
from lsm2.errors import InputError
from lsm2.evaluate.generative import FORMAT_VERSION, METHODS
from lsm2.evaluate.tasks import TASKS
from lsm2.report.day_figure import draw_day
from lsm2.report.figures import METHOD_LABELS, plot_gap_error, plot_loss, plot_task_errors
from lsm2.report.summary import gains_over_linear
from lsm2.report.write import write_report


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def made_up_evaluation(mse=None) -> dict:
    """An evaluation.json in which method number k has an mse of 1 + k / 10, unless given."""
    values = {method: 1 + number / 10 for number, method in enumerate(METHODS)} | (mse or {})
    result = {
        method: {
            "mse": value,
            "mae": value / 2,
            "mse_interval": [value - 0.1, value + 0.1],
            "num_minutes": 1234,
            "per_signal": {
                "heart_rate": {
                    "mse": value,
                    "mae": 1.0,
                    "rmse_in_unit": 3.0,
                    "mae_in_unit": 2.0,
                    "unit": "bpm",
                    "num_minutes": 1234,
                }
            },
        }
        for method, value in values.items()
    }
    aim_over = {"linear": {"mse_ratio": values["aim"] / (values["linear"] or 1), "interval": [0.4, 0.6]}}
    return {
        "format_version": FORMAT_VERSION,
        "generative": dict.fromkeys(TASKS, result),
        "tasks": {
            name: {"days_scored": 3, "days_skipped": 1, "minutes": task.amount, "aim_over": aim_over}
            for name, task in TASKS.items()
        },
        "constant_signals": [],
        "settings": {"num_days": 3, "num_people": 2, "draws": 1, "seed": 0},
    }


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


@pytest.mark.parametrize("num_signals", [2, 26])
def test_day_picture_is_drawn_with_every_look(tmp_path, num_signals):
    rng = np.random.default_rng(0)
    measured = rng.normal(size=(num_signals, 288)).astype(np.float32)
    measured[:, :40] = np.nan
    hidden = np.zeros(measured.shape, dtype=bool)
    hidden[:, 100:160] = True
    draw_day(
        tmp_path / "day.png",
        title="a day",
        signal_names=[signal.name for signal in LSM2_SIGNALS[:num_signals]],
        measured=measured,
        hidden=hidden,
        seen=~hidden & ~np.isnan(measured),
        reconstructed=np.where(hidden, np.float32(0.5), np.float32(np.nan)),
        sample_minutes=5,
    )
    width, height = png_size(tmp_path / "day.png")
    assert width > 1000 and height > 300


def test_figures_of_an_evaluation_are_drawn(tmp_path):
    plot_gap_error(tmp_path / "gap.png", made_up_evaluation())
    plot_task_errors(tmp_path / "tasks.png", made_up_evaluation())
    plot_loss(
        tmp_path / "loss.png",
        [{"step": 1, "loss": 1.0}, {"step": 2, "loss": float("nan")}, {"step": 3, "loss": 0.5}],
    )
    for name in ("gap", "tasks", "loss"):
        assert png_size(tmp_path / f"{name}.png")[0] > 500


def test_page_without_evaluation_and_store_says_so(run):
    page = write_report(run, None).read_text()
    assert "Not evaluated yet" in page and "no day is shown" in page
    assert page.count("<img") == 1


def test_an_evaluation_of_an_older_lsm2_is_refused_with_what_to_do(run):
    (run.path / "evaluation.json").write_text(json.dumps(made_up_evaluation() | {"format_version": 1}))
    with pytest.raises(
        InputError, match=r"evaluation\.json is of an older lsm2; write it anew with `lsm2 evaluate`"
    ):
        write_report(run, None)


def test_page_is_self_contained_and_shows_the_numbers(run):
    (run.path / "evaluation.json").write_text(json.dumps(made_up_evaluation()))
    page = write_report(run, None).read_text()
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r"(src|href)=[\"'](?!data:)|<script|@import|url\(", page)
    assert all(escape(label) in page for label in (*METHOD_LABELS.values(), "random 80 %", "gap 180 min"))
    assert '<td class="best">1.000</td>' in page
    assert "prefers-color-scheme: dark" in page
    assert not list(run.path.glob(".*.part"))


def test_gains_are_stated_also_when_the_model_lost():
    won = gains_over_linear(made_up_evaluation({"aim": 0.5, "linear": 1.0}))
    assert "50% lower" in won[0] and "0.40 to 0.60 with 95 % over people" in won[0] and len(won) == 2
    lost = gains_over_linear(made_up_evaluation({"aim": 1.5, "linear": 1.0, "mean": 0.2}))
    assert "50% HIGHER" in lost[0] and "best: mean" in lost[0]


def test_fills_without_error_are_no_division_by_zero():
    assert gains_over_linear(made_up_evaluation({"aim": 0.0, "linear": 0.0})) == []


def test_cohort_counts_each_missing_minute_once(tmp_path):
    signals = LSM2_SIGNALS[:3] + LSM2_SIGNALS[23:25]
    values = np.ones((5, 1440), dtype=np.float32)
    values[:, :144] = np.nan
    values[0] = np.nan
    values[3:, 144:288] = np.nan
    values[2, 288:300] = np.nan
    store = DayStore.write(tmp_path / "store", signals, [Day("ann", "2026-01-01", values)])
    cohort = describe(store)
    cells = 5 * 1440
    assert cohort["missing_kinds"] == pytest.approx(
        {"device": 720 / cells, "day": 1296 / cells, "sensor": 288 / cells, "signal": 12 / cells}
    )
    assert cohort["missing"] == pytest.approx(float(np.isnan(values).mean()))
    assert cohort["per_signal"][0]["quantiles"] is None
    assert cohort["per_signal"][2]["median_gap_minutes"] == (144 + 12) / 2
