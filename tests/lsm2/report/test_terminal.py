"""Tables on the terminal take every name as it is."""

import dataclasses

import numpy as np
import pytest

from lsm2.data.quality import describe
from lsm2.data.signals import Signal
from lsm2.data.store import Day, DayStore
from lsm2.evaluate.methods import name_runs
from lsm2.report.terminal import show_cohort, show_evaluation

NAMES = (r"$\frac{$", "hr [bpm]", "a[/b]", "\x1b[31mred", "skin_temp")


def test_info_shows_names_as_they_are_and_no_control_characters(tmp_path, capsys):
    signals = [Signal(name, name) for name in NAMES]
    days = [Day("ann", "2026-01-01", np.ones((len(NAMES), 1440), dtype=np.float32))]
    show_cohort(describe(DayStore.write(tmp_path / "store", signals, days)))
    said = capsys.readouterr().out
    assert all(said.count(name) == 2 for name in NAMES if name.isprintable())
    assert "\x1b" not in said and "\N{REPLACEMENT CHARACTER}[31mred" in said


@pytest.mark.parametrize("name", NAMES)
def test_constant_signals_are_named(made_up_evaluation, capsys, name):
    show_evaluation(dataclasses.replace(made_up_evaluation(), constant_signals=(name,)))
    said = capsys.readouterr().out
    assert "not scored, as they never vary in the training data" in said and "\x1b" not in said
    assert name in said or not name.isprintable()


def test_the_best_of_each_task_is_marked_and_who_sees_more(made_up_evaluation, capsys):
    show_evaluation(made_up_evaluation({"smooth": 0.123, "person_time_of_day": 0.1}))
    said = capsys.readouterr().out
    assert said.count("0.123*") == 14 and "0.100*" not in said and "†" in said


def test_other_runs_have_a_column_and_no_number_is_cut(made_up_evaluation, capsys):
    others = name_runs([(f"runs/{number}", "none") for number in range(8)])
    show_evaluation(made_up_evaluation({others[7].name: 0.321}, other_runs=tuple(others)))
    said = capsys.readouterr().out
    assert said.count("0.321*") == said.count("1,234") == 14 and "…" not in said
