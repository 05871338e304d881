"""report.html: one self-contained page about a run, readable in light and dark; its figures lie beside it
as PNG.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path

import numpy as np
import torch

from lsm2.data.quality import describe
from lsm2.data.store import DayStore
from lsm2.errors import InputError
from lsm2.evaluate.days import fitting_normalization, spread_over_people
from lsm2.evaluate.machine import describe_machine, describe_versions
from lsm2.evaluate.methods import METHODS
from lsm2.evaluate.one_day import ReconstructedDay, reconstruct_day
from lsm2.evaluate.probes.labelled_run import read_probes
from lsm2.evaluate.probes.results import ProbeResult
from lsm2.evaluate.results import Evaluation
from lsm2.evaluate.tasks import TASKS
from lsm2.evaluate.trained_run import read_evaluation, trained_model, unseen_days
from lsm2.files import file_name
from lsm2.progress import printable
from lsm2.report.day_figure import plot_curves, plot_day
from lsm2.report.figures import plot_gap_error, plot_loss, plot_task_errors, require_matplotlib
from lsm2.report.html import definitions, document, figure, paragraphs, section
from lsm2.report.probes import EXPLANATION, plot_probe, probe_section
from lsm2.report.sections import (
    cohort_section,
    error_tables,
    errors_in_units,
    explanations,
    settings_section,
)
from lsm2.report.summary import headline, spelled_out
from lsm2.run_folder import RunFolder

TITLE = "How well a model fills gaps in wearable-sensor days"
CANDIDATE_DAYS = 24
DAY_TASKS = ("random_80", "temporal_interpolation_180", "signal_imputation_2")
CURVE_TASKS = ("random_80", "temporal_interpolation_180")
Figures = dict[str, Path]
"""PNGs by caption."""


def write_report(run: RunFolder, store: DayStore | None) -> Path:
    """Write figures, pictures of a day and report.html into the run folder; returns the page.

    Without an evaluation, a store or metrics the page says what is missing. It also shows pictures that
    `lsm2 plot` wrote.
    """
    require_matplotlib()
    evaluation = read_evaluation(run)
    notes: list[str] = []
    curves: Figures = {}
    days: Figures = {}
    if store is None:
        notes.append(
            "The data store is not where it was in training, so no day is shown; "
            "`lsm2 report RUN --data STORE` names it."
        )
    elif not run.model_folder.is_dir():
        notes.append("Training has not reached a checkpoint, so no reconstruction is shown.")
    else:
        curves, days = _day_figures(run, store)
    for picture in sorted(run.path.glob("day-*.png")):
        if picture not in days.values():
            days[picture.stem] = picture
    page = render_page(
        run=run,
        evaluation=evaluation,
        store=store,
        curves=curves,
        errors=_error_figures(run, evaluation),
        days=days,
        training=_training_figures(run),
        probes=_probe_figures(run),
        notes=notes,
    )
    return run.write_text(run.report_file, page)


def write_day_picture(run: RunFolder, store: DayStore, day_id: str, task: str) -> Path:
    """Write the picture of one day into the run folder; raises InputError where the task cannot be done on
    it.
    """
    require_matplotlib()
    path = day_picture(run, day_id, task)
    day = reconstruct_day(trained_model(run), store, day_id, task)
    if day is None:
        raise InputError(f"day {day_id!r} has too little data for {task}; choose another day or task")
    plot_day(path, day)
    return path


def day_picture(run: RunFolder, day_id: str, task: str) -> Path:
    """Where the picture of a day lies in its run folder."""
    return run.path / f"day-{file_name(day_id)}-{task}.png"


def render_page(
    *,
    run: RunFolder,
    evaluation: Evaluation | None,
    store: DayStore | None,
    curves: Figures,
    errors: Figures,
    days: Figures,
    training: Figures,
    probes: Sequence[tuple[ProbeResult, Path]] = (),
    notes: Sequence[str] = (),
) -> str:
    """The page as HTML, with these figures in their sections; notes say what could not be shown, and why."""
    config = run.config
    people = f"{len(config['train_subjects'])} people"
    purpose = (
        f"A masked autoencoder (AIM) was trained on days of {people} to fill in data that is missing. "
        "This page says how well it fills in parts of days that were measured but hidden from it, beside "
        "simple methods that see the same."
    )
    parts = [
        f"<h1>{escape(TITLE)}</h1>",
        paragraphs([purpose]),
        definitions(_facts(run, evaluation, store), "grid"),
        f'<div class="headline">{paragraphs(_headline(evaluation))}</div>',
        paragraphs(notes),
        _figures(curves),
    ]
    if evaluation and evaluation.scored:
        parts.append(
            section(
                "How to read the numbers",
                explanations(evaluation.methods.values() if evaluation else METHODS.values()),
            )
        )
        parts.append(section("Errors of every method", error_tables(evaluation) + _figures(errors)))
        parts.append(section("Errors in the signals' units", errors_in_units(evaluation)))
    if probes:
        parts.append(section("What the embeddings know", paragraphs([EXPLANATION])))
    for probe, picture in probes:
        title = f"Probe: {spelled_out(probe.target)}"
        parts.append(section(title, _figures({title: picture}) + probe_section(probe)))
    if days:
        parts.append(section("Whole days as the model sees them", _figures(days)))
    if training:
        parts.append(section("Training", _figures(training)))
    if store:
        parts.append(section("The data", cohort_section(describe(store))))
    parts.append(section("Settings", settings_section(config)))
    return document(f"{TITLE}: {printable(run.path.resolve().name)}", parts)


def _headline(evaluation: Evaluation | None) -> list[str]:
    if evaluation is None:
        return ["Not evaluated yet: `lsm2 evaluate RUN --data STORE` adds the numbers."]
    lines = headline(evaluation) or ["The evaluation scored none of the tasks that are summed up here."]
    if evaluation.constant_signals:
        names = ", ".join(spelled_out(name) for name in evaluation.constant_signals)
        lines.append(f"Not scored, as they never vary in the training data: {names}.")
    return lines


def _facts(run: RunFolder, evaluation: Evaluation | None, store: DayStore | None) -> list[tuple[str, str]]:
    """What the page is about, when it was made, with which data, machine and versions."""
    config, model, metrics = run.config, run.config["model"], run.metrics
    trained = f"{len(config['train_subjects'])} people, {len(config['heldout_subjects'])} held out"
    if metrics:
        minutes = metrics[-1].get("seconds", 0) / 60
        trained += f"; {metrics[-1]['step']} steps" + (f" in {minutes:.1f} min" if minutes else "")
    data = str(store.path) if store else config.get("store", {}).get("path", "unknown")
    now = datetime.now().astimezone()
    facts = [
        ("run", str(run.path.resolve())),
        ("data", data),
        (
            "model",
            f"encoder {model['encoder_width']} wide and {model['encoder_depth']} deep, decoder "
            f"{model['decoder']}",
        ),
        ("trained on", trained),
    ]
    if evaluation:
        settings = evaluation.settings
        facts.append(
            (
                "evaluated",
                f"{_minute(datetime.fromisoformat(settings.made))} on {settings.machine}, in "
                f"{settings.precision}, with {settings.versions}",
            )
        )
    here = describe_machine(torch.device("cpu"))
    facts.append(("page made", f"{_minute(now)} on {here}, with {describe_versions()}"))
    return [(term, printable(meaning)) for term, meaning in facts]


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M %z}"


def _figures(figures: Figures) -> str:
    return "".join(figure(caption, path.read_bytes()) for caption, path in figures.items())


def _error_figures(run: RunFolder, evaluation: Evaluation | None) -> Figures:
    figures = {}
    if evaluation and evaluation.scored:
        path = figures["Error of every method on every task"] = run.path / "task_errors.png"
        plot_task_errors(path, evaluation)
        if any(task.minutes for task in evaluation.scored.values()):
            path = figures["Error by length of the gap, and of the forecast"] = run.path / "gap_error.png"
            plot_gap_error(path, evaluation)
    return figures


def _training_figures(run: RunFolder) -> Figures:
    figures = {}
    if any(line.get("loss") is not None for line in run.metrics):
        path = figures["Training loss"] = run.path / "loss.png"
        plot_loss(path, run.metrics)
    return figures


def _probe_figures(run: RunFolder) -> list[tuple[ProbeResult, Path]]:
    drawn = []
    for number, result in enumerate(read_probes(run)):
        path = run.path / f"probe-{number}.png"
        plot_probe(path, result)
        drawn.append((result, path))
    return drawn


def _day_figures(run: RunFolder, store: DayStore) -> tuple[Figures, Figures]:
    """One signal, and all, of the fullest of some days of held-out people (of anyone, where none is)."""
    model = trained_model(run)
    fitting_normalization(model, store)
    day_ids, subjects = store.days["day_id"].to_pylist(), store.days["subject"].to_pylist()
    candidates = spread_over_people(
        unseen_days(run, store) or range(len(store)), day_ids, subjects, CANDIDATE_DAYS
    )
    fullest = max(candidates, key=lambda index: np.isfinite(store.values(index)).sum())
    day_id = day_ids[fullest]
    reconstructed: dict[str, ReconstructedDay] = {}
    for task in DAY_TASKS:
        day = reconstruct_day(model, store, day_id, task)
        if day is not None:
            reconstructed[task] = day
    curves, days = {}, {}
    with_curve = [reconstructed[task] for task in CURVE_TASKS if task in reconstructed]
    if with_curve:
        signal = _signal_to_show(with_curve[0])
        name = spelled_out(store.signals[signal].name)
        caption = f"A day of a person: {name}, what was hidden from the model, and what it filled in"
        path = curves[caption] = run.path / "curve.png"
        plot_curves(path, with_curve, signal)
    for task, day in reconstructed.items():
        path = days[f"{printable(day_id)}: {TASKS[task].phrase}"] = day_picture(run, day_id, task)
        plot_day(path, day)
    return curves, days


def _signal_to_show(day: ReconstructedDay) -> int:
    """A heart rate, which most people can read, if much of it was measured; else what was measured most."""
    measured = (~np.isnan(day.measured)).sum(axis=1)
    rates = [
        n for n, signal in enumerate(day.signals) if signal.unit == "bpm" and measured[n] > measured.max() / 2
    ]
    return rates[0] if rates else int(measured.argmax())
