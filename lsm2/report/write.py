"""Draws the figures of a run into its folder and writes report.html beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lsm2.data.quality import describe
from lsm2.data.store import DayStore
from lsm2.evaluate.generative import fitting_normalization, spread_over_people
from lsm2.evaluate.tasks import TASKS
from lsm2.evaluate.trained_run import read_evaluation, trained_model, unseen_days
from lsm2.report.day_figure import plot_day
from lsm2.report.figures import plot_gap_error, plot_loss, plot_task_errors, require_matplotlib
from lsm2.report.page import render_page
from lsm2.run_folder import RunFolder

CANDIDATE_DAYS = 24
DAY_TASKS = ("random_80", "temporal_interpolation_180", "signal_imputation_2")


def write_report(run: RunFolder, store: DayStore | None) -> Path:
    """Write loss.png, task_errors.png, gap_error.png, pictures of days and report.html into the run folder; returns the page.

    Without an evaluation, a store or metrics the page says what is not there. Pictures of days that `lsm2 plot` wrote are shown too.
    """
    require_matplotlib()
    figures: dict[str, Path] = {}
    notes: list[str] = []
    evaluation = read_evaluation(run)
    if evaluation and evaluation["generative"]:
        plot_task_errors(run.path / "task_errors.png", evaluation)
        figures["Error of every method on every task"] = run.path / "task_errors.png"
        if any(
            info.get("minutes") and name in evaluation["generative"]
            for name, info in evaluation["tasks"].items()
        ):
            plot_gap_error(run.path / "gap_error.png", evaluation)
            figures["Error by length of the gap, and of the forecast"] = run.path / "gap_error.png"
    if any(line.get("loss") is not None for line in run.metrics):
        plot_loss(run.path / "loss.png", run.metrics)
        figures["Training loss"] = run.path / "loss.png"
    if store is None:
        notes.append(
            "The data store is not where it was in training, so no day is shown; `lsm2 report RUN --data STORE` names it."
        )
    elif not run.model_folder.is_dir():
        notes.append("Training has not reached a checkpoint, so no reconstruction is shown.")
    else:
        figures |= _day_pictures(run, store)
    for picture in sorted(run.path.glob("day-*.png")):
        if picture not in figures.values():
            figures[picture.stem] = picture
    page = render_page(
        name=run.path.resolve().name,
        config=run.config,
        metrics=run.metrics,
        evaluation=evaluation,
        cohort=describe(store) if store else None,
        figures={caption: file.read_bytes() for caption, file in figures.items()},
        notes=notes,
    )
    return run.write_text(run.report_file, page)


def day_picture(run: RunFolder, day_id: str, task: str) -> Path:
    """Where the picture of a day lies in its run folder."""
    return run.path / f"day-{''.join(c if c.isalnum() or c in '._-' else '_' for c in day_id)}-{task}.png"


def _day_pictures(run: RunFolder, store: DayStore) -> dict[str, Path]:
    """The fullest of some days of people whom training never saw (of anyone, where it saw all), under each kind of hiding."""
    model = trained_model(run)
    fitting_normalization(model, store)
    day_ids, subjects = store.days["day_id"].to_pylist(), store.days["subject"].to_pylist()
    days = unseen_days(run, store) or range(len(store))
    candidates = spread_over_people(days, day_ids, subjects, CANDIDATE_DAYS)
    fullest = max(candidates, key=lambda index: np.isfinite(store.values(index)).sum())
    pictures = {}
    for task in DAY_TASKS:
        path = day_picture(run, day_ids[fullest], task)
        if plot_day(path, model, store, day_ids[fullest], task):
            pictures[f"A day as the model sees it: {day_ids[fullest]}, {TASKS[task].label}"] = path
    return pictures
