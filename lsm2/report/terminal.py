"""Tables on the terminal: a store's numbers, an evaluation's."""

from __future__ import annotations

from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from lsm2.data.quality import MISSING_KINDS, Cohort
from lsm2.evaluate.results import Evaluation
from lsm2.progress import PlainConsole

LONGEST_LINE = 1000
"""Columns of a table with however many other runs."""


def show_evaluation(evaluation: Evaluation) -> None:
    """Print tasks x methods; an asterisk and bold type mark the best method that sees one day only."""
    settings = evaluation.settings
    table = Table(
        title=f"mean squared error, normalised; {settings.num_days} days of {settings.num_people} people",
        title_justify="left",
    )
    table.add_column("task", no_wrap=True)
    for method in evaluation.methods.values():
        table.add_column(method.marked_label, justify="right", min_width=len("training"), overflow="fold")
    table.add_column("minutes", justify="right", no_wrap=True)
    for name, task in evaluation.scored.items():
        best = task.best_methods()
        cells = []
        for method in evaluation.methods:
            error = f"{task.methods[method].mse:.3f}"
            cells.append(Text(f"{error}*", "bold") if method in best else f"{error} ")
        table.add_row(name, *cells, f"{task.aim.num_minutes:,}")
    console = PlainConsole()
    # With many other runs the lines are longer than the terminal, rather than their numbers cut.
    console.width = max(
        console.width, Measurement.get(console, console.options.update(width=LONGEST_LINE), table).minimum
    )
    console.print(table)
    console.print(
        "* the best method that sees one day; † sees the person's other days; about 1: the training mean"
    )
    if evaluation.constant_signals:
        names = ", ".join(evaluation.constant_signals)
        console.print(f"not scored, as they never vary in the training data: {names}")
    for name, task in evaluation.tasks.items():
        if task.days_skipped:
            console.print(f"{name}: {task.days_skipped} days left out, which have too little data")


def show_cohort(cohort: Cohort) -> None:
    """Print what `lsm2.data.quality.describe` found."""
    console = PlainConsole()
    low, high = cohort.missing_of_days
    console.print(
        f"{cohort.num_people} people, {cohort.num_days} days, {cohort.num_signals} signals, "
        f"{cohort.samples_per_day} samples a day (every {cohort.sample_minutes} min)"
    )
    console.print(
        f"{cohort.missing:.1%} missing, {low:.1%} to {high:.1%} a day "
        f"(over {cohort.num_days_looked_at} days); of all minutes:"
    )
    for kind, label in MISSING_KINDS.items():
        console.print(f"  {cohort.missing_kinds[kind]:6.1%}  {label}")
    table = Table()
    # Where the terminal is narrow, names break and numbers stay whole.
    table.add_column("signal", overflow="fold")
    table.add_column("unit", no_wrap=True)
    for title in ("missing", "median\ngap (min)", "5 %", "median", "95 %"):
        table.add_column(title, justify="right", no_wrap=True)
    for signal in cohort.per_signal:
        quantiles = [f"{q:.4g}" for q in signal.quantiles] if signal.quantiles else ["never measured", "", ""]
        gap = f"{signal.median_gap_minutes:g}" if signal.median_gap_minutes else "-"
        table.add_row(signal.name, signal.unit, f"{signal.missing:.1%}", gap, *quantiles)
    console.print(table)
