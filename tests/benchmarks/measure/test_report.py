"""`python -m benchmarks.measure.report`: all results on one page, with what ours loses and what did not run; the README's tables are up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="figures need matplotlib")

from benchmarks import pages as readme_tables
from benchmarks.measure import report
from benchmarks.measure.figures import draw_rooflines
from benchmarks.measure.results import Race, find_results, write_results

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
MACHINE = {"cpu_model": "some processor", "torch": "2.13", "gpu": None}


def test_committed_results_make_one_self_contained_page(tmp_path, monkeypatch, capsys):
    out = tmp_path / "report.html"
    monkeypatch.setattr("sys.argv", ["report", str(RESULTS), "--out", str(out)])
    report.main()
    page = out.read_text()
    assert capsys.readouterr().out.strip() == str(out)
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert {"Attention", "Training step", "Files"} <= set(headings)
    assert page.count("data:image/png;base64,") >= 3
    assert "AMD EPYC" in page
    assert not re.search(r"(src|href)=.?https?:", page) and "<script" not in page


def test_losses_and_failures_are_shown(tmp_path):
    ways = {
        "ours": {"median_seconds": 0.002, "ratio_to_ours": 1.0},
        "winner": {"median_seconds": 0.001, "ratio_to_ours": 0.5},
        "loser": {"median_seconds": 0.006, "ratio_to_ours": 3.0},
        "flex": {"error": "RuntimeError: <no kernel>"},
    }
    write_results(tmp_path / "suite.json", [Race("packing", "pack-128", {}, ways, laps=[0.002])], machine=MACHINE)
    page = report.render(find_results([tmp_path]))
    assert "1 of 2 above 1 (ours is faster), 1 below" in page
    assert "flex, pack-128: RuntimeError: &lt;no kernel&gt;" in page
    assert "some processor, torch 2.13" in page and "<td>1 ms (0.50x)</td>" in page


def test_of_several_runs_the_median_counts(tmp_path):
    for number, ratio in enumerate((1.0, 9.0, 2.0)):
        ways = {"ours": {"median_seconds": 1.0, "ratio_to_ours": 1.0}, "peer": {"median_seconds": ratio, "ratio_to_ours": ratio}}
        write_results(tmp_path / f"run{number}.json", [Race("packing", "pack-128", {}, ways, laps=[1.0])], machine=MACHINE)
    assert "<td>2000 ms (2.00x)</td>" in report.render(find_results([tmp_path]))


def speed_race(suite: str, params: dict, flops: float, intensity: float) -> Race:
    ways = {"ours": {"median_seconds": 1.0, "ratio_to_ours": 1.0}, "peer": {"median_seconds": 2.0, "ratio_to_ours": 2.0}}
    ceilings = {"flops_per_second": 4e11, "bytes_per_second": 2e10}
    extra = {"dtype": "bfloat16", "useful_flops": flops, "useful_bytes": flops / intensity, "ceilings": ceilings}
    return Race(suite, "-".join(map(str, params.values())), params, ways, extra, [1.0])


def test_speed_is_drawn_against_every_axis_and_under_the_roofline(tmp_path):
    races = [
        *(speed_race("attention_shapes", {"axis": "length", "value": n, "direction": "forward"}, n * 1e8, n / 2) for n in (64, 1024)),
        *(speed_race("masked_attention", {"missing": m, "direction": "forward+backward"}, 1e11 / m, 100 / m) for m in (5, 50)),
    ]
    write_results(tmp_path / "shapes.json", races, machine=MACHINE)
    page = report.render(find_results([tmp_path]))
    for text in ("Roofline", "Speed by tokens in a sequence", "Speed by percent of a day&#x27;s 3744 tokens missing"):
        assert text in page, text


def test_the_pages_have_the_tables_of_the_committed_results():
    texts = [page.read_text(encoding="utf-8") for page in readme_tables.PAGES]
    names = re.findall("<!-- table: (.*?) -->", "".join(texts))
    assert sorted(names) == sorted(readme_tables.TABLES)
    for text in texts:
        assert readme_tables.fill(text) == text, "run `python -m benchmarks.measure.report --readme`"


def test_a_roofline_needs_both_ceilings_from_any_race():
    products_alone = speed_race("attention_gpu", {"pattern": "aim", "direction": "forward"}, 1e11, 100)
    del products_alone.extra["ceilings"]["bytes_per_second"]
    both = speed_race("attention_shapes", {"axis": "length", "value": 64, "direction": "forward"}, 1e10, 32)
    assert list(draw_rooflines([products_alone])) == []
    ((dtype, picture),) = draw_rooflines([products_alone, both])
    assert dtype == "bfloat16" and picture.startswith(b"\x89PNG") and picture != next(iter(draw_rooflines([both])))[1]
