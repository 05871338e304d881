"""The page: it holds what it should, needs nothing from elsewhere, and takes every name."""

import json
import re
from html import escape

import numpy as np
import pytest
import torch

from lsm2.config import LSM2Config
from lsm2.data.normalize import Normalization
from lsm2.data.signals import Signal
from lsm2.data.store import Day, DayStore
from lsm2.errors import InputError
from lsm2.evaluate.methods import METHODS
from lsm2.model.lsm2 import LSM2
from lsm2.report.page import TITLE, day_picture, write_report


def test_page_without_evaluation_and_store_says_so(run):
    page = write_report(run, None).read_text()
    assert "Not evaluated yet" in page and "no day is shown" in page
    assert page.count("<img") == 1


def test_an_evaluation_of_an_older_lsm2_is_refused_with_what_to_do(run, made_up_evaluation):
    older = made_up_evaluation().to_dict() | {"format_version": 1}
    run.evaluation_file.write_text(json.dumps(older))
    with pytest.raises(
        InputError, match=r"evaluation\.json is of an older lsm2; write it anew with `lsm2 evaluate`"
    ):
        write_report(run, None)


@pytest.mark.parametrize("damage", [{"tasks": 3}, {"settings": {}}, {"generative": None}])
def test_an_evaluation_that_is_none_is_refused_with_what_to_do(run, made_up_evaluation, damage):
    run.evaluation_file.write_text(json.dumps(made_up_evaluation().to_dict() | damage))
    with pytest.raises(InputError, match=r"evaluation\.json does not hold an evaluation .*; write it anew"):
        write_report(run, None)


def test_page_is_self_contained_and_shows_the_numbers(run, made_up_evaluation):
    run.evaluation_file.write_text(json.dumps(made_up_evaluation().to_dict()))
    page = write_report(run, None).read_text()
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r"(src|href)=[\"'](?!data:)|<script|@import|url\(", page)
    labels = [method.marked_label for method in METHODS.values()]
    assert all(escape(label) in page for label in (*labels, "random 80 %", "gap 180 min"))
    assert all(escape(method.note) in page for method in METHODS.values())
    assert '<td class="best">1.000</td>' in page
    assert "prefers-color-scheme: dark" in page
    assert not list(run.path.glob(".*.part"))


def test_page_says_what_it_is_when_and_with_what_it_was_made(run, made_up_evaluation):
    run.evaluation_file.write_text(json.dumps(made_up_evaluation().to_dict()))
    page = write_report(run, None).read_text()
    assert f"<title>{TITLE}" in page and f"<h1>{TITLE}</h1>" in page
    for said in (
        "a machine, 2 cores",
        "2026-11-24 12:00",
        "lsm2-kernels",
        "torch",
        "page made",
        "held-out people",
    ):
        assert said in page


def test_errors_stand_in_the_signals_unit(run, made_up_evaluation):
    run.evaluation_file.write_text(json.dumps(made_up_evaluation().to_dict()))
    page = write_report(run, None).read_text()
    assert "<td>heart rate</td><td>bpm</td><td>2</td>" in page


def test_pictures_of_days_have_names_that_file_systems_take(run):
    assert day_picture(run, "ann/2026-01-01", "random_80").name == "day-ann_2026-01-01-random_80.png"
    long = [day_picture(run, 250 * letter + "/2026-01-01", "temporal_interpolation_180") for letter in "ab心"]
    assert all(len(path.name.encode()) < 255 for path in long) and len(set(long)) == 3


@pytest.mark.filterwarnings("ignore:Glyph")
def test_a_report_takes_every_name(run, made_up_evaluation):
    """Signals and people whose names are formulas, markup or escape sequences, one of 250 letters."""
    names = (r"$\frac{$", "hr [bpm]", "a[/b]\x1b[31m", "<b>")
    rng = np.random.default_rng(0)
    days = [
        Day(person, "2026-01-01", rng.normal(size=(4, 120)).astype(np.float32))
        for person in ("p" * 250, r"$\frac{$[/b]")
    ]
    signals = [Signal(name, name) for name in names]
    store = DayStore.write(run.path.parent / f"{run.path.name}-store", signals, days)
    torch.manual_seed(0)
    config = LSM2Config(
        num_signals=4,
        window_minutes=120,
        encoder_width=32,
        encoder_depth=1,
        encoder_heads=2,
        decoder_width=16,
        decoder_depth=1,
        decoder_heads=1,
    )
    LSM2(config, Normalization.from_moments(store.signals, store.moments_of(store.subjects))).save_pretrained(
        run.model_folder
    )
    run.evaluation_file.write_text(json.dumps(made_up_evaluation(signal=names[0], unit=names[1]).to_dict()))
    page = write_report(run, store).read_text()
    assert page.count("data:image/png;base64,") == 6
    assert "<b>" not in page and "\x1b" not in page and escape(r"$\frac{$") in page
