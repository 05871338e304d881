"""Probes on the page: sentences, the best mark, chance, and names of any kind."""

import dataclasses

import pytest
from matplotlib.figure import Figure

from lsm2.evaluate.probes.labelled_run import write_probe
from lsm2.evaluate.probes.results import MethodNote, ProbeResult, ProbeSettings, Score
from lsm2.report.page import write_report
from lsm2.report.probes import _draw_scores, plot_probe, probe_section, show_probe, verdict, whom


def score(mean, half=0.05):
    return Score(mean, mean - half, mean + half)


@pytest.fixture
def result():
    """A binary label on which the model is above noise, below the summary, and alike covariates."""
    means = {"aim": 0.8, "noise": 0.5, "summary": 0.9, "covariates": 0.79}
    metrics = ("auroc", "auprc", "f1", "balanced_accuracy")
    return ProbeResult(
        target="high_pressure",
        kind="binary",
        level="day",
        classes=("no", "yes"),
        num_people=1234,
        num_labelled=5678,
        num_people_seen=0,
        left_out={"label missing": 3},
        methods={name: dict.fromkeys(metrics, score(mean)) for name, mean in means.items()},
        aim_minus={
            name: dict.fromkeys(metrics, score(0.8 - mean)) for name, mean in means.items() if name != "aim"
        },
        shown_as={
            name: MethodNote("AIM" if name == "aim" else name, "#123456", f"About {name}.") for name in means
        },
        settings=ProbeSettings(
            "mean", 50, 5, 3, 0, "labels.csv", "store", "a machine", "lsm2 0", "2026-11-24T12:00:00+00:00"
        ),
    )


def test_the_verdict_names_the_best_and_what_differs(result):
    assert verdict(result) == [
        "high pressure: best AUROC by summary, AIM 0.8, noise 0.5, summary 0.9, covariates 0.79",
        "AIM's AUROC is above that of noise.",
        "AIM's AUROC is below that of summary.",
        "AIM is not told apart from covariates on these people.",
    ]


def test_it_says_of_whom(result):
    assert whom(result) == (
        "5,678 days of 1234 people, none of them seen in pre-training; 3 left out: label missing"
    )
    assert "pre-training saw the days of 7 of them, and no label" in whom(
        dataclasses.replace(result, num_people_seen=7)
    )


def test_the_best_is_marked_in_the_table_and_in_the_terminal(result, capsys):
    section = probe_section(result)
    assert section.count('<td class="best">0.900 [0.850, 0.950]</td>') == 4
    assert section.count('class="best"') == 4
    assert "<td>+0.300 [+0.250, +0.350]</td>" in section
    show_probe(result)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "0.950]*" in line] == [line for line in lines if "summary" in line]


def test_equal_bests_are_all_marked_and_what_is_undefined_is_said(result):
    methods = result.methods | {
        "noise": dict.fromkeys(result.methods["aim"], Score(None, None, None)),
        "aim": result.methods["summary"],
    }
    differences = result.aim_minus | {"noise": methods["noise"]}
    equal = dataclasses.replace(result, methods=methods, aim_minus=differences)
    section = probe_section(equal)
    assert section.count('class="best"') == 8 and section.count("<td>undefined</td>") == 5
    assert "best AUROC by AIM and summary" in verdict(equal)[0]


@pytest.mark.parametrize(
    ("metric", "classes", "chance"),
    [
        ("auroc", ("no", "yes"), 0.5),
        ("balanced_accuracy", ("a", "b", "c", "d"), 0.25),
        ("r", (), 0.0),
        ("mae", (), None),
        ("auprc", ("no", "yes"), None),
    ],
)
def test_chance_is_a_line_where_it_is_a_constant(result, metric, classes, chance):
    scores = {name: {metric: score(0.7)} for name in result.methods}
    axes = Figure().subplots()
    _draw_scores(axes, dataclasses.replace(result, methods=scores, classes=classes), metric, named=True)
    dotted = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert dotted == ([] if chance is None else [chance])


def test_fewer_labels_are_drawn(tmp_path, result):
    fewer = dict.fromkeys(("10", "50"), result.methods)
    plain, curves = tmp_path / "plain.png", tmp_path / "curves.png"
    plot_probe(plain, result)
    plot_probe(curves, dataclasses.replace(result, label_fractions=fewer))
    assert plain.stat().st_size < curves.stat().st_size


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", [r"$\frac{$", "[/b]\x1b[31m", "<script>", "a\udcffb", "x" * 300])
def test_a_page_takes_every_name(run, result, name, capsys):
    odd = dataclasses.replace(
        result,
        target=name,
        left_out={f"not where {name}": 1},
        shown_as=result.shown_as | {"noise": MethodNote(name, "#123456", f"Another run, {name}.")},
        label_fractions={"10": result.methods},
        settings=dataclasses.replace(result.settings, where=name, labels=name, covariates=(name,)),
    )
    write_probe(run, odd)
    page = write_report(run, None).read_text()
    assert "What the embeddings know" in page and page.count("<h2>Probe: ") == 1
    assert "<script" not in page and "\x1b" not in page
    show_probe(odd)
    assert "\x1b" not in capsys.readouterr().out
